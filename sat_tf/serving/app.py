"""The server: TensorFlow Serving's REST contract on Starlette.

GET  /v1/models/NAME[/versions/V][/metadata]     status, or metadata
POST /v1/models/NAME[/versions/V]:predict        row or columnar JSON, gzip or not
OPTIONS /v1/...                                  200 for a browser that asks
GET  /healthz, /readyz                           alive? able to answer?
GET  /monitoring/prometheus/metrics
GET  /                                           the page
"""

import asyncio
import contextlib
import logging
import re
import zlib

import prometheus_client
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sat_tf.images import MAX_PIXELS
from sat_tf.serving import observing, page, protocol
from sat_tf.serving.protocol import RequestError
from sat_tf.serving.repository import MAX_VERSION

MAX_BODY = 32 * 2**20  # bytes of one request
_MAX_PENDING = 256 * 2**20  # bytes of all the requests being answered
_UNPACKINGS = 4  # bodies at a time, since nobody knows how large they become
_LONG_BODY = 2**20  # bytes; parsing more would keep the other requests waiting
_BODY_SECONDS = 60

# The paths of TensorFlow Serving's http_rest_api_util.cc.
_MODEL = r"(?i:/v1/models)/(?P<name>[^/:]+)"
_VERSION = r"(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_PATHS = {
    "POST": re.compile(_MODEL + _VERSION + r":(?P<method>classify|regress|predict)"),
    "GET": re.compile(_MODEL + _VERSION + r"(?:/(?P<method>metadata))?"),
}
_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
# AddCORSHeaders of the same file.
_CORS = {
    "access-control-allow-origin": "*",
    "access-control-allow-methods": "POST, GET",
    "access-control-allow-headers": "Content-Type",
}
_ERROR_HEADERS = {
    415: {"accept-encoding": "gzip"},
    429: {"retry-after": "1"},
    503: {"retry-after": "1"},
}
_log = logging.getLogger(__name__)


class Api:
    """The handlers over a `Repository`, within limits of bytes and pixels."""

    def __init__(self, repository, max_body, max_pixels, cors):
        """Keep the arguments; `max_body` in bytes, `max_pixels` per image."""
        self.repository = repository
        self.max_body, self.max_pixels, self.cors = max_body, max_pixels, cors
        self._pending = 0
        self._unpacking = asyncio.Semaphore(_UNPACKINGS)

    async def api(self, request):
        """Answer /v1/models..., and whatever no other route knows, as JSON."""
        response = await self._answer(request)
        if self.cors:
            response.headers.update(_CORS)
        return response

    async def _answer(self, request):
        try:
            path = request.url.path
            if not path.lower().startswith("/v1"):
                raise RequestError(
                    "Expected a path under /v1/models, or GET with one of the page's, "
                    "of /healthz, of /readyz or of the metrics. "
                    f"Received: {request.method} {path}. "
                    "Check the method and the address.",
                    404,
                )
            if request.method == "OPTIONS":
                return _preflight(request)
            match = _match(request.method, request.scope["path"])
            if not match:
                raise RequestError(
                    f"Malformed request: {request.method} {request.url.path}. Expected "
                    "GET /v1/models/NAME, GET /v1/models/NAME/metadata or "
                    "POST /v1/models/NAME:predict."
                )
            name, version, method = match["name"], _version(match), match["method"]
            if request.method == "POST":
                return await self._post(request, name, version, method)
            if method == "metadata":
                return self._metadata(name, version)
            states = self.repository.status(name, version)
            return JSONResponse({"model_version_status": states})
        except RequestError as error:
            return _error(error)
        except ClientDisconnect:
            return Response(status_code=499)  # nobody is left to read it
        except Exception:
            _log.exception("%s %s failed", request.method, request.url.path)
            return _error(RequestError("The server failed; its log says how.", 500))

    async def _post(self, request, name, version, method):
        """Read a body within bounds and let a worker thread answer it."""
        if method != "predict":
            raise RequestError(
                f"Expected the method 'predict'. Received: method={method}. "
                "Captioners have no classify or regress signature."
            )
        with self._room() as take:
            body = await _read(request, self.max_body, take)
            if not _is_gzipped(request):
                return await self._predict(name, version, body)
            async with self._unpacking:
                body = await asyncio.to_thread(_unpack, body, self.max_body)
            if not take(len(body)):
                raise _busy()
            return await self._predict(name, version, body)

    @contextlib.contextmanager
    def _room(self):
        """Lend a function that counts bytes of this request among those of all.

        It gives False, and counts nothing, where there are too many; a request alone
        may have as many as it likes.
        """
        held = 0

        def take(size):
            nonlocal held
            fits = self._pending == held or self._pending + size <= _MAX_PENDING
            if fits:
                held += size
                self._pending += size
            return fits

        try:
            yield take
        finally:
            self._pending -= held

    async def _predict(self, name, version, body):
        with self.repository.use(name, version) as servable:
            if len(body) > _LONG_BODY:
                call = await asyncio.to_thread(protocol.parse, body, servable.inputs)
            else:
                call = protocol.parse(body, servable.inputs)
            outputs = await servable.predict(call, self.max_pixels)
        content = protocol.encode(outputs, call.row)
        return Response(content, media_type="application/json")

    def _metadata(self, name, version):
        with self.repository.use(name, version) as servable:
            signatures, version = servable.signature_def, str(servable.version)
        spec = {"name": name, "signature_name": "", "version": version}
        metadata = {"signature_def": {"signature_def": signatures}}
        return JSONResponse({"model_spec": spec, "metadata": metadata})

    async def wrong_method(self, request, error):
        """Refuse a method that no route knows, as JSON."""
        return await self.api(request)

    async def alive(self, request):
        """Answer 200 for as long as the process answers at all."""
        return JSONResponse({"alive": True})

    async def ready(self, request):
        """Answer 200 when every model in the folder is loaded, else 503."""
        ready = await asyncio.to_thread(self.repository.ready)
        served = [f"{s.name}/{s.version}" for s in self.repository.loaded()]
        return JSONResponse({"ready": ready, "models": served}, 200 if ready else 503)

    async def prometheus(self, request):
        """Answer with the metrics."""
        return Response(
            prometheus_client.generate_latest(), media_type="text/plain; version=0.0.4"
        )

    def label(self, method, path):
        """Name a request for the metrics: (model, method), from a bounded set."""
        match = _match(method, path)
        known = {servable.name for servable in self.repository.loaded()}
        if match and match["name"] in known:
            return match["name"], match["method"] or "status"
        return "", "page" if path == "/" or path.startswith("/page/") else "other"


def create_app(repository, *, max_body=MAX_BODY, max_pixels=MAX_PIXELS, cors=False):
    """Build the ASGI application over a `Repository` of loaded models.

    Args:
        repository: a `Repository`.
        max_body: bytes that a request may have, unpacked too; more is refused with 413.
        max_pixels: pixels that an image may have, refused before it is decoded.
        cors: whether scripts of other sites may read the answers of /v1.
    """
    handlers = Api(repository, max_body, max_pixels, cors)
    return Starlette(
        routes=[
            Route("/healthz", handlers.alive),
            Route("/readyz", handlers.ready),
            Route("/monitoring/prometheus/metrics", handlers.prometheus),
            *page.routes(repository),
            Route("/{path:path}", handlers.api, methods=_METHODS),
        ],
        exception_handlers={405: handlers.wrong_method},
        middleware=[Middleware(observing.Observer, label=handlers.label)],
    )


def _error(error):
    content = protocol.encode_error(error.message)
    headers = _ERROR_HEADERS.get(error.status)
    return Response(content, error.status, headers, media_type="application/json")


def _preflight(request):
    """Answer OPTIONS, which a browser sends before it lets a script POST."""
    origin = request.headers.get("origin", "")
    if not re.search("https?://", origin):
        raise RequestError(
            "Expected the Origin header in a CORS preflight, as a browser sends it. "
            f"Received: OPTIONS {request.url.path} with Origin: {origin or 'none'}. "
            "Send it, or GET or POST at once."
        )
    return Response()


def _match(method, path):
    return _PATHS[method].fullmatch(path) if method in _PATHS else None


def _version(match):
    """Read the version that a path asks for; None for the newest."""
    if match["label"]:
        raise RequestError(
            f"Unrecognized servable version label: {match['label']}. "
            "Ask for /versions/N, or leave it out for the newest."
        )
    if match["version"] is None:
        return None
    digits = match["version"].lstrip("0") or "0"
    # Python reads no number of more than 4300 digits.
    if len(digits) > len(str(MAX_VERSION)) or int(digits) > MAX_VERSION:
        raise RequestError(
            f"Failed to convert version: {match['version'][:40]} to numeric. "
            f"Versions are whole numbers of at most {MAX_VERSION}."
        )
    return int(digits)


def _content_length(request):
    """Bytes that the request promises; 0 when it streams without saying."""
    return int(request.headers.get("content-length", 0))


def _busy():
    return RequestError("The server is busy. Try again in a moment.", 503)


def _is_gzipped(request):
    """Tell whether a body is packed; RequestError where not with gzip, and once."""
    header = ",".join(request.headers.getlist("content-encoding"))
    codings = [coding.strip().lower() for coding in header.split(",")]
    codings = [coding for coding in codings if coding not in ("", "identity")]
    if codings in ([], ["gzip"], ["x-gzip"]):
        return bool(codings)
    raise RequestError(
        "Expected a body as it is, or packed once with gzip. "
        f"Received: Content-Encoding: {header[:100]}. "
        "Send 'Content-Encoding: gzip', or unpack the body and leave the header out.",
        status=415,
    )


def _unpack(body, max_body):
    """Unpack gzip (bytes to bytes) no further than `max_body`, or raise RequestError.

    A megabyte may unpack to a thousand.
    """
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)  # gzip, and its checksum
    try:
        unpacked = unpacker.decompress(body, max_body + 1)
        problem = "it breaks off" if not unpacker.eof else ""
        problem = "bytes follow its end" if unpacker.unused_data else problem
    except zlib.error as error:
        unpacked, problem = b"", str(error)
    if len(unpacked) > max_body:
        raise RequestError(
            f"Expected a body of at most {max_body} bytes. Received: more than that "
            f"in {len(body)} bytes of gzip. "
            "Scale the images down, or send fewer per request.",
            status=413,
        )
    if problem:
        raise RequestError(
            "Expected a body packed with gzip, as its Content-Encoding says. "
            f"Received: {len(body)} bytes that begin with {body[:12]!r} ({problem}). "
            "Pack all of it once, or leave the header out."
        )
    return unpacked


async def _read(request, max_body, take):
    """Read a request's body (bytes), or raise RequestError and keep nothing.

    A body that is somewhat too long, or for which there is no room, is read to its
    end, so that the client is listening when the answer comes; a hopeless one is not.
    `take(size)` counts bytes as they come, and tells whether there is room for them.
    """
    chunks, size, fits = [], 0, True
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_BODY_SECONDS):
            if _content_length(request) <= 4 * max_body:
                async for chunk in request.stream():
                    size += len(chunk)
                    fits = fits and size <= max_body and take(len(chunk))
                    if fits:
                        chunks.append(chunk)
                    else:
                        take(-sum(map(len, chunks)))
                        chunks.clear()
                    if size > 4 * max_body:
                        break
                if fits:
                    return b"".join(chunks)
                if size <= max_body:
                    raise _busy()
            raise RequestError(
                f"Expected a body of at most {max_body} bytes. Received: "
                f"{max(size, _content_length(request))} bytes or more. "
                "Scale the images down, or send fewer per request.",
                status=413,
            )
    raise RequestError(
        f"Expected the whole body within {_BODY_SECONDS} seconds. "
        "Send it again over a better connection, or send smaller images.",
        status=408,
    )
