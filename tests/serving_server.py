"""Servers for the serving tests: ours in a thread, TensorFlow Serving in a process."""

import base64
import contextlib
import functools
import http.client
import json
import os
import pathlib
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import urllib.parse

import toy_savedmodel
import uvicorn

from sat_tf.serving import app, server


def ask(url, method, path, body=None, headers=None):
    """Send one request; returns (status, headers, parsed JSON or bytes)."""
    host = urllib.parse.urlsplit(url).netloc
    with contextlib.closing(http.client.HTTPConnection(host, timeout=60)) as connection:
        if not isinstance(body, (bytes, type(None))) and not hasattr(body, "__next__"):
            body = json.dumps(body).encode()
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        content = answer.read()
    is_json = (answer.getheader("content-type") or "").startswith("application/json")
    content = json.loads(content) if is_json and content else content
    return answer.status, answer.headers, content


def predict(url, body, path="/v1/models/toy"):
    """Send one `:predict`; returns (status, parsed answer)."""
    status, _, content = ask(url, "POST", path + ":predict", body)
    return status, content


def b64(contents):
    return {"b64": base64.b64encode(contents).decode("ascii")}


@contextlib.contextmanager
def running(root, poll_seconds=0.1, **limits):
    """Serve `root` in a thread of this process; yields (url, repository)."""
    repository = server.load(root)
    application = app.create_app(repository, **limits)
    config = uvicorn.Config(application, ws="none", log_config=None)
    config.access_log = False
    listener = socket.create_server(("127.0.0.1", 0))
    instance = uvicorn.Server(config)
    thread = threading.Thread(target=instance.run, kwargs={"sockets": [listener]})
    thread.start()
    repository.watch(poll_seconds)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", repository
    finally:
        instance.should_exit = True
        thread.join()
        repository.close()
        listener.close()


@functools.cache
def toy_models():
    """Export the toy captioner and the plain signatures once; returns the folder."""
    root = pathlib.Path(tempfile.mkdtemp(prefix="toy_models_"))
    toy_savedmodel.export(toy_savedmodel.Toy(), root / "toy" / "1")
    toy_savedmodel.export(toy_savedmodel.Plain(), root / "plain" / "3")
    examples = root / "toy" / "examples"
    examples.mkdir()
    for name, colour in ("red", (200, 30, 30)), ("green", (30, 160, 60)):
        picture = toy_savedmodel.picture(size=(320, 240), colour=colour)
        (examples / f"{name}.jpg").write_bytes(picture)
    return root


@contextlib.contextmanager
def tensorflow_model_server(root):
    """Serve `root` with TensorFlow Serving's own server; yields its url."""
    ports = [free_port(), free_port()]
    config = pathlib.Path(tempfile.mkdtemp()) / "models.config"
    entries = "".join(
        f'config {{ name: "{name}" base_path: "{root / name}" '
        'model_platform: "tensorflow" }'
        for name in ("toy", "plain")
    )
    config.write_text(f"model_config_list {{ {entries} }}")
    process = subprocess.Popen(
        [
            shutil.which("tensorflow_model_server"),
            f"--port={ports[0]}",
            f"--rest_api_port={ports[1]}",
            f"--model_config_file={config}",
        ]
    )
    url = f"http://127.0.0.1:{ports[1]}"
    try:
        wait_until(lambda: ask(url, "GET", "/v1/models/plain")[0] == 200, 60)
        yield url
    finally:
        process.terminate()
        process.wait()


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def wait_until(condition, seconds):
    """Poll until the condition holds; an error when it does not in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            if condition():
                return
        time.sleep(0.05)
    raise TimeoutError(f"not so within {seconds} s")


def other_server():
    """Where TensorFlow Serving is to be found: "url", "binary" or None."""
    if os.environ.get("TF_SERVING_URL"):
        return "url"
    return "binary" if shutil.which("tensorflow_model_server") else None
