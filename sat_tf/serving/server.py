"""`sat-tf serve`: the application under uvicorn, until a signal says stop."""

import contextlib
import logging
import os
import pathlib
import signal
import socket

import uvicorn

from sat_tf.runtime import cores
from sat_tf.serving import observing, threads

_DRAIN_SECONDS = 30
_log = logging.getLogger(__name__)


def serve(root, host="127.0.0.1", port=8501, *, poll_seconds=2.0, **limits):
    """Serve the SavedModels under `root` over HTTP; returns after SIGTERM or SIGINT.

    The port is taken first: a request that comes while the models load waits for them.

    Args:
        root: folder of `<name>/<version>/saved_model.pb`, or one `<name>` folder.
        host: address to listen on; the default is reached from this machine alone.
        port: TCP port; 0 takes any that is free, and the log says which.
        poll_seconds: how often to look for new versions.
        **limits: `max_body`, `max_pixels` and `cors` of `app.create_app`.

    Raises:
        ValueError: the port is in use, or no model could be loaded.
    """
    with _until_stopped(), _listen(host, port) as listener:
        # A GPU is taken piece by piece, not whole, unless its owner says otherwise.
        os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
        from sat_tf.serving.app import create_app  # it takes TensorFlow seconds

        repository = threads.call(load, root)
        config = uvicorn.Config(
            create_app(repository, **limits),
            ws="none",  # the contract has no WebSocket
            log_config=observing.LOGGING,
            access_log=False,
            server_header=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=_DRAIN_SECONDS,
        )
        repository.watch(poll_seconds)
        _log.info("listening at %s (stop with Ctrl+C)", _url(listener))
        try:
            uvicorn.Server(config).run(sockets=[listener])
        finally:
            threads.leave(repository.stop())


def load(root):
    """Load the newest version of every model under `root` into a `Repository`."""
    from sat_tf.serving.repository import Repository

    repository = Repository(root, cores.one_core_each())
    repository.refresh()
    if not repository.loaded():
        failures = repository.failures() or "there is none"
        raise ValueError(
            "Expected a folder of SavedModels, <name>/<version>/saved_model.pb. "
            f"Received: root={str(pathlib.Path(root))!r}, where "
            f"{failures.removesuffix('.')}. Export one with `sat-tf export`."
        )
    return repository


def _listen(host, port):
    """Open the port, or raise ValueError."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        if os.name == "posix":  # where it means: though its last user has just gone
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen()
        return listener
    except (OSError, OverflowError) as error:
        listener.close()
        raise ValueError(
            "Expected an address of this machine and a free port, 0 to 65535. "
            f"Received: host={host!r}, port={port} "
            f"({getattr(error, 'strerror', None) or error}). Stop what listens there, "
            "or choose another with --port; 0 takes any that is free."
        ) from error


def _url(listener):
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class _Stopped(BaseException):
    """A signal said stop; no `except Exception` on its way takes it for an error."""


@contextlib.contextmanager
def _until_stopped():
    """SIGTERM or SIGINT leaves the block, and is no error: the process ends with 0.

    While uvicorn runs, it has handlers of its own: it finishes the open requests and
    then raises the signal again.
    """

    def stop(*_):
        raise _Stopped

    signals = signal.SIGTERM, signal.SIGINT
    before = {number: signal.signal(number, stop) for number in signals}
    try:
        yield
    except _Stopped:
        pass
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
