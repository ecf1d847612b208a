"""Bad images, big bodies, metrics, logs: refusals say why, and life goes on."""

import concurrent.futures
import gzip
import io
import json
import logging
import pathlib
import shutil
import struct
import zlib

import hypothesis
import pytest
from hypothesis import strategies as st
from PIL import Image
from serving_server import ask, b64, predict, running, toy_models, wait_until
from toy_savedmodel import picture

from sat_tf.serving import screening

SAVED_MODELS = pathlib.Path(__file__).parents[2] / "saved_models"
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


def packed(url, body, coding="gzip"):
    """POST to :predict under a Content-Encoding; (status, headers, answer)."""
    headers = {"Content-Encoding": coding}
    return ask(url, "POST", "/v1/models/toy:predict", body, headers)


PLAIN = json.dumps({"instances": [b64(GOOD)]}).encode()
GZIP = gzip.compress(PLAIN, mtime=0)


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        *[(coding, GZIP) for coding in ("gzip", "GZip", "x-gzip", "gzip, identity")],
        *[(coding, PLAIN) for coding in ("identity", "", " ")],
        ("gzip", gzip.compress(PLAIN + b" " * (MAX_BODY - len(PLAIN)), mtime=0)),
    ],
)
def test_content_codings_that_are_read(url, coding, body):
    assert packed(url, body, coding)[0] == 200


def test_gzip_is_read_in_chunks_of_no_known_length(url):
    chunks = (GZIP[at : at + 7] for at in range(0, len(GZIP), 7))
    assert packed(url, chunks)[0] == 200


@pytest.mark.parametrize(
    "coding", ["deflate", "br", "zstd", "gzip, gzip", "deflate, gzip", "nonsense"]
)
def test_other_content_codings_are_refused(url, coding):
    status, headers, answer = packed(url, GZIP, coding)
    assert status == 415 and headers["accept-encoding"] == "gzip"
    assert f"Received: Content-Encoding: {coding}. Send" in answer["error"]


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (PLAIN, "incorrect header check"),
        (b"", "it breaks off"),
        (GZIP[:9], "it breaks off"),
        (GZIP[:-1], "it breaks off"),
        (GZIP[: len(GZIP) // 2], "it breaks off"),
        (GZIP[:-8] + bytes(8), "incorrect data check"),
        (GZIP[:20] + b"xyz" + GZIP[23:], ""),
        (GZIP + b"more", "bytes follow its end"),
        (zlib.compress(PLAIN), "incorrect header check"),
    ],
)
def test_what_is_no_gzip_is_refused(url, body, problem):
    status, _, answer = packed(url, body)
    assert status == 400 and answer["error"].endswith("leave the header out.")
    assert problem in answer["error"]


@pytest.mark.parametrize("body", [GZIP, gzip.compress(GZIP, mtime=0)])
def test_gzip_that_nobody_announced_is_explained(url, body):
    coding = "identity" if body == GZIP else "gzip"
    status, _, answer = packed(url, body, coding)
    assert status == 400 and "'Content-Encoding: gzip'" in answer["error"]


@pytest.mark.parametrize("size", [MAX_BODY + 1, 100_000_000])
def test_a_body_is_not_unpacked_beyond_the_limit(url, size):
    bomb = gzip.compress(bytes(size), mtime=0)
    assert len(bomb) < MAX_BODY
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: packed(url, bomb), range(8)))
    for status, _, answer in answers:
        assert status == 413 and f"at most {MAX_BODY} bytes" in answer["error"]
    assert predict(url, {"instances": [b64(GOOD)]})[0] == 200


def test_cors_headers_come_with_the_flag():
    headers = {"Origin": "https://example.org"}
    with running(toy_models(), cors=True) as (url, _):
        for method, path, expected in (
            ("OPTIONS", "/v1/models/toy:predict", 200),
            ("POST", "/v1/models/toy:predict", 200),
            ("GET", "/v1/models/toy", 200),
            ("GET", "/v1/models/nobody", 404),
        ):
            body = {"instances": [b64(GOOD)]} if method == "POST" else None
            status, answered, _ = ask(url, method, path, body, headers)
            assert status == expected
            assert answered["access-control-allow-origin"] == "*"
            assert answered["access-control-allow-methods"] == "POST, GET"
            assert answered["access-control-allow-headers"] == "Content-Type"


def test_no_cors_header_comes_without_it(url):
    headers = {"Origin": "https://example.org"}
    answered = ask(url, "GET", "/v1/models/toy", headers=headers)[1]
    assert not [name for name in answered if name.startswith("access-control")]


@pytest.fixture(scope="module")
def resizes_nothing(tmp_path_factory):
    """The toy, as a model that takes images of 64 x 48 pixels alone."""
    root = tmp_path_factory.mktemp("models")
    shutil.copytree(toy_models() / "toy", root / "toy")
    extra = root / "toy" / "1" / "assets.extra"
    extra.mkdir()
    preprocessing = {"image_size": [48, 64], "resize_mode": "none"}
    (extra / "preprocessing.json").write_text(json.dumps(preprocessing))
    with running(root) as (url, _):
        yield url


def on_its_side(size):
    exif = Image.Exif()
    exif[0x0112] = 6
    return picture(size=size, exif=exif)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP"])
@pytest.mark.parametrize("signature", ["serving_default", "greedy", "beam"])
def test_an_image_of_another_size_is_told_both_sizes(resizes_nothing, kind, signature):
    for size, received in ((320, 240), "320 x 240"), ((48, 64), "48 x 64"):
        image = b64(picture(kind, size=size))
        body = {"signature_name": signature, "instances": [image]}
        status, answer = predict(resizes_nothing, body)
        assert status == 400
        assert "Expected an image of 64 x 48 pixels" in answer["error"]
        assert f"Received: {received}." in answer["error"]
        assert "Resize it" in answer["error"] and "broken" not in answer["error"]


def test_an_image_of_the_right_size_is_captioned(resizes_nothing):
    for image in picture("PNG"), on_its_side((48, 64)):
        assert predict(resizes_nothing, {"instances": [b64(image)]})[0] == 200
    status, answer = predict(
        resizes_nothing, {"instances": [b64(on_its_side((64, 48)))]}
    )
    assert status == 400 and "Received: 48 x 64." in answer["error"]


def test_a_wrong_size_does_not_fail_its_neighbours(resizes_nothing):
    images = picture(), picture(size=(65, 48)), b"text"
    rows = [b64(image) for image in images]
    status, answer = predict(resizes_nothing, {"instances": rows})
    first, second, third = answer["predictions"]
    assert status == 200 and first["caption"] and not first["error"]
    assert second["caption"] == "" and "Received: 65 x 48." in second["error"]
    assert "JPEG, PNG" in third["error"]


def test_a_broken_image_is_not_said_to_have_another_size(resizes_nothing):
    status, answer = predict(resizes_nothing, {"instances": [b64(png_header(64, 48))]})
    assert status == 400 and "pixels (width x height)" not in answer["error"]


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


def grey(width, height, **options):
    file = io.BytesIO()
    Image.new("L", (width, height), 150).save(file, "JPEG", **options)
    return file.getvalue()


def test_a_photograph_of_108_megapixels_is_captioned():
    """JPEG is decoded at half its size; what is not decoded row by row is refused."""
    files = [grey(12_000, 9_000), png_header(12_000, 9_000), grey(400, 300)]
    with running(SAVED_MODELS) as (url, _):
        instances = [b64(contents) for contents in files]
        body = {"instances": instances}
        status, answer = predict(url, body, "/v1/models/scenes_hard")
    assert status == 200
    large, refused, small = answer["predictions"]
    assert large["error"] == "" and large["caption"] == small["caption"] != ""
    assert "Received: 12000 x 9000" in refused["error"]


@pytest.mark.parametrize(
    ("contents", "most", "refused"),
    [
        (grey(2000, 1000), MAX_PIXELS, True),  # this one is decoded whole
        (grey(2000, 500), MAX_PIXELS, False),
        (grey(9000, 7200, progressive=True), 64_000_000, True),
        (grey(9000, 7200), 64_000_000, False),
    ],
)
def test_what_counts_is_what_an_image_unpacks_to(contents, most, refused):
    assert bool(screening.refusal(contents, most)) == refused
