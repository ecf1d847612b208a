"""A client for TensorFlow Serving and for `sat-tf serve`; the standard library only."""

import base64
import collections.abc
import dataclasses
import http.client
import io
import json
import os
import pathlib
import random
import time
import urllib.error
import urllib.parse
import urllib.request

_RETRIED = (429, 502, 503)  # the server says: not now
_BAD_IMAGES = (400, 413)  # the server says: not these, or not so many bytes
_IMAGES_PER_REQUEST = 32
_BYTES_PER_REQUEST = 24 * 2**20  # encoded; `sat-tf serve` takes 32 MiB
_LONGEST_WAIT = 2.0  # seconds between two tries, if the server asks for no more


class ServingError(Exception):
    """The server refused or failed; `status` is its HTTP status, or None."""

    def __init__(self, message, status=None):
        """Keep the server's sentence and status."""
        super().__init__(message)
        self.status = status


@dataclasses.dataclass(frozen=True)
class Caption:
    """What the model says of one image; the fields of the SavedModel's outputs.

    `words` are cut at the end of the caption, and with them `locations` (index of the
    grid cell, row-major), `alpha` (`[words][h][w]`) and `log_p_word`. `error` says why
    there is no caption. `beams` are (caption, score), best first, where asked for.
    """

    caption: str
    score: float
    words: list[str]
    locations: list[int]
    alpha: list[list[list[float]]]
    log_p_word: list[float]
    error: str = ""
    beams: list[tuple[str, float]] = dataclasses.field(default_factory=list)

    def __str__(self):
        """Give the caption."""
        return self.caption


class Client:
    """Asks a server for captions: `Client(url).caption("photo.jpg")`.

    Args:
        url: where the server listens, such as "http://127.0.0.1:8501".
        model: its name, `<name>` or `<name>/versions/<number>`. May be left out where
            `sat-tf serve` serves a single model.
        timeout: seconds to wait for an answer.
        retries: how often to ask again when the server cannot be reached, is busy or
            is restarting; the waits double from `backoff` to two seconds.
    """

    def __init__(self, url, model=None, *, timeout=60.0, retries=4, backoff=0.25):
        """Keep the arguments; nothing is sent before the first question."""
        if not url.startswith(("http://", "https://")):
            raise ValueError(
                "Expected a URL that begins with http:// or https://. "
                f"Received: url={url!r}. For example http://127.0.0.1:8501."
            )
        self.url, self.model = url.rstrip("/"), model
        self.timeout, self.retries, self.backoff = timeout, retries, backoff

    def caption(self, images, *, signature_name="serving_default"):
        """Caption an image, or a list of images.

        Args:
            images: a path, the bytes of an encoded image, or several of either: a
                list, a tuple or an iterator, of which no more is held in memory than
                travels together.
            signature_name: `serving_default`, `greedy`, `beam`.

        Returns:
            A `Caption`, or a list of them. In a list, an image that the server refuses
            has an `error` instead of a caption.

        Raises:
            ServingError: the server cannot be reached, or refuses, or no image of
                the call can be read.
        """
        if not _are_several(images):
            rows = self.predict([_encode(images)], signature_name=signature_name)
            captions = [_caption(row) for row in rows]
        else:
            captions = []
            for chunk in _chunks(images):
                captions += self._captions(chunk, signature_name)
        if captions and all(caption.error for caption in captions):
            raise ServingError(captions[0].error, 400)
        return captions if _are_several(images) else captions[0]

    def _captions(self, chunk, signature_name):
        """Caption encoded images; one by one where the server refuses all together."""
        try:
            rows = self.predict(chunk, signature_name=signature_name)
            return [_caption(row) for row in rows]
        except ServingError as error:
            if error.status not in _BAD_IMAGES:
                raise
            if len(chunk) == 1:
                return [Caption("", 0.0, [], [], [], [], error=str(error))]
        captions = [self._captions([image], signature_name) for image in chunk]
        return [caption for (caption,) in captions]

    def predict(self, instances, *, signature_name="serving_default"):
        """Send rows as they are; returns the list of predictions."""
        body = {"signature_name": signature_name, "instances": instances}
        return self._ask(f"{self._path()}:predict", body)["predictions"]

    def status(self):
        """Give the states of the model's versions, as the server lists them."""
        return self._ask(self._path())["model_version_status"]

    def metadata(self):
        """Give the model's signatures, as the server describes them."""
        return self._ask(f"{self._path()}/metadata")["metadata"]

    def _path(self):
        if self.model is None:
            self.model = self._only_model()
        return "/v1/models/" + urllib.parse.quote(self.model)

    def _only_model(self):
        """Ask `sat-tf serve` for its model; TensorFlow Serving has no such list."""
        try:
            models = list(self._ask("/page/models.json"))
        except ServingError as error:
            if error.status is None:
                raise
            models = []
        if len(models) != 1:
            raise ServingError(
                "Expected a server with a single model, or the model's name. "
                f"Received: model=None, models there: {models or 'not listed'}. "
                "Name one: Client(url, model='...')."
            )
        return models[0]

    def _ask(self, path, body=None):
        """Send a request, again where that may help; returns the parsed answer."""
        for attempt in range(self.retries + 1):
            last = attempt == self.retries
            try:
                return self._send(path, body)
            except urllib.error.HTTPError as error:
                if last or error.code not in _RETRIED:
                    raise ServingError(_message(error), error.code) from None
                wait = error.headers.get("retry-after", "")
            except TimeoutError:
                raise ServingError(
                    f"Expected an answer from {self.url} within {self.timeout:g} s. "
                    "Send fewer images per call, or raise `timeout`."
                ) from None
            # OSError also is urllib.error.URLError and a dropped connection. A caption
            # changes nothing on the server, so it is safe to ask for it twice.
            except (OSError, http.client.HTTPException) as error:
                if last:
                    reason = getattr(error, "reason", error)
                    raise ServingError(
                        f"Expected a server at {self.url}. Received: {reason}. "
                        "Start one with `sat-tf serve saved_models`."
                    ) from None
                wait = ""
            delay = min(self.backoff * 2**attempt, _LONGEST_WAIT)
            delay *= random.uniform(0.5, 1.0)
            time.sleep(max(delay, float(wait) if wait.isdecimal() else 0.0))
        return None

    def _send(self, path, body):
        request = urllib.request.Request(
            self.url + path,
            data=None if body is None else json.dumps(body).encode("utf-8"),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=self.timeout) as answer:
            content = answer.read()
        try:
            return json.loads(content)
        except ValueError:
            received = content[:200].decode("utf-8", "replace")
            raise ServingError(
                f"Expected JSON from {self.url}. Received: {received!r}. "
                "Check that `sat-tf serve` or TensorFlow Serving answers there."
            ) from None


def _are_several(images):
    """Tell images from one; a file, which is an iterator of lines, is neither."""
    several = (list, tuple, collections.abc.Iterator)
    return isinstance(images, several) and not isinstance(images, io.IOBase)


def _chunks(images):
    """Encode images as they are asked for, as many together as a request takes."""
    chunk, size = [], 0
    for image in images:
        encoded = _encode(image)
        n_bytes = len(encoded["b64"])
        is_full = len(chunk) == _IMAGES_PER_REQUEST
        if chunk and (is_full or size + n_bytes > _BYTES_PER_REQUEST):
            yield chunk
            chunk, size = [], 0
        chunk.append(encoded)
        size += n_bytes
    if chunk:
        yield chunk


def _encode(image):
    """Turn a path or bytes into `{"b64": ...}`."""
    if isinstance(image, (str, os.PathLike)):
        image = pathlib.Path(image).read_bytes()
    if not isinstance(image, (bytes, bytearray, memoryview)):
        raise TypeError(
            "Expected an image as a path or as encoded bytes, or a list of those. "
            f"Received: {type(image).__name__}. Read or encode it first."
        )
    return {"b64": base64.b64encode(image).decode("ascii")}


def _caption(row):
    """Turn a prediction into a `Caption`, cut at its length."""
    n_words = row["length"]
    beams = zip(row.get("beam_captions", []), row.get("beam_scores", []), strict=True)
    per_word = ("words", "locations", "alpha", "log_p_word")
    return Caption(
        caption=row["caption"],
        score=row["score"],
        error=row.get("error", ""),
        beams=list(beams),
        **{name: row[name][:n_words] for name in per_word},
    )


def _message(error):
    """Find the sentence in an HTTP error."""
    content = error.read()
    try:
        return json.loads(content)["error"]
    except (ValueError, KeyError, TypeError):
        return f"HTTP {error.code}: {content[:200].decode('utf-8', 'replace')}"
