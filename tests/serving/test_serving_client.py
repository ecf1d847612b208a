"""The client: against the real server, and against one that misbehaves on purpose."""

import contextlib
import http.server
import json
import pathlib
import shutil
import subprocess
import sys
import threading

import pytest
from PIL import Image
from serving_server import free_port, running, toy_models
from toy_savedmodel import picture

from sat_tf.serving import Client, ServingError

RED, GREEN = picture(), picture("PNG", colour=(30, 160, 60))


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    shutil.copytree(toy_models() / "toy", root / "toy")
    with running(root) as (url, _):
        yield url


@contextlib.contextmanager
def scripted(*answers):
    """A server that gives (status, body) answers in turn, None dropping the line.

    Yields its url and the list of paths it was asked for.
    """
    script, asked = list(answers), []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["content-length"]))
            asked.append(self.path)
            answer = script.pop(0) if len(script) > 1 else script[0]
            if answer is None:
                self.close_connection = True
                return
            self.send_response(answer[0])
            self.send_header("retry-after", "0")
            self.end_headers()
            self.wfile.write(answer[1])

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.02])
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()


ROW = {
    "caption": "a dog",
    "score": -1.0,
    "words": ["a", "dog", ""],
    "length": 2,
    "locations": [0, 3, 0],
    "alpha": [[[0.9, 0.1]], [[0.2, 0.8]], [[0.5, 0.5]]],
    "log_p_word": [-0.1, -0.2, 0.0],
    "error": "",
}


def row(**changes):
    return json.dumps({"predictions": [{**ROW, **changes}]}).encode()


OK = 200, row()
BUSY = 503, b'{"error": "busy"}'


def client(url, **options):
    return Client(url, "toy", backoff=0.01, **options)


def test_a_path_bytes_or_a_list_are_captioned(url, tmp_path):
    (tmp_path / "photo.jpg").write_bytes(RED)
    client = Client(url)
    caption = client.caption(str(tmp_path / "photo.jpg"))
    assert caption.caption == str(caption) == "a shape on a red"
    assert caption.words == ["a", "shape", "on", "a", "red"]
    assert len(caption.locations) == len(caption.alpha) == len(caption.log_p_word) == 5
    assert caption.error == "" and caption.beams == []
    assert client.caption(RED) == client.caption(tmp_path / "photo.jpg") == caption
    several = client.caption([GREEN, tmp_path / "photo.jpg"])
    assert [str(c) for c in several] == ["a shape on a green", "a shape on a red"]
    assert client.caption([]) == []


def test_beams_come_with_their_scores(url):
    caption = Client(url).caption(RED, signature_name="beam")
    captions, scores = zip(*caption.beams, strict=True)
    assert captions[0] == caption.caption and scores[0] == caption.score
    assert len(captions) == 3


def test_many_images_travel_in_several_requests(url):
    captions = Client(url).caption([RED, GREEN] * 20)
    assert [c.caption.split()[-1] for c in captions] == ["red", "green"] * 20


def test_a_whole_request_of_bad_images_spoils_no_other(url):
    captions = Client(url).caption([b"text"] * 32 + [RED] + [b"text"] * 33)
    assert [c.caption for c in captions] == [""] * 32 + ["a shape on a red"] + [""] * 33
    assert all("JPEG, PNG" in c.error for c in captions if not c.caption)
    assert {c.error for c in captions if c.caption} == {""}
    with pytest.raises(ServingError, match="JPEG, PNG"):
        Client(url).caption([b"text"] * 33)


def test_photographs_travel_in_requests_that_the_server_takes(url):
    photograph = RED + bytes(2_500_000)  # nobody reads what comes behind the image
    captions = Client(url).caption([photograph] * 20)
    assert [str(c) for c in captions] == ["a shape on a red"] * 20
    large = RED + bytes(26_000_000)  # refused, but no reason to lose the others
    captions = Client(url).caption([RED, large, GREEN])
    assert [c.caption.split()[-1:] for c in captions] == [["red"], [], ["green"]]
    assert "Received: 3" in captions[1].error and "bytes" in captions[1].error


def test_images_are_read_when_they_are_sent():
    answer, ahead = json.dumps({"predictions": [ROW] * 32}).encode(), []
    with scripted((200, answer)) as (url, asked):

        def images():
            for number in range(96):
                ahead.append(number - 32 * len(asked))
                yield RED

        assert len(client(url).caption(images())) == 96
    assert len(asked) == 3 and max(ahead) == 32


def test_tuples_and_iterators_are_several_images(url, tmp_path):
    (tmp_path / "photo.jpg").write_bytes(RED)
    for several in (RED, RED), iter([RED, RED]), map(bytes, [RED, RED]):
        captions = Client(url).caption(several)
        assert [str(c) for c in captions] == ["a shape on a red"] * 2
    assert str(*Client(url).caption(tmp_path.glob("*.jpg"))) == "a shape on a red"
    for single in bytearray(RED), memoryview(RED):
        assert str(Client(url).caption(single)) == "a shape on a red"


def test_a_bad_image_is_an_error_alone_and_a_note_in_a_list(url):
    with pytest.raises(ServingError, match="JPEG, PNG") as refused:
        Client(url).caption(b"text")
    assert refused.value.status == 400
    good, bad = Client(url).caption([RED, b"text"])
    assert good.error == "" and "JPEG, PNG" in bad.error and bad.caption == ""


def test_status_and_metadata(url):
    assert Client(url).status()[0]["state"] == "AVAILABLE"
    signatures = Client(url, "toy/versions/1").metadata()["signature_def"]
    assert "serving_default" in signatures["signature_def"]


def test_the_model_must_be_named_where_there_are_several():
    with running(toy_models()) as (url, _):
        with pytest.raises(ServingError, match=r"\['plain', 'toy'\].*Name one"):
            Client(url).caption(RED)
        assert str(Client(url, "toy").caption(RED)) == "a shape on a red"
        with pytest.raises(ServingError, match="Servable not found") as missing:
            Client(url, "nobody").caption(RED)
        assert missing.value.status == 404


@pytest.mark.parametrize("trouble", [BUSY, (429, b"{}"), (502, b"<html>"), None])
def test_what_may_pass_is_tried_again(trouble):
    with scripted(trouble, trouble, OK) as (url, asked):
        caption = client(url).caption(RED)
    assert caption.words == ["a", "dog"] and caption.alpha[1] == [[0.2, 0.8]]
    assert asked == ["/v1/models/toy:predict"] * 3


@pytest.mark.parametrize("status", [400, 404, 413, 500])
def test_what_will_not_pass_is_not_tried_again(status):
    with scripted((status, b'{"error": "no good"}'), OK) as (url, asked):
        with pytest.raises(ServingError, match="^no good$") as refused:
            client(url).caption(RED)
    assert refused.value.status == status and len(asked) == 1


def test_patience_ends():
    with scripted(BUSY) as (url, asked):
        with pytest.raises(ServingError, match="busy") as refused:
            client(url, retries=2).caption(RED)
    assert refused.value.status == 503 and len(asked) == 3


def test_waits_double_up_to_two_seconds(monkeypatch):
    waits = []
    monkeypatch.setattr("sat_tf.serving.client.time.sleep", waits.append)
    monkeypatch.setattr("sat_tf.serving.client.random.uniform", lambda low, high: high)
    with scripted(*[BUSY] * 5, OK) as (url, _):
        Client(url, "toy", retries=9).caption(RED)
    assert waits == [0.25, 0.5, 1.0, 2.0, 2.0]


def test_an_error_without_json_is_still_readable():
    with scripted((500, b"<h1>Oh no</h1>")) as (url, _):
        with pytest.raises(ServingError, match="HTTP 500: <h1>Oh no</h1>"):
            client(url).caption(RED)


@pytest.mark.parametrize("content", [b"<h1>Welcome</h1>", b"", b"\xff"])
def test_an_answer_that_is_not_json_is_explained(content):
    with scripted((200, content)) as (url, asked):
        with pytest.raises(ServingError, match="Expected JSON from http.*Check that"):
            client(url).caption(RED)
    assert len(asked) == 1


def test_tensorflow_servings_errors_within_an_answer_are_raised():
    with scripted((200, row(caption="", length=0, error="not an image"))) as (url, _):
        with pytest.raises(ServingError, match="not an image"):
            client(url).caption(RED)


def test_nobody_there():
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(ServingError, match=f"Expected a server at {url}.*sat-tf serve"):
        client(url, retries=1).caption(RED)


def test_wrong_arguments():
    with pytest.raises(ValueError, match="http://"):
        Client("localhost:8501")
    with pytest.raises(TypeError, match="Received: int"):
        Client("http://localhost").caption([3])
    with open(__file__) as text, open(__file__, "rb") as file:
        for wrong in None, 3, Image.new("RGB", (8, 8)), {RED}, text, file, [file]:
            with pytest.raises(TypeError, match=r"Expected an image as a path or"):
                Client("http://localhost").caption(wrong)
    with pytest.raises(FileNotFoundError):
        Client("http://localhost").caption("no_such_file.jpg")


def test_the_client_needs_no_tensorflow():
    code = (
        "import sys; from sat_tf.serving import Client; "
        "sys.exit(any(m in sys.modules for m in ('tensorflow', 'numpy', 'starlette')))"
    )
    root = pathlib.Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root).returncode == 0
