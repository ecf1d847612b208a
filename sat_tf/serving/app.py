"""The server: TensorFlow Serving's REST contract on Starlette.

GET  /v1/models/NAME[/versions/V][/metadata]     status, or metadata
POST /v1/models/NAME[/versions/V]:predict        row or columnar JSON
GET  /healthz, /readyz                           alive? able to answer?
GET  /monitoring/prometheus/metrics
GET  /                                           the page
"""

import asyncio
import contextlib
import logging
import re

import anyio
import prometheus_client
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sat_tf.images import MAX_PIXELS
from sat_tf.serving import observing, page, protocol
from sat_tf.serving.protocol import RequestError

MAX_BODY = 32 * 2**20  # bytes of one request
_MAX_PENDING = 256 * 2**20  # bytes of all the requests being answered
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
_log = logging.getLogger(__name__)


class Api:
    """The handlers over a `Repository`, within limits of bytes and pixels."""

    def __init__(self, repository, max_body, max_pixels):
        """Keep the arguments; `max_body` in bytes, `max_pixels` per image."""
        self.repository = repository
        self.max_body, self.max_pixels = max_body, max_pixels
        self._pending = 0

    async def api(self, request):
        """Answer /v1/models..., and whatever no other route knows, as JSON."""
        try:
            path = request.url.path
            if not path.lower().startswith("/v1"):
                raise RequestError(f"Nothing at {path}. The API is at /v1/models.", 404)
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
                return await asyncio.to_thread(self._metadata, name, version)
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
        size = min(_content_length(request, self.max_body), self.max_body)
        if self._pending and self._pending + size > _MAX_PENDING:
            raise RequestError("The server is busy. Try again in a moment.", 503)
        self._pending += size
        try:
            body = await _read(request, self.max_body)
            return await self._predict(name, version, body)
        finally:
            self._pending -= size

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
            signatures = servable.signature_def()
            version = str(servable.version)
        spec = {"name": name, "signature_name": "", "version": version}
        metadata = {"signature_def": {"signature_def": signatures}}
        return JSONResponse({"model_spec": spec, "metadata": metadata})

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


def create_app(repository, *, max_body=MAX_BODY, max_pixels=MAX_PIXELS):
    """Build the ASGI application over a `Repository` of loaded models."""
    handlers = Api(repository, max_body, max_pixels)
    return Starlette(
        routes=[
            Route("/healthz", handlers.alive),
            Route("/readyz", handlers.ready),
            Route("/monitoring/prometheus/metrics", handlers.prometheus),
            *page.routes(repository),
            Route("/{path:path}", handlers.api, methods=_METHODS),
        ],
        middleware=[Middleware(observing.Observer, label=handlers.label)],
    )


def _error(error):
    headers = {"retry-after": "1"} if error.status in (429, 503) else None
    content = protocol.encode_error(error.message)
    return Response(content, error.status, headers, media_type="application/json")


def _match(method, path):
    return _PATHS[method].fullmatch(path) if method in _PATHS else None


def _version(match):
    """Read the version that a path asks for; None for the newest."""
    if match["label"]:
        raise RequestError(
            f"Unrecognized servable version label: {match['label']}. "
            "Ask for /versions/N, or leave it out for the newest."
        )
    if len(match["version"] or "") > 18:
        raise RequestError(
            f"Failed to convert version: {match['version'][:40]} to numeric. "
            "Versions are whole numbers of at most 18 digits."
        )
    return int(match["version"]) if match["version"] else None


def _content_length(request, default):
    """Bytes that the request promises; `default` when it streams without saying."""
    return int(request.headers.get("content-length", default))


async def _read(request, max_body):
    """Read a request's body (bytes), or raise RequestError and keep nothing.

    Somewhat too long a body is read to its end, so that the client is listening when
    the answer comes; a hopeless one is not.
    """
    chunks, size = [], 0
    with contextlib.suppress(TimeoutError):
        with anyio.fail_after(_BODY_SECONDS):
            if _content_length(request, 0) <= 4 * max_body:
                async for chunk in request.stream():
                    size += len(chunk)
                    if size > max_body:
                        chunks.clear()
                    else:
                        chunks.append(chunk)
                    if size > 4 * max_body:
                        break
                if size <= max_body:
                    return b"".join(chunks)
            raise RequestError(
                f"Expected a body of at most {max_body} bytes. Received: "
                f"{max(size, _content_length(request, 0))} bytes or more. "
                "Scale the images down, or send fewer per request.",
                status=413,
            )
    raise RequestError(
        f"Expected the whole body within {_BODY_SECONDS} seconds. "
        "Send it again over a better connection, or send smaller images.",
        status=408,
    )
