"""`sat-tf serve`: the application under uvicorn, until a signal says stop."""

import contextlib
import os
import pathlib
import signal

import uvicorn

from sat_tf.serving import app, observing
from sat_tf.serving.repository import Repository

_DRAIN_SECONDS = 30


def serve(
    root,
    host="127.0.0.1",
    port=8501,
    *,
    max_body=app.MAX_BODY,
    max_pixels=app.MAX_PIXELS,
    poll_seconds=2.0,
):
    """Serve the SavedModels under `root` over HTTP; returns after SIGTERM or SIGINT.

    Args:
        root: folder of `<name>/<version>/saved_model.pb`, or one `<name>` folder.
        host: address to listen on; the default is reached from this machine alone.
        port: TCP port.
        max_body: bytes that a request may have; more is refused with 413.
        max_pixels: pixels that an image may have, refused before it is decoded.
        poll_seconds: how often to look for new versions.

    Raises:
        ValueError: no model could be loaded.
    """
    # A GPU is taken piece by piece, not whole, unless its owner says otherwise.
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    repository = load(root)
    config = uvicorn.Config(
        app.create_app(repository, max_body=max_body, max_pixels=max_pixels),
        host=host,
        port=port,
        ws="none",  # the contract has no WebSocket
        log_config=observing.LOGGING,
        access_log=False,
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=_DRAIN_SECONDS,
    )
    repository.watch(poll_seconds)
    try:
        with _stopping_is_no_error():
            uvicorn.Server(config).run()
    finally:
        repository.close()


def load(root):
    """Load the newest version of every model under `root` into a `Repository`."""
    repository = Repository(root)
    repository.refresh()
    if not repository.loaded():
        raise ValueError(
            "Expected a folder of SavedModels, <name>/<version>/saved_model.pb. "
            f"Received: root={str(pathlib.Path(root))!r}, where "
            f"{repository.failures() or 'there is none'}. "
            "Export one with `sat-tf export`."
        )
    return repository


@contextlib.contextmanager
def _stopping_is_no_error():
    """Let uvicorn finish the open requests at a signal, and the process end with 0.

    Once it has, uvicorn raises the signal again for the handler that was there before.
    """
    before = {
        number: signal.signal(number, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
