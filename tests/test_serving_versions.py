"""New versions, broken versions, vanished versions, and a real process that stops."""

import concurrent.futures
import json
import pathlib
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest
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

from sat_tf.serving import server

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


def test_one_model_folder_may_be_the_root():
    with running(toy_models() / "plain") as (url, _):
        assert ask(url, "GET", "/v1/models/plain")[0] == 200


@pytest.mark.parametrize("name", ["nothing", "toy/examples"])
def test_a_folder_without_models_is_an_error(name):
    with pytest.raises(ValueError, match="Expected a folder of SavedModels.*export"):
        server.load(toy_models() / name)


@pytest.fixture(scope="module")
def process(tmp_path_factory):
    """`serve` in a process of its own: (url, process, log file)."""
    port, log = free_port(), tmp_path_factory.mktemp("serve") / "log"
    code = (
        "import sys; from sat_tf.serving import serve; "
        "serve(sys.argv[1], port=int(sys.argv[2])); print('stopped')"
    )
    with log.open("w") as file:
        started = subprocess.Popen(
            [sys.executable, "-c", code, str(toy_models()), str(port)],
            stdout=file,
            stderr=file,
            cwd=pathlib.Path(__file__).parents[1],
        )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: ask(url, "GET", "/readyz")[0] == 200, 120)
        yield url, started, log
    finally:
        started.kill()
        started.wait()


def memory(process, field):
    """A field of /proc/<pid>/status in MB: VmRSS now, VmHWM at its peak."""
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_decompression_bomb_costs_neither_time_nor_memory(process):
    url, started, _ = process
    predict(url, BODY)
    before = memory(started, "VmRSS")
    start = time.perf_counter()
    status, answer = predict(url, {"instances": [b64(png_header(50_000, 50_000))]})
    seconds = time.perf_counter() - start
    assert status == 400 and "50000 x 50000" in answer["error"]
    assert seconds < 0.2
    assert memory(started, "VmRSS") - before < 50
    assert memory(started, "VmHWM") < before + 500
    assert predict(url, BODY)[0] == 200


def test_sigterm_finishes_the_open_requests(process):
    url, started, log = process
    body = {"signature_name": "slow", "instances": [400]}
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        answer = pool.submit(predict, url, body, "/v1/models/plain")
        time.sleep(0.3)
        assert not answer.done()
        started.send_signal(signal.SIGTERM)
        assert answer.result()[0] == 200
    assert started.wait(20) == 0
    *lines, last = log.read_text().splitlines()
    assert last == "stopped"
    records = [json.loads(line) for line in lines if line.startswith("{")]
    assert any(r.get("path") == "/v1/models/plain:predict" for r in records)
