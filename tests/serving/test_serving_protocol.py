"""The JSON protocol without HTTP: what it accepts, how it refuses, and a fuzzer."""

import json

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from sat_tf.serving import protocol
from sat_tf.serving.protocol import RequestError, Spec

IMAGE = {"image_bytes": Spec(np.dtype(object), (None,))}
SPECS = {
    "serving_default": IMAGE,
    "floats": {"x": Spec(np.dtype(np.float32), (None, 2))},
    "bytes": {"x": Spec(np.dtype(np.uint8), (None,))},
    "flags": {"x": Spec(np.dtype(bool), None)},
    "two": {**IMAGE, "n": Spec(np.dtype(np.int64), (None,))},
}


def find_inputs(name):
    if name not in SPECS:
        raise RequestError(f"no signature {name}")
    return SPECS[name]


def parse(document):
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return protocol.parse(body, find_inputs)


def parse_x(signature, values):
    return parse({"signature_name": signature, "inputs": values}).inputs["x"]


@pytest.mark.parametrize("text", ["AAE=", "AAE", "AA\nE=\n", " AAE= "])
def test_base64_is_read_as_leniently_as_tensorflow_serving_does(text):
    request = parse({"instances": [{"b64": text}]})
    assert request.inputs["image_bytes"].tolist() == [b"\x00\x01"]
    assert request.row and request.signature_name == "serving_default"


@pytest.mark.parametrize("text", ["A", "AA-_", "data:image/png;base64,AAE=", "AA=E"])
def test_wrong_base64_is_refused_with_advice(text):
    with pytest.raises(RequestError, match="Unable to base64 decode.*no 'data:'"):
        parse({"instances": [{"b64": text}]})


def test_numbers_keep_their_dtype_and_shape():
    array = parse_x("floats", [[1, 2.5], [float("nan"), float("inf")]])
    assert array.dtype == np.float32 and array.shape == (2, 2)
    np.testing.assert_array_equal(array, [[1, 2.5], [np.nan, np.inf]])
    assert parse_x("flags", [[True], [False]]).tolist() == [[True], [False]]


@pytest.mark.parametrize(
    ("signature", "values"),
    [
        ("bytes", [256]),
        ("bytes", [-1]),
        ("bytes", [1.0]),
        ("bytes", [True]),
        ("bytes", ["1"]),
        ("floats", [[1e39, 0]]),
        ("floats", [[10**400, 0]]),
        ("floats", [[True, 0]]),
        ("floats", [[1, 2, 3]]),
        ("floats", [1, 2]),
        ("floats", [[1, 2], [3]]),
        ("floats", [[1, 2], 3]),
        ("floats", 3),
        ("flags", [0]),
    ],
)
def test_what_does_not_fit_is_refused(signature, values):
    with pytest.raises(RequestError, match="Expected.*'x'.*Received") as refused:
        parse_x(signature, values)
    assert refused.value.status == 400


def test_two_inputs_must_be_named():
    rows = [{"image_bytes": "a", "n": 1}, {"image_bytes": "b", "n": 2}]
    request = parse({"signature_name": "two", "instances": rows})
    assert request.inputs["n"].tolist() == [1, 2]
    for wrong in ["a"], [{"image_bytes": "a"}], [{**rows[0], "extra": 1}]:
        with pytest.raises(RequestError, match="keys image_bytes, n"):
            parse({"signature_name": "two", "instances": wrong})


@pytest.mark.parametrize("depth", [500, 100_000])
def test_deep_nesting_is_refused(depth):
    body = b'{"instances": ' + b"[" * depth + b"]" * depth + b"}"
    with pytest.raises(RequestError):
        parse(body)


def test_a_crowd_of_tiny_values_is_refused_before_it_is_parsed():
    body = b'{"instances": [' + b"[]," * protocol.MAX_VALUES + b"[]]}"
    with pytest.raises(RequestError, match="at most") as refused:
        parse(body)
    assert refused.value.status == 413


def test_row_form_needs_a_common_batch():
    outputs = {"a": np.zeros([2]), "b": np.zeros([])}
    with pytest.raises(RequestError, match="'inputs' instead"):
        protocol.encode(outputs, row=True)
    assert json.loads(protocol.encode(outputs, row=False))["outputs"]["b"] == 0.0


def test_text_that_is_not_utf8_does_not_fail_an_answer():
    outputs = {"caption": np.array([b"caf\xe9"], object)}
    answer = json.loads(protocol.encode(outputs, row=True))
    assert answer == {"predictions": ["caf\ufffd"]}


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.text("AQgw=/+", max_size=8).map(lambda text: {"b64": text}),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["b64", "x", "n", "image_bytes"]), inner)
    ),
    max_leaves=12,
)
documents = st.fixed_dictionaries(
    {},
    optional={
        "signature_name": st.sampled_from([*SPECS, "", "nothing"]) | json_values,
        "instances": st.lists(json_values, max_size=3) | json_values,
        "inputs": json_values,
    },
)
quick = hypothesis.settings(max_examples=300, deadline=None, database=None)


@quick
@hypothesis.seed(17)
@hypothesis.given(documents)
def test_any_document_is_parsed_to_fit_or_refused(document):
    try:
        request = parse(document)
    except RequestError as error:
        assert 400 <= error.status < 500 and error.message
        protocol.encode_error(error.message)
    else:
        specs = SPECS[request.signature_name]
        assert request.inputs.keys() == specs.keys()
        for name, spec in specs.items():
            array = request.inputs[name]
            assert array.dtype == spec.dtype
            assert spec.shape is None or len(spec.shape) == array.ndim


@quick
@hypothesis.seed(17)
@hypothesis.given(st.binary(max_size=64), st.integers(0, 60), st.integers(0, 60))
def test_any_bytes_are_parsed_or_refused(noise, start, length):
    good = b'{"signature_name": "floats", "instances": [[1.5, NaN], [2, -3e9]]}'
    try:
        parse(good[:start] + noise + good[start + length :])
    except RequestError as error:
        assert 400 <= error.status < 500


@quick
@hypothesis.seed(17)
@hypothesis.given(
    st.lists(st.floats(width=32), min_size=1), st.binary(max_size=9), st.booleans()
)
def test_answers_survive_the_journey(numbers, contents, row):
    array = np.array(numbers, np.float32)
    strings = np.array([contents] * len(numbers), object)
    body = protocol.encode({"x": array, "y_bytes": strings}, row)
    answer = json.loads(body)["predictions" if row else "outputs"]
    back = [r["x"] for r in answer] if row else answer["x"]
    np.testing.assert_array_equal(np.array(back, np.float32), array)
    encoded = answer[0]["y_bytes"] if row else answer["y_bytes"][0]
    request = parse({"instances": [encoded]})
    assert request.inputs["image_bytes"].tolist() == [contents]


def test_an_input_of_strings_is_called_one():
    with pytest.raises(RequestError, match=r"to be string \(input: string \[\?\]\)"):
        parse({"instances": [3]})
