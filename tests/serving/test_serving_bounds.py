"""Files made to be slow, idle uploads, odd files in the folder: the others go on."""

import concurrent.futures
import contextlib
import io
import logging
import os
import shutil
import socket
import sys
import time
import urllib.parse

import pytest
from PIL import Image
from serving_server import ask, b64, predict, running, toy_models, wait_until
from toy_savedmodel import picture

from sat_tf.serving import app, bounding, screening, server

GOOD, PNG = picture(), picture("PNG")
GIF = b"GIF89a\x01\0\x01\0\0\0\0"
SLOW = {
    "GIF, a comment in many blocks": GIF + b"\x21\xfe" + b"\x01a" * 10**6 + b"\0",
    "GIF, many comments": GIF + b"\x21\xfe\x01a\0" * 10**6,
    "GIF, junk": GIF + b"\x01" * 4_000_000,
    "PNG, empty chunks": PNG[:33] + b"\0\0\0\0teXt\0\0\0\0" * 300_000 + PNG[33:],
    "JPEG, empty segments": b"\xff\xd8" + b"\xff\xe1\0\x02" * 10**6 + GOOD[2:],
    "JPEG, padding": b"\xff\xd8" + b"\xff" * 4_000_000,
    "JPEG, stuffing": b"\xff\xd8\xff" + b"\0\xff" * 2_000_000,
    "JPEG, junk": b"\xff\xd8\xff\0" + b"a" * 4_000_000,
    "BMP, a palette": b"BM" + b"\xff" * 4_000_000,
}


@pytest.fixture
def root(tmp_path):
    """A folder of the toys, to be changed."""
    shutil.copytree(toy_models(), tmp_path / "models")
    return tmp_path / "models"


@pytest.fixture(scope="module")
def url():
    with running(toy_models()) as (url, _):
        yield url


@pytest.mark.parametrize("contents", SLOW.values(), ids=SLOW)
def test_a_file_made_to_be_slow_is_refused_at_once(contents):
    start = time.perf_counter()
    assert "a readable header" in screening.refusal(contents, 10**6)
    assert time.perf_counter() - start < 0.2


def test_the_server_answers_others_beside_slow_files(url):
    body = {"instances": [b64(contents[:2_000_000]) for contents in SLOW.values()]}
    waits = []
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        answer = pool.submit(predict, url, body)
        while not answer.done():
            start = time.perf_counter()
            assert ask(url, "GET", "/healthz")[0] == 200
            waits.append(time.perf_counter() - start)
    assert answer.result()[0] == 400 and max(waits) < 2


MODES = {
    "JPEG": ["RGB", "L", "CMYK"],
    "PNG": ["RGB", "L", "P", "1", "RGBA", "LA"],
    "GIF": ["RGB", "L", "P", "1", "RGBA"],
    "BMP": ["RGB", "L", "P", "1", "RGBA"],
}
OPTIONS = [
    {},
    {"progressive": True},
    {"icc_profile": bytes(300_000)},
    {"comment": b"x" * 3000},
    {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0" + bytes(60_000)},
    {"save_all": True, "append_images": [Image.new("L", (77, 41), 9)]},
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda one: " ".join(one) or "plain")
@pytest.mark.parametrize("kind", MODES)
def test_an_ordinary_file_is_read_as_pillow_reads_all_of_it(kind, options):
    if "save_all" in options and kind not in ("PNG", "GIF"):
        pytest.skip(f"{kind} has no animations")
    for mode in MODES[kind]:
        file = io.BytesIO()
        Image.new("RGB", (77, 41)).convert(mode).save(file, kind, **options)
        contents = file.getvalue()
        magic = next(filter(contents.startswith, screening._READERS))
        reader, bounded = screening._READERS[magic]
        whole, part = (reader(io.BytesIO(c)) for c in (contents, bounded(contents)))
        assert (part.size, part.mode) == (whole.size, whole.mode)
        assert part.info.get("progressive") == whole.info.get("progressive")
        assert len(bounded(contents)) <= min(len(contents), bounding._MAX_BMP)


@pytest.mark.parametrize(
    "before",
    [b"\xff" * 500, b"\0junk", b"\xe1\xff\xff" + bytes(65533), b"\xff\0\xff\x01"],
)
def test_what_jpeg_readers_step_over_is_stepped_over(before):
    assert screening.refusal(GOOD[:2] + b"\xff" + before + GOOD[2:], 10**6) == ""


@contextlib.contextmanager
def upload(url, promised, sent=b""):
    """A POST to :predict of which only some has come yet."""
    host = urllib.parse.urlsplit(url)
    with socket.create_connection((host.hostname, host.port), 30) as connection:
        head = f"POST /v1/models/toy:predict HTTP/1.1\r\nContent-Length: {promised}"
        connection.sendall(head.encode() + b"\r\nHost: here\r\n\r\n" + sent)
        yield connection


def test_idle_uploads_take_no_room(url):
    with contextlib.ExitStack() as stack:
        for _ in range(12):
            stack.enter_context(upload(url, app.MAX_BODY, b"{"))
        time.sleep(0.3)
        assert predict(url, {"instances": [b64(GOOD)]})[0] == 200


def test_what_has_come_takes_room_until_it_is_answered(url, monkeypatch):
    monkeypatch.setattr(app, "_MAX_PENDING", 3000)
    body = {"instances": [b64(GOOD)]}
    assert 500 < len(b64(GOOD)["b64"]) < 2000
    with upload(url, 5000, b" " * 2500) as connection:
        wait_until(lambda: predict(url, body)[0] == 503, 10)
        status, headers, answer = ask(url, "POST", "/v1/models/toy:predict", body)
        assert (status, headers["retry-after"]) == (503, "1")
        assert "busy" in answer["error"]
        connection.sendall(b" " * 2500)  # alone, it may have as many as it likes
        assert connection.recv(100).startswith(b"HTTP/1.1 400")
    assert predict(url, body)[0] == 200


@pytest.mark.parametrize("where", ["toy/2", "toy/2/variables"])
def test_a_link_that_leads_nowhere_stops_no_version(root, where):
    shutil.copytree(root / "toy" / "1", root / "toy" / "2")
    (root / where / "link").symlink_to("nowhere")
    (root / "toy" / "2" / "round").symlink_to("round")
    loaded = server.load(root).loaded()
    assert [(s.name, s.version) for s in loaded] == [("plain", 3), ("toy", 2)]


def test_a_folder_that_cannot_be_read_stops_no_other(root, monkeypatch, caplog):
    shutil.copytree(root / "plain" / "3", root / "plain" / "4")
    original = type(root).rglob

    def rglob(self, pattern):
        if self.name == "4":
            raise PermissionError(13, "Permission denied")
        return original(self, pattern)

    monkeypatch.setattr(type(root), "rglob", rglob)
    monkeypatch.setattr(logging.getLogger("sat_tf.serving"), "propagate", True)
    repository = server.load(root)
    repository.refresh()
    assert [s.version for s in repository.loaded()] == [3, 1]
    assert "plain/4: [Errno 13]" in repository.failures()
    errors = [r.getMessage() for r in caplog.records if r.levelname == "ERROR"]
    assert len(errors) == 1 and "plain/4: [Errno 13]" in errors[0]


@pytest.mark.skipif(sys.platform != "linux", reason="other names are refused there")
def test_odd_files_among_the_examples_are_left_out(root):
    examples = root / "toy" / "examples"
    (examples / "folder.jpg").mkdir()
    (examples / "link.jpg").symlink_to("nowhere.jpg")
    with open(os.fsencode(examples) + b"/caf\xe9.jpg", "wb") as file:
        file.write(GOOD)
    (examples / "café.jpg").write_bytes(GOOD)
    with running(root) as (url, _):
        status, _, answer = ask(url, "GET", "/page/models.json")
        assert status == 200
        assert answer["toy"]["examples"] == ["café.jpg", "green.jpg", "red.jpg"]
        for name in "folder.jpg", "link.jpg", "caf%E9.jpg":
            assert ask(url, "GET", f"/page/examples/toy/{name}")[0] == 404
        path = "/page/examples/toy/caf%C3%A9.jpg"
        assert ask(url, "GET", path)[2] == GOOD


def test_metadata_outlives_its_folder(root):
    with running(root, poll_seconds=600) as (url, _):
        before = ask(url, "GET", "/v1/models/toy/metadata")
        shutil.rmtree(root / "toy")
        after = ask(url, "GET", "/v1/models/toy/metadata")
    assert after[0] == 200 and after[2] == before[2]


def test_versions_go_as_far_as_tensorflow_servings(root):
    largest = 2**63 - 1
    (root / "plain" / "3").rename(root / "plain" / str(largest))
    shutil.copytree(root / "plain" / str(largest), root / "plain" / str(largest + 1))
    with running(root) as (url, _):
        path = f"/v1/models/plain/versions/{largest}"
        assert ask(url, "GET", path)[0] == 200
        assert ask(url, "GET", path.replace("/9", "/" + "0" * 5000 + "9"))[0] == 200
        assert predict(url, {"instances": [1.0]}, path)[0] == 200
        for wrong in str(largest + 1), "9" * 5000:
            status, _, answer = ask(url, "GET", f"/v1/models/plain/versions/{wrong}")
            assert status == 400 and f"at most {largest}." in answer["error"]


@pytest.mark.parametrize("method", ["TRACE", "PROPFIND"])
@pytest.mark.parametrize("path", ["/v1/models/toy", "/healthz", "/elsewhere"])
def test_a_method_that_no_route_knows_is_refused_as_json(url, method, path):
    status, _, answer = ask(url, method, path)
    assert status == (400 if path.startswith("/v1") else 404)
    assert f"{method} {path}" in answer["error"]


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/page/models.json", "/"])
def test_what_is_only_read_says_so(url, path):
    status, _, answer = ask(url, "POST", path, b"")
    assert status == 404 and f"Received: POST {path}. Check" in answer["error"]
    assert "or GET with" in answer["error"]
