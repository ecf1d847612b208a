"""The JSON of TensorFlow Serving's REST API: request bytes <-> NumPy arrays.

Knows neither HTTP nor TensorFlow. The rules are those of TensorFlow Serving's
`json_tensor.cc`: row form (`instances` -> `predictions`) and columnar form
(`inputs` -> `outputs`), `{"b64": ...}` for bytes, `NaN` and `Infinity` unquoted.
"""

import base64
import json
import reprlib
from dataclasses import dataclass

import numpy as np
import orjson

DEFAULT_SIGNATURE = "serving_default"
_GZIP = b"\x1f\x8b"
MAX_VALUES = 2_000_000  # JSON values in a request; parsed, each takes 8 to 64 bytes


class RequestError(Exception):
    """A request that cannot be answered, with its HTTP status (4xx or 5xx)."""

    def __init__(self, message, status=400):
        """Keep the sentence for the client and the status it travels with."""
        super().__init__(message)
        self.message, self.status = message, status


@dataclass(frozen=True)
class Spec:
    """What a signature expects of a tensor; unknown sizes are None.

    `dtype` is a NumPy dtype, `object` standing for strings.
    """

    dtype: np.dtype
    shape: tuple[int | None, ...] | None

    @property
    def kind(self):
        """Name the dtype the way a client reads it."""
        return "string" if self.dtype == object else self.dtype.name

    def __str__(self):
        """Write the dtype and shape the way a client reads them."""
        return f"{self.kind} {_shape_text(self.shape)}"


@dataclass(frozen=True)
class PredictRequest:
    """A parsed `:predict` body: arrays by input name, batch first."""

    signature_name: str
    inputs: dict[str, np.ndarray]
    row: bool


def parse(body, find_inputs):
    """Read a `:predict` body (bytes) into a `PredictRequest`.

    `find_inputs(signature_name)` gives the `Spec` of every input by name, or raises
    RequestError where there is no such signature. Whatever the bytes are, the only
    exception is RequestError.
    """
    document = _load(body)
    signature_name = document.get("signature_name", DEFAULT_SIGNATURE)
    if not isinstance(signature_name, str):
        raise RequestError(
            "Expected 'signature_name' to be a string. "
            f"Received: signature_name={_short(signature_name)}. "
            f'Send "{DEFAULT_SIGNATURE}", or leave it out.'
        )
    signature_name = signature_name or DEFAULT_SIGNATURE
    specs = find_inputs(signature_name)
    keys = [key for key in ("instances", "inputs") if key in document]
    if len(keys) != 1:
        raise RequestError(
            "Expected exactly one of 'instances' (row form) or 'inputs' (columnar "
            f"form). Received: keys={_short(sorted(document))}. "
            'For one image send {"instances": [{"b64": "<base64>"}]}.'
        )
    row = keys == ["instances"]
    columns = (_from_rows if row else _from_columns)(document[keys[0]], specs)
    inputs = {name: to_array(columns[name], spec, name) for name, spec in specs.items()}
    return PredictRequest(signature_name, inputs, row)


def _load(body):
    """Parse JSON bytes into the top-level object, within bounds."""
    if sum(body.count(mark) for mark in (b",", b"[", b"{")) > MAX_VALUES:
        raise RequestError(
            f"Expected at most {MAX_VALUES} JSON values in a request. "
            "Send encoded images ({'b64': ...}), or fewer rows per request.",
            status=413,
        )
    try:
        document = json.loads(body.decode("utf-8"))
    except RecursionError:
        raise RequestError(
            "JSON Parse error: nested too deeply. Nest lists no deeper than the "
            "rank of the input."
        ) from None
    except ValueError as error:  # also not UTF-8, also an integer of 5,000 digits
        advice = 'Send UTF-8 JSON such as {"instances": [{"b64": "<base64>"}]}.'
        if body.startswith(_GZIP):
            advice = "Pack it with gzip once, and say so: 'Content-Encoding: gzip'."
        raise RequestError(f"JSON Parse error: {error}. {advice}") from None
    if not isinstance(document, dict):
        raise RequestError(
            "Expected a JSON object with 'instances' or 'inputs'. "
            f"Received: {_short(document)}. Wrap it: "
            '{"instances": [...]}.'
        )
    return document


def _is_named(value):
    """Is this JSON object a map of inputs (and not a `{"b64": ...}` leaf)?"""
    return isinstance(value, dict) and not _is_base64(value)


def _is_base64(value):
    """Is this JSON object a `{"b64": "..."}` leaf?"""
    return value.keys() == {"b64"} and isinstance(value["b64"], str)


def _from_rows(rows, specs):
    """Turn `instances` into one list per input; every row names every input."""
    if not isinstance(rows, list) or not rows:
        raise RequestError(
            "Expected 'instances' to be a list of at least one row. "
            f'Received: instances={_short(rows)}. Send {{"instances": [row, ...]}}.'
        )
    if not any(map(_is_named, rows)):
        if len(specs) > 1:
            raise _missing_names("'instances' to be a list of objects", rows[0], specs)
        return {name: rows for name in specs}
    for index, row in enumerate(rows):
        if not _is_named(row) or row.keys() != specs.keys():
            raise _missing_names(f"instances[{index}] to be an object", row, specs)
    return {name: [row[name] for row in rows] for name in specs}


def _from_columns(columns, specs):
    """Turn `inputs` into one nested list per input."""
    if not _is_named(columns):
        if len(specs) > 1:
            raise _missing_names("'inputs' to be an object", columns, specs)
        return {name: columns for name in specs}
    if not specs.keys() <= columns.keys():
        raise _missing_names("'inputs' to be an object", columns, specs)
    return columns


def _missing_names(expected, received, specs):
    """Build the error for inputs that are not named as the signature names them."""
    names = ", ".join(sorted(specs))
    return RequestError(
        f"Expected {expected} with the keys {names}. Received: {_short(received)}. "
        "GET .../metadata lists the inputs of every signature."
    )


def to_array(value, spec, name):
    """Turn a nested list into an array that fits `spec`, or raise RequestError."""
    leaves, shape = _flatten(value, name)
    if spec.shape is not None and not _fits(shape, spec.shape):
        raise RequestError(
            f"Expected input '{name}' to be {spec}. "
            f"Received: shape={_shape_text(shape)}. The first axis is the batch: "
            'send one row per image, e.g. {"instances": [row]}.'
        )
    allowed = {"b": {bool}, "f": {int, float}, "O": {str, dict}}
    wrong = set(map(type, leaves)) - allowed.get(spec.dtype.kind, {int})
    if wrong:
        culprit = next(leaf for leaf in leaves if type(leaf) in wrong)
        raise RequestError(
            f"Expected the values of input '{name}' to be {spec.kind} "
            f"(input: {spec}). Received: {_short(culprit)}. "
            "Images go as strings of bytes: {'b64': '<base64>'}."
        )
    if spec.dtype == object:
        array = np.empty(len(leaves), object)
        array[:] = [_to_bytes(leaf, name) for leaf in leaves]
    else:
        try:
            with np.errstate(over="raise"):
                array = np.array(leaves, spec.dtype)
        except (OverflowError, FloatingPointError):
            raise RequestError(
                f"Expected the values of input '{name}' to fit {spec.dtype.name}. "
                "Received a number out of its range. Scale or clip the values."
            ) from None
    return array.reshape(shape)


def _flatten(value, name):
    """Flatten a rectangular nested list: (leaves, shape)."""
    leaves, shape = [value], []
    while leaves and isinstance(leaves[0], list):
        sizes = {len(item) if isinstance(item, list) else None for item in leaves}
        if len(sizes) > 1:
            raise RequestError(
                f"Expected input '{name}' to be rectangular. Received: items of "
                f"different lengths at level {len(shape) + 1}. "
                "Give every row the same shape, or send the rows one by one."
            )
        shape.append(sizes.pop())
        leaves = [item for items in leaves for item in items]
    return leaves, tuple(shape)


def _fits(shape, expected):
    """Does a shape agree with one that may hold None?"""
    return len(shape) == len(expected) and all(
        want in (None, got) for got, want in zip(shape, expected, strict=True)
    )


def _to_bytes(leaf, name):
    """Turn a JSON string or `{"b64": ...}` into bytes."""
    if isinstance(leaf, str):
        try:
            return leaf.encode("utf-8")
        except UnicodeEncodeError:  # half of a surrogate pair
            raise RequestError(
                f"Expected input '{name}' to be Unicode text. Received: "
                f"{_short(leaf)}. Send bytes as {{'b64': '<base64>'}}."
            ) from None
    try:
        if not _is_base64(leaf):
            raise ValueError("not an object with the one key 'b64'")
        text = "".join(leaf["b64"].split()).rstrip("=")  # padding is optional
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError as error:
        raise RequestError(
            "Unable to base64 decode: expected {'b64': '<standard base64>'} in input "
            f"'{name}'. Received: {_short(leaf)} ({error}). Encode the file's bytes "
            "once with standard base64 (+ and /), with no 'data:' prefix."
        ) from None


def encode(outputs, row):
    """Write named arrays as the JSON (bytes) of a `:predict` answer.

    Row form needs every output to have the batch as first axis; a single output is
    unnamed. Strings are base64 objects only where the name ends in `_bytes`.
    """
    names = sorted(outputs)
    if not row:
        values = {name: _jsonable(outputs[name], name) for name in names}
        return orjson.dumps({"outputs": _unnamed(values)}, option=_ORJSON)
    sizes = {name: outputs[name].shape[:1] for name in names}
    if len(set(sizes.values())) != 1 or () in sizes.values():
        raise RequestError(
            "Expected every output to have the batch as its first axis, which row "
            f"form needs. Received: {sizes}. Send 'inputs' instead of 'instances'."
        )
    predictions = [
        _unnamed({name: _jsonable(outputs[name][i], name) for name in names})
        for i in range(*sizes[names[0]])
    ]
    return orjson.dumps({"predictions": predictions}, option=_ORJSON)


_ORJSON = orjson.OPT_SERIALIZE_NUMPY


def _unnamed(values):
    """Drop the name where there is only one output."""
    return next(iter(values.values())) if len(values) == 1 else values


def _jsonable(value, name):
    """Prepare an array, or a row of one, for `orjson`."""
    if isinstance(value, bytes) or value.dtype == object:
        value = value if isinstance(value, bytes) else value.tolist()
        return _strings(value, as_bytes=name.endswith("_bytes"))
    if value.dtype.kind == "f" and not np.isfinite(value).all():
        return orjson.Fragment(json.dumps(value.tolist()))  # NaN, not null
    return value if value.ndim else value[()]


def _strings(value, as_bytes):
    """Decode nested lists of bytes to text, or to base64 objects."""
    if isinstance(value, list):
        return [_strings(item, as_bytes) for item in value]
    if as_bytes:
        return {"b64": base64.b64encode(value).decode("ascii")}
    return value.decode("utf-8", errors="replace")


def encode_error(message):
    """Write the JSON (bytes) of an error."""
    return json.dumps({"error": message}).encode("ascii")


def _short(value):
    """Write a received value in at most a line."""
    text = reprlib.repr(value)
    return text if len(text) <= 120 else text[:117] + "..."


def _shape_text(shape):
    """Write a shape as `[?, 224, 224, 3]`."""
    if shape is None:
        return "[any shape]"
    return "[" + ", ".join("?" if size is None else str(size) for size in shape) + "]"
