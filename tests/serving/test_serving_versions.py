"""New versions, broken versions, vanished versions, and a real process that stops."""

import concurrent.futures
import contextlib
import gzip
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
import tensorflow as tf
from serving_server import (
    ask,
    b64,
    free_port,
    predict,
    running,
    toy_models,
    wait_until,
)
from test_serving_limits import png_header
from toy_savedmodel import Toy, export, picture

from sat_tf import cli
from sat_tf.serving import app, server

BODY = {"instances": [b64(picture())]}


def states(url):
    answer = ask(url, "GET", "/v1/models/toy")[2]
    return {s["version"]: s["state"] for s in answer["model_version_status"]}


def test_versions_are_swapped_under_load_without_a_lost_request(tmp_path):
    shutil.copytree(toy_models() / "toy", tmp_path / "models" / "toy")
    folder = tmp_path / "models" / "toy"
    export(Toy("the"), tmp_path / "2")
    stop = threading.Event()

    with running(tmp_path / "models") as (url, _):

        def load():
            answers = []
            while not stop.is_set():
                answers.append(predict(url, BODY))
            return answers

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            loads = [pool.submit(load) for _ in range(4)]
            time.sleep(0.3)
            (tmp_path / "2").rename(folder / "2")
            try:
                wait_until(lambda: states(url).get("2") == "AVAILABLE", 60)
                wait_until(lambda: states(url)["1"] == "END", 60)
                time.sleep(0.3)
            finally:
                stop.set()
            answers = [load.result() for load in loads]

        assert {status for one in answers for status, _ in one} == {200}
        for one in answers:
            captions = [answer["predictions"][0]["caption"] for _, answer in one]
            n_old = captions.count("a shape on a red")
            assert 0 < n_old < len(captions)
            assert captions[n_old:] == ["the shape on the red"] * (len(one) - n_old)
        assert predict(url, BODY, "/v1/models/toy/versions/1")[0] == 404

        (folder / "3").mkdir()
        (folder / "3" / "saved_model.pb").write_bytes(b"half a file")
        wait_until(lambda: states(url).get("3") == "END", 10)
        answer = ask(url, "GET", "/v1/models/toy/versions/3")[2]
        assert answer["model_version_status"][0]["status"]["error_message"]
        assert predict(url, BODY)[0] == 200

        shutil.rmtree(folder / "3")
        shutil.rmtree(folder / "2")
        wait_until(lambda: states(url)["1"] == "AVAILABLE", 60)
        shutil.rmtree(folder)
        wait_until(lambda: predict(url, BODY)[0] == 404, 10)
        assert ask(url, "GET", "/readyz")[0] == 503


def test_an_older_version_stands_in_for_a_broken_one(tmp_path):
    shutil.copytree(toy_models() / "plain", tmp_path / "plain")
    (tmp_path / "plain" / "4").mkdir()
    (tmp_path / "plain" / "4" / "saved_model.pb").write_bytes(b"")
    repository = server.load(tmp_path)
    assert [s.version for s in repository.loaded()] == [3]
    assert "plain/4" in repository.failures()


@pytest.mark.parametrize("torn", [b"", b"[1]", b'{"image_size": 48}'])
def test_a_torn_file_beside_the_graph_is_named(torn, tmp_path):
    folder = shutil.copytree(toy_models() / "plain", tmp_path / "plain") / "3"
    (folder / "assets.extra").mkdir()
    file = folder / "assets.extra" / "preprocessing.json"
    file.write_bytes(torn)
    said = f"as an export writes them. Received: {file}, damaged"
    with pytest.raises(ValueError, match=re.escape(said)):
        server.load(tmp_path)


@pytest.mark.parametrize("name", [b"mod\xe8le", b"a:b", b"a\nb"])
def test_a_name_that_no_address_holds_is_said_and_stops_nothing(tmp_path, name):
    shutil.copytree(toy_models() / "plain", tmp_path / "plain")
    shutil.copytree(toy_models() / "plain", tmp_path / os.fsdecode(name))
    with running(tmp_path) as (url, _):
        assert list(ask(url, "GET", "/page/models.json")[2]) == ["plain"]
    failures = server.load(tmp_path).failures()
    assert "Rename the folder" in failures
    failures.encode()


def test_one_model_folder_may_be_the_root():
    with running(toy_models() / "plain") as (url, _):
        assert ask(url, "GET", "/v1/models/plain")[0] == 200


@pytest.mark.parametrize("name", ["nothing", "toy/examples"])
def test_a_folder_without_models_is_an_error(name):
    with pytest.raises(ValueError, match="Expected a folder of SavedModels.*export"):
        server.load(toy_models() / name)


@contextlib.contextmanager
def started(root, port, log):
    """`serve` in a process of its own, which writes to the file `log`."""
    code = (
        "import sys; from sat_tf.serving import serve; "
        "serve(sys.argv[1], port=int(sys.argv[2])); print('stopped')"
    )
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(root), str(port)],
            stdout=file,
            stderr=file,
            cwd=pathlib.Path(__file__).parents[2],
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def process(tmp_path_factory):
    """`serve` of the toys: (url, process, log file)."""
    port, log = free_port(), tmp_path_factory.mktemp("serve") / "log"
    url = f"http://127.0.0.1:{port}"
    with started(toy_models(), port, log) as process:
        wait_until(lambda: ask(url, "GET", "/readyz")[0] == 200, 120)
        yield url, process, log


def memory(process, field):
    """A field of /proc/<pid>/status in MB: VmRSS now, VmHWM at its peak."""
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_decompression_bomb_costs_neither_time_nor_memory(process):
    url, running, _ = process
    predict(url, BODY)
    before = memory(running, "VmRSS")
    start = time.perf_counter()
    status, answer = predict(url, {"instances": [b64(png_header(50_000, 50_000))]})
    seconds = time.perf_counter() - start
    assert status == 400 and "50000 x 50000" in answer["error"]
    assert seconds < 0.2
    assert memory(running, "VmRSS") - before < 50
    assert memory(running, "VmHWM") < before + 500
    assert predict(url, BODY)[0] == 200


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_gzip_bomb_costs_little_memory(process):
    url, running, _ = process
    predict(url, BODY)
    before = memory(running, "VmRSS")
    bomb = gzip.compress(bytes(1_000_000_000), 1)
    assert len(bomb) < app.MAX_BODY / 4
    headers = {"Content-Encoding": "gzip"}
    answer = ask(url, "POST", "/v1/models/toy:predict", bomb, headers)
    assert answer[0] == 413
    assert memory(running, "VmHWM") < before + 4 * app.MAX_BODY / 2**20


def test_sigterm_finishes_the_open_requests(process):
    url, running, log = process
    body = {"signature_name": "slow", "instances": [400]}
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        answer = pool.submit(predict, url, body, "/v1/models/plain")
        time.sleep(0.3)
        assert not answer.done()
        running.send_signal(signal.SIGTERM)
        assert answer.result()[0] == 200
    assert running.wait(20) == 0
    *lines, last = log.read_text().splitlines()
    assert last == "stopped"
    records = [json.loads(line) for line in lines if line.startswith("{")]
    assert any(r.get("path") == "/v1/models/plain:predict" for r in records)


class Endless(tf.Module):
    """Writes a file when it is run, and is not done in the time of any test."""

    def __init__(self, file):
        super().__init__()
        self.file = str(file)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    def run(self, x):
        tf.io.write_file(self.file, "")
        square = tf.fill([300, 300], 0.001)
        for _ in tf.range(10**6):
            square = tf.nn.relu(square @ square)
        return {"y": x + tf.reduce_sum(square)}

    def signatures(self):
        return {"serving_default": self.run}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_server_whose_first_version_loads(tmp_path, number):
    export(Endless(tmp_path / "loading"), tmp_path / "models" / "endless" / "1")
    with started(tmp_path / "models", 0, tmp_path / "log") as process:
        wait_until((tmp_path / "loading").exists, 120)
        process.send_signal(number)
        assert process.wait(20) == 0
    assert (tmp_path / "log").read_text().endswith("stopped\n")


def test_a_signal_ends_a_server_whose_next_version_loads(tmp_path):
    """And port 0 is one that is free; the log names it."""
    shutil.copytree(toy_models() / "toy", tmp_path / "models" / "toy")
    export(Endless(tmp_path / "loading"), tmp_path / "2")
    log = tmp_path / "log"
    with started(tmp_path / "models", 0, log) as process:
        wait_until(lambda: "listening at" in log.read_text(), 120)
        url = re.search(r"listening at (\S+)", log.read_text())[1]
        (tmp_path / "2").rename(tmp_path / "models" / "toy" / "2")
        wait_until((tmp_path / "loading").exists, 60)
        assert states(url) == {"1": "AVAILABLE", "2": "LOADING"}
        assert predict(url, BODY)[0] == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    assert log.read_text().endswith("stopped\n")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0"])
def test_a_port_in_use_is_said_before_anything_loads(tmp_path, capsys, host):
    """The folder has no model, but nobody looks there."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        command = ["serve", str(tmp_path), "--host", host, "--port", str(port)]
        assert cli.main(command) == 2
    error = capsys.readouterr().err
    assert f"port={port} (Address already in use)" in error
    assert "choose another with --port; 0 takes any that is free" in error
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.parametrize(
    ("host", "port"),
    [("127.0.0.1", 65536), ("127.0.0.1", -1), ("192.0.2.1", 0)],
)
def test_an_address_that_cannot_be_had_is_named(tmp_path, capsys, host, port):
    assert cli.main(["serve", str(tmp_path), "--host", host, f"--port={port}"]) == 2
    error = capsys.readouterr().err
    assert f"Received: host='{host}', port={port} (" in error


def test_a_port_in_use_is_said_at_once(tmp_path):
    """Before TensorFlow is imported, which takes seconds."""
    code = (
        "import sys; from sat_tf import cli; status = cli.main(sys.argv[1:]); "
        "sys.exit('tensorflow' if 'tensorflow' in sys.modules else status)"
    )
    with socket.create_server(("127.0.0.1", 0)) as other:
        command = ["serve", str(tmp_path), "--port", str(other.getsockname()[1])]
        run = subprocess.run(
            [sys.executable, "-c", code, *command], capture_output=True, text=True
        )
    assert run.returncode == 2 and "Address already in use" in run.stderr


def test_the_command_line_turns_cors_on(tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr(server, "serve", lambda *args, **options: given.append(options))
    for flags in [], ["--cors"]:
        assert cli.main(["serve", str(tmp_path), *flags]) == 0
    assert given == [{"cors": False}, {"cors": True}]
