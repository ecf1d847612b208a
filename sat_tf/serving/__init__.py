"""Serving exported captioners: a server, and a client for it or TensorFlow Serving."""

from sat_tf.serving.client import Caption, Client, ServingError

__all__ = ["Caption", "Client", "ServingError", "serve"]


def __getattr__(name):
    """Import the server when it is asked for: the client needs no TensorFlow."""
    if name != "serve":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from sat_tf.serving.server import serve

    return serve
