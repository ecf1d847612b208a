"""The page at `/`: three static files, and what they need to know of the models."""

import pathlib

from starlette.responses import FileResponse, JSONResponse
from starlette.routing import Route

FOLDER = pathlib.Path(__file__).parent / "page"
_EXAMPLES = (".jpg", ".jpeg", ".png")
_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; "
    "style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


def routes(repository):
    """Give the page's routes over a `Repository`."""

    async def models(request):
        """List the served models, their signatures and example images."""
        return JSONResponse(
            {
                servable.name: {
                    "version": servable.version,
                    "signatures": servable.signatures,
                    "preprocessing": servable.preprocessing,
                    "examples": sorted(_examples(servable.path)),
                }
                for servable in repository.loaded()
            },
            headers=_HEADERS,
        )

    async def example(request):
        """Send one of the images that `models` lists."""
        for servable in repository.loaded():
            if servable.name == request.path_params["name"]:
                path = _examples(servable.path).get(request.path_params["file"])
                if path:
                    return FileResponse(path, headers=_HEADERS)
        error = "No such example. GET /page/models.json lists them."
        return JSONResponse({"error": error}, 404)

    return [
        Route("/", _static("index.html")),
        Route("/page/app.js", _static("app.js")),
        Route("/page/style.css", _static("style.css")),
        Route("/page/models.json", models),
        Route("/page/examples/{name}/{file}", example),
    ]


def _static(name):
    async def file(request):
        return FileResponse(FOLDER / name, headers=_HEADERS)

    return file


def _examples(version_folder):
    """Find `<root>/<name>/examples/*`: {file name: path}."""
    found = (version_folder.parent / "examples").glob("*")
    return {p.name: p for p in found if _is_example(p)}


def _is_example(path):
    """Tell whether a file can be listed as JSON, asked for and sent."""
    try:
        path.name.encode("utf-8")
        return path.suffix.lower() in _EXAMPLES and path.is_file()
    except (UnicodeEncodeError, OSError):
        return False
