"""Bad images, big bodies, metrics, logs: refusals say why, and life goes on."""

import io
import json
import logging
import struct
import zlib

import hypothesis
import pytest
from hypothesis import strategies as st
from PIL import Image
from serving_server import ask, b64, predict, running, toy_models, wait_until
from toy_savedmodel import picture

from sat_tf.serving import screening

MAX_BODY, MAX_PIXELS = 300_000, 1_000_000
GOOD = picture()


@pytest.fixture(scope="module")
def url():
    limits = {"max_body": MAX_BODY, "max_pixels": MAX_PIXELS}
    with running(toy_models(), **limits) as (url, _):
        yield url


def png_header(width, height):
    """A PNG of a few bytes that promises any size."""

    def chunk(kind, data):
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(4096))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels)


def animation():
    frames = [Image.new("RGB", (40, 30), colour) for colour in ("red", "blue")]
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    return file.getvalue()


REFUSED = {
    "zero bytes": b"",
    "text": b"this is a photograph",
    "SVG": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "WebP": picture("WEBP"),
    "TIFF": picture("TIFF"),
    "truncated JPEG": GOOD[: len(GOOD) // 2],
    "truncated header": GOOD[:30],
    "truncated PNG": picture("PNG")[:40],
    "PNG of 50,000 x 50,000": png_header(50_000, 50_000),
    "just too many pixels": png_header(1_000, 1_001),
    "a broken PNG": png_header(64, 64),
    "base64 twice": b"/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAgGBgcGBQgHBwcJCQ",
}
READ = {
    "JPEG": GOOD,
    "PNG": picture("PNG"),
    "GIF": picture("GIF"),
    "BMP": picture("BMP"),
    "grey": picture(mode="L"),
    "CMYK": picture(mode="CMYK"),
    "16 bits": picture("PNG", mode="I;16"),
    "animated": animation(),
}


@pytest.mark.parametrize("contents", REFUSED.values(), ids=REFUSED)
def test_bad_images_are_refused_and_the_next_request_works(url, contents):
    status, answer = predict(url, {"instances": [b64(contents)]})
    assert status == 400
    assert answer["error"].endswith(".")
    assert predict(url, {"instances": [b64(GOOD)]})[0] == 200


@pytest.mark.parametrize("contents", READ.values(), ids=READ)
def test_unusual_images_are_read_or_refused(url, contents):
    status, answer = predict(url, {"instances": [b64(contents)]})
    if status != 200:  # the toy decodes with tf.io alone, which cannot read CMYK
        assert status == 400 and answer["error"].endswith(".")
    assert predict(url, {"instances": [b64(GOOD)]})[0] == 200


def test_a_bad_image_does_not_fail_its_neighbours(url):
    rows = [b64(GOOD), b64(png_header(50_000, 50_000)), b64(b"text"), b64(GOOD)]
    status, answer = predict(url, {"instances": rows})
    assert status == 200
    captions = [row["caption"] for row in answer["predictions"]]
    assert captions == ["a shape on a red", "", "", "a shape on a red"]
    errors = [row["error"] for row in answer["predictions"]]
    assert errors[0] == errors[3] == ""
    assert "50000 x 50000" in errors[1] and "JPEG, PNG" in errors[2]


def test_too_many_images_are_refused(url):
    status, answer = predict(url, {"instances": [b64(b"x")] * 33})
    assert status == 413 and "at most 32" in answer["error"]


@pytest.mark.parametrize("factor", [1.5, 6])
def test_a_big_body_is_refused(url, factor):
    body = b'{"instances": ["' + b"A" * int(factor * MAX_BODY) + b'"]}'
    status, _, answer = ask(url, "POST", "/v1/models/toy:predict", body)
    assert status == 413
    assert f"at most {MAX_BODY} bytes" in answer["error"]


def test_a_big_body_without_a_length_is_refused(url):
    chunks = (b"A" * 10_000 for _ in range(60))
    status, _, answer = ask(url, "POST", "/v1/models/toy:predict", chunks)
    assert status == 413 and "at most" in answer["error"]
    assert predict(url, {"instances": [b64(GOOD)]})[0] == 200


def test_deep_json_is_refused(url):
    body = b'{"instances": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    status, _, answer = ask(url, "POST", "/v1/models/toy:predict", body)
    assert status == 400 and "deep" in answer["error"]
    assert predict(url, {"instances": [b64(GOOD)]})[0] == 200


@hypothesis.settings(max_examples=200, deadline=None, database=None)
@hypothesis.seed(17)
@hypothesis.given(
    st.sampled_from([GOOD, picture("PNG"), picture("GIF"), picture("BMP")]),
    st.integers(0, 700),
    st.binary(max_size=16),
)
def test_any_header_is_read_or_refused(contents, start, noise):
    broken = contents[:start] + noise + contents[start + len(noise) :]
    assert isinstance(screening.refusal(broken, MAX_PIXELS), str)


@hypothesis.settings(max_examples=40, deadline=None, database=None)
@hypothesis.seed(17)
@hypothesis.given(
    st.sampled_from([GOOD, picture("PNG"), picture("GIF"), picture("BMP")]),
    st.integers(0, 700),
    st.binary(max_size=16),
)
def test_any_image_is_captioned_or_refused(url, contents, start, noise):
    broken = contents[:start] + noise + contents[start + len(noise) :]
    status, answer = predict(url, {"instances": [b64(broken)]})
    assert status == 200 or (status == 400 and answer["error"])


def test_health_and_readiness(url):
    assert ask(url, "GET", "/healthz")[0] == 200
    status, _, answer = ask(url, "GET", "/readyz")
    assert (status, answer) == (200, {"ready": True, "models": ["plain/3", "toy/1"]})


def test_metrics_count_requests(url):
    def count():
        _, headers, content = ask(url, "GET", "/monitoring/prometheus/metrics")
        assert headers["content-type"].startswith("text/plain")
        wanted = 'sat_tf_requests_total{method="predict",model="toy",status="200"}'
        lines = [line for line in content.decode().splitlines() if wanted in line]
        return float(lines[0].split()[-1]) if lines else 0.0

    predict(url, {"instances": [b64(GOOD)]})
    before = count()
    predict(url, {"instances": [b64(GOOD)]})
    assert count() == before + 1
    metrics = ask(url, "GET", "/monitoring/prometheus/metrics")[2].decode()
    assert 'sat_tf_batch_rows_count{model="toy"}' in metrics
    assert 'sat_tf_request_seconds_bucket{le="0.1",method="predict"' in metrics


def test_unknown_names_do_not_grow_the_metrics(url):
    for i in range(3):
        ask(url, "GET", f"/v1/models/unknown{i}")
        ask(url, "GET", f"/unknown{i}")
    content = ask(url, "GET", "/monitoring/prometheus/metrics")[2].decode()
    assert "unknown" not in content


def test_access_log_is_structured(url, caplog):
    from sat_tf.serving import observing

    with caplog.at_level(logging.INFO, "sat_tf.serving.access"):
        predict(url, {"instances": [b64(GOOD)]})
        wait_until(lambda: caplog.records, 5)  # it is written behind the answer
    line = json.loads(observing.JsonFormatter().format(caplog.records[-1]))
    assert line["path"] == "/v1/models/toy:predict" and line["status"] == 200
    assert line["method"] == "POST" and line["bytes_in"] > len(GOOD)
    assert line["milliseconds"] > 0 and line["bytes_out"] > 100


def test_page_headers_forbid_third_parties(url):
    status, headers, content = ask(url, "GET", "/")
    assert status == 200 and b"<html" in content
    assert headers["content-security-policy"].startswith("default-src 'none'")
    assert b"http://" not in content and b"https://" not in content


@pytest.mark.parametrize(
    "path",
    [
        "/page/examples/toy/..%2f1%2fsaved_model.pb",
        "/page/examples/toy/%2e%2e/1/saved_model.pb",
        "/page/examples/nobody/red.jpg",
        "/page/../app.py",
        "/page/%2e%2e/app.py",
        "/favicon.ico",
    ],
)
def test_only_listed_files_are_sent(url, path):
    status, _, answer = ask(url, "GET", path)
    assert status == 404 and answer.keys() == {"error"}
