"""The REST contract, over HTTP, held by our server and by TensorFlow Serving alike.

To run these against a TensorFlow Serving of your own, export the models with
`python tests/toy_savedmodel.py FOLDER`, serve `FOLDER/toy` and `FOLDER/plain` under
these names, and set TF_SERVING_URL to its REST address.
"""

import concurrent.futures
import gzip
import json
import math
import os
import pathlib
import subprocess
import sys

import pytest
from serving_server import (
    ask,
    b64,
    other_server,
    predict,
    running,
    tensorflow_model_server,
    toy_models,
)
from toy_savedmodel import picture

RED, GREEN = picture(), picture(colour=(30, 160, 60))
PLAIN = "/v1/models/plain"


@pytest.fixture(scope="module")
def ours():
    with running(toy_models()) as (url, _):
        yield url


@pytest.fixture(scope="module", params=["sat-tf serve", "TensorFlow Serving"])
def url(request):
    if request.param == "sat-tf serve":
        yield request.getfixturevalue("ours")
    elif other_server() == "url":
        yield os.environ["TF_SERVING_URL"]
    elif other_server() == "binary":
        with tensorflow_model_server(toy_models()) as url:
            yield url
    else:
        pytest.skip("no tensorflow_model_server on PATH, TF_SERVING_URL is not set")


def test_status_lists_the_versions(url):
    expected = {
        "model_version_status": [
            {
                "version": "1",
                "state": "AVAILABLE",
                "status": {"error_code": "OK", "error_message": ""},
            }
        ]
    }
    for path in ("/v1/models/toy", "/v1/models/toy/versions/1", "/V1/Models/toy"):
        status, headers, answer = ask(url, "GET", path)
        assert (status, answer) == (200, expected)
        assert headers["content-type"] == "application/json"


def test_metadata_describes_every_signature(url):
    status, _, answer = ask(url, "GET", "/v1/models/toy/metadata")
    assert status == 200
    assert answer["model_spec"] == {"name": "toy", "signature_name": "", "version": "1"}
    signatures = answer["metadata"]["signature_def"]["signature_def"]
    names = {"serving_default", "greedy", "beam", "images", "annotations"}
    assert names <= signatures.keys()
    default = signatures["serving_default"]
    assert default["method_name"] == "tensorflow/serving/predict"
    image_bytes = default["inputs"]["image_bytes"]
    assert image_bytes["dtype"] == "DT_STRING"
    assert image_bytes["tensor_shape"]["dim"] == [{"size": "-1", "name": ""}]
    assert image_bytes["tensor_shape"]["unknown_rank"] is False


def test_row_form_captions_images(url):
    rows = [{"image_bytes": b64(RED)}, {"image_bytes": b64(GREEN)}]
    status, answer = predict(url, {"instances": rows})
    assert status == 200
    first, second = answer["predictions"]
    assert first["caption"] == "a shape on a red"
    assert second["caption"] == "a shape on a green"
    assert first["words"] == ["a", "shape", "on", "a", "red", ""]
    assert first["length"] == 5
    assert len(first["alpha"]) == 6 and len(first["alpha"][0]) == 4
    assert sum(map(sum, first["alpha"][0])) == pytest.approx(1, abs=1e-5)


def test_row_form_may_leave_out_the_only_name(url):
    named = predict(url, {"instances": [{"image_bytes": b64(RED)}]})
    assert predict(url, {"instances": [b64(RED)]}) == named


def test_columnar_form_answers_with_columns(url):
    images = [b64(RED), b64(GREEN)]
    status, answer = predict(url, {"inputs": {"image_bytes": images}})
    assert status == 200
    assert answer["outputs"]["caption"] == ["a shape on a red", "a shape on a green"]
    assert predict(url, {"inputs": images}) == (status, answer)


@pytest.mark.parametrize("path", ["/v1/models/toy/versions/1", "/V1/MODELS/toy"])
def test_a_version_can_be_named(url, path):
    assert predict(url, {"instances": [b64(RED)]}, path)[0] == 200


def test_signature_name_chooses(url):
    body = {"signature_name": "beam", "instances": [b64(RED)]}
    status, answer = predict(url, body)
    assert status == 200
    assert answer["predictions"][0]["beam_captions"][1] == "a shape on a red 1"
    scores = answer["predictions"][0]["beam_scores"]
    assert scores == sorted(scores, reverse=True) and len(scores) == 3


def test_numeric_signatures(url):
    cells = [[0.1, 0.9, 0.2]] * 16
    body = {"signature_name": "annotations", "instances": [cells, cells]}
    status, answer = predict(url, body)
    assert status == 200
    assert answer["predictions"][1]["caption"] == "a shape on a green"
    pixels = [[[255, 0, 0]] * 5] * 4
    body = {"signature_name": "images", "inputs": [pixels]}
    assert predict(url, body)[1]["outputs"]["caption"] == ["a shape on a red"]


def test_a_single_output_is_not_named(url):
    assert predict(url, {"inputs": [1.0]}, PLAIN)[1].keys() == {"outputs"}
    answer = predict(url, {"instances": [1.0, -1.0]}, PLAIN)[1]
    assert answer == {"predictions": [math.inf, -math.inf]}


def test_not_a_number_and_infinity_are_unquoted(url):
    body = b'{"instances": [NaN, 1.0, -Infinity]}'
    status, _, answer = ask(url, "POST", PLAIN + ":predict", body)
    assert status == 200
    assert math.isnan(answer["predictions"][0])
    assert answer["predictions"][1:] == [math.inf, -math.inf]


def test_bytes_come_back_as_base64_where_the_name_says_so(url):
    rows = [{"number": 7, "text": "Grüße"}, {"number": -1, "text": b64(b"abc")}]
    body = {"signature_name": "echo", "instances": rows}
    status, answer = predict(url, body, PLAIN)
    assert status == 200
    first, second = answer["predictions"]
    assert (first["text"], first["number"]) == ("Grüße", 7)
    assert first["text_bytes"] == b64("Grüße".encode())
    assert (second["text"], second["text_bytes"]) == ("abc", b64(b"abc"))


def test_row_form_needs_outputs_with_a_batch(url):
    body = {"signature_name": "total", "inputs": [1, 2]}
    assert predict(url, body, PLAIN)[1] == {"outputs": {"total": 3.0, "x": [1.0, 2.0]}}
    body = {"signature_name": "total", "instances": [1, 2]}
    status, answer = predict(url, body, PLAIN)
    assert status == 400 and "error" in answer


def test_floats_are_written_without_noise(url):
    body = {"signature_name": "total", "inputs": [0.1]}
    host_answer = ask(url, "POST", PLAIN + ":predict", body)[2]
    assert json.dumps(host_answer["outputs"]["x"]) == "[0.1]"


def test_columns_of_different_lengths_are_refused(ours):
    inputs = {"number": [1, 2], "text": ["a", "b", "c"]}
    body = {"signature_name": "echo", "inputs": inputs}
    status, answer = predict(ours, body, PLAIN)
    assert status == 400 and "same number of rows" in answer["error"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v1/models/nobody:predict", 404),
        ("POST", "/v1/models/toy/versions/99:predict", 404),
        ("POST", "/v1/models/toy:explain", 400),
        ("POST", "/v1/models/toy:classify", 400),
        ("POST", "/v1/models/toy/labels/best:predict", 400),
        ("POST", "/v1/models/toy", 400),
        ("PUT", "/v1/models/toy:predict", 400),
        ("GET", "/v1/models/nobody", 404),
        ("GET", "/v1/models/nobody/metadata", 404),
        ("GET", "/v1/models/toy/versions/99", 404),
        ("GET", "/v1/models/toy/versions/9999999999999999999999", 400),
        ("GET", "/v1/models/toy:predict", 400),
        ("GET", "/v1/other", 400),
    ],
)
def test_wrong_addresses(url, method, path, status):
    body = {"instances": [b64(RED)]} if method != "GET" else None
    got, _, answer = ask(url, method, path, body)
    assert got == status
    assert answer.keys() == {"error"} and answer["error"]


def test_a_body_may_be_gzip(url):
    body = gzip.compress(json.dumps({"instances": [b64(GREEN)]}).encode())
    headers = {"Content-Encoding": "gzip"}
    status, answered, answer = ask(url, "POST", "/v1/models/toy:predict", body, headers)
    assert status == 200 and "content-encoding" not in answered
    assert answer["predictions"][0]["caption"] == "a shape on a green"


def test_half_a_gzip_body_is_refused(url):
    body = gzip.compress(json.dumps({"instances": [b64(GREEN)]}).encode())[:-100]
    headers = {"Content-Encoding": "gzip"}
    status, _, answer = ask(url, "POST", "/v1/models/toy:predict", body, headers)
    assert status == 400 and answer["error"]


@pytest.mark.parametrize("path", ["/v1/models/toy", "/v1/models/toy:predict"])
def test_head_is_malformed_and_has_no_body(url, path):
    """Only GET and POST are known to its http_rest_api_handler.cc."""
    status, _, answer = ask(url, "HEAD", path)
    assert status == 400 and answer == b""


@pytest.mark.parametrize("path", ["/v1/models/toy", "/v1/models/toy:predict", "/v1/x"])
def test_options_is_fine_where_it_names_an_origin(url, path):
    """As in its http_server.cc; without the flag no CORS header comes with it."""
    headers = {
        "Origin": "https://example.org",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type",
    }
    status, answered, answer = ask(url, "OPTIONS", path, headers=headers)
    assert status == 200 and answer == b""
    assert not [name for name in answered if name.startswith("access-control")]
    assert ask(url, "OPTIONS", path)[0] == 400
    assert ask(url, "OPTIONS", path, headers={"Origin": "null"})[0] == 400
    assert ask(url, "OPTIONS", "/elsewhere", headers=headers)[0] == 404


WRONG_BODIES = {
    "empty": b"",
    "not JSON": b"{'instances'",
    "not UTF-8": b'{"instances": ["\xff"]}',
    "a list": [1],
    "neither": {},
    "both": {"instances": [b64(RED)], "inputs": [b64(RED)]},
    "no rows": {"instances": []},
    "instances is no list": {"instances": "abc"},
    "unknown signature": {"signature_name": "nothing", "instances": [b64(RED)]},
    "signature is a number": {"signature_name": 3, "instances": [b64(RED)]},
    "unknown input": {"instances": [{"picture": b64(RED)}]},
    "missing input": {"inputs": {"picture": [b64(RED)]}},
    "wrong base64": {"instances": [{"b64": "!!!"}]},
    "base64 is a number": {"instances": [{"b64": 3}]},
    "a number for bytes": {"instances": [3]},
    "null": {"instances": [None]},
    "mixed rows": {"instances": [{"image_bytes": b64(RED)}, "abc"]},
    "too deep": {"instances": [[b64(RED)]]},
    "a string for floats": {"signature_name": "annotations", "instances": ["abc"]},
    "wrong shape": {"signature_name": "annotations", "instances": [[[1.0]]]},
    "ragged": {"signature_name": "images", "instances": [[[[1, 2, 3]], [[1, 2]]]]},
}


@pytest.mark.parametrize("body", WRONG_BODIES.values(), ids=WRONG_BODIES)
def test_wrong_bodies(url, body):
    status, answer = predict(url, body)
    assert status == 400
    assert answer.keys() == {"error"} and answer["error"]
    assert predict(url, {"instances": [b64(RED)]})[0] == 200


def test_concurrent_requests_share_a_batch(ours):
    body = {"signature_name": "echo", "instances": [{"number": 1, "text": "x"}]}
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: predict(ours, body, PLAIN), range(200)))
    assert {status for status, _ in answers} == {200}
    assert max(answer["predictions"][0]["batch"] for _, answer in answers) > 1


def test_every_request_gets_its_own_rows_back(ours):
    def echo(number):
        rows = [{"number": number + i, "text": f"{number}"} for i in range(number % 5)]
        body = {"signature_name": "echo", "instances": rows or [rows]}
        return predict(ours, body, PLAIN)

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        for number, (status, answer) in enumerate(pool.map(echo, range(100))):
            if number % 5:
                got = [row["number"] for row in answer["predictions"]]
                assert got == [number + i for i in range(number % 5)]
            else:
                assert status == 400


def test_a_failing_request_does_not_fail_its_batch(ours):
    def ask_for(number):
        body = {"signature_name": "positive", "instances": [float(number)]}
        return predict(ours, body, PLAIN)

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask_for, [-1, 1, 2, 3, 4, 5, 6, 7] * 10))
    for index, (status, answer) in enumerate(answers):
        assert status == (200 if index % 8 else 400)
        assert "x must be positive" in answer.get("error", "x must be positive")


FIRST_REQUEST = """
import sys
from serving_server import ask, b64, predict, running
from toy_savedmodel import picture

body = {"instances": [b64(picture())]}
with running(sys.argv[1]) as (url, _):
    assert ask(url, "GET", "/readyz")[0] == 200
    before = set(sys.modules)
    assert predict(url, body)[0] == 200
    print(sorted(sys.modules.keys() - before))
"""


@pytest.mark.slow
def test_the_first_request_imports_nothing():
    """It would wait for that: what can be done before is done when models load."""
    tests = pathlib.Path(__file__).parents[1]
    process = subprocess.run(
        [sys.executable, "-c", FIRST_REQUEST, toy_models()],
        env={**os.environ, "PYTHONPATH": f"{tests.parent}{os.pathsep}{tests}"},
        capture_output=True,
        text=True,
    )
    assert (process.returncode, process.stdout) == (0, "[]\n"), process.stderr
