"""One loaded SavedModel and its signatures, as functions of NumPy arrays."""

import asyncio
import contextlib
import json
import logging
import threading

import numpy as np
import tensorflow as tf
from google.protobuf import json_format
from tensorflow.core.protobuf import saved_model_pb2

from sat_tf.runtime.files import whole
from sat_tf.serving import screening
from sat_tf.serving.batching import Batcher
from sat_tf.serving.protocol import RequestError, Spec

_IMAGES = "image_bytes"
_WARMING = 3  # runs; after one the next still takes a fifth longer, after three a tenth
_log = logging.getLogger(__name__)


class Servable:
    """One loaded version of one model."""

    def __init__(self, name, path, at_once=1):
        """Load the SavedModel in `path`, a pathlib.Path named by a version number.

        Up to `at_once` batches of a signature run at once.
        """
        self.name, self.version = name, int(path.name)
        self.path = path
        self._model = tf.saved_model.load(str(path), tags=["serve"])
        self._signatures = {
            key: _Signature(function, name, at_once)
            for key, function in self._model.signatures.items()
        }
        # Read now: while the last requests are answered, the folder may be gone.
        self.preprocessing = _preprocessing(path)
        self.signature_def = _signature_def(path)
        self._users = 0
        self._idle = threading.Condition()

    @property
    def signatures(self):
        """Names of the signatures, sorted."""
        return sorted(self._signatures)

    def inputs(self, signature_name):
        """Give the `Spec` of every input of a signature by name."""
        if signature_name not in self._signatures:
            raise RequestError(
                f'Serving signature name: "{signature_name}" not found in signature '
                f"def. Expected one of: {', '.join(self.signatures)}. "
                "Leave 'signature_name' out for the default."
            )
        return self._signatures[signature_name].specs

    async def predict(self, request, max_pixels):
        """Answer a `PredictRequest` with arrays by output name.

        Images whose header is refused never reach the graph, nor do those of another
        size than a model that resizes nothing was made for. Where only some images of
        a request are bad, their `error` says so; where all are, RequestError does.
        """
        signature = self._signatures[request.signature_name]
        inputs, refusals = request.inputs, []
        if _IMAGES in inputs and inputs[_IMAGES].dtype == object:
            notes = "error" in signature.outputs
            images, refusals = await asyncio.to_thread(
                screening.screen, inputs[_IMAGES], max_pixels, notes, self._only_size()
            )
            inputs = {**inputs, _IMAGES: images}
        try:
            outputs = await signature.answer(inputs)
        except tf.errors.OpError as error:
            raise _request_error(error) from error
        if refusals and "error" in outputs:
            outputs["error"] = screening.merge(outputs["error"], refusals)
        return outputs

    def _only_size(self):
        """Width and height of the images that a model without resizing takes."""
        if self.preprocessing.get("resize_mode") == "none":
            return tuple(self.preprocessing["image_size"][::-1])
        return None

    @contextlib.contextmanager
    def in_use(self):
        """Keep this version loaded while a request runs."""
        with self._idle:
            self._users += 1
        try:
            yield self
        finally:
            with self._idle:
                self._users -= 1
                self._idle.notify_all()

    def wait_until_idle(self):
        """Return once no request uses this version any more."""
        with self._idle:
            self._idle.wait_for(lambda: self._users == 0)

    def warm(self):
        """Run every signature, so that no request pays for the first runs."""
        for name, signature in self._signatures.items():
            try:
                for _ in range(_WARMING):
                    signature(signature.example())
            except Exception as error:  # warming is a courtesy, never a condition
                _log.debug("could not warm %s of %s: %s", name, self.path, error)


class _Signature:
    """A signature as a function of NumPy arrays, and a `Batcher` in front of it."""

    def __init__(self, function, model_name, at_once):
        specs = function.structured_input_signature[1]
        self.specs = {name: _spec(spec) for name, spec in specs.items()}
        self.outputs = {
            name: _spec(spec) for name, spec in function.structured_outputs.items()
        }
        self._function = function
        self._joins = self._can_batch()
        self._batcher = Batcher(
            self,
            screening.MAX_IMAGES,
            model_name,
            at_once=at_once,
            joins=self._joins,
            cuts=self._can_be_cut(),
        )

    async def answer(self, inputs):
        """Run arrays by input name, together with other callers' where possible."""
        sizes = {name: len(array) for name, array in inputs.items() if array.ndim}
        if self._joins and len(set(sizes.values())) > 1:
            raise RequestError(
                "Expected inputs with the same number of rows. "
                f"Received: {sizes}. Send one value of every input per row."
            )
        return await self._batcher(inputs)

    def _can_batch(self):
        """Rows of different callers can stand in one batch: only axis 0 is open."""
        return all(
            spec.shape and spec.shape[0] is None and None not in spec.shape[1:]
            for spec in self.specs.values()
        ) and all(
            spec.shape and spec.shape[0] is None for spec in self.outputs.values()
        )

    def _can_be_cut(self):
        """Rows of every part have one shape: not as long as the longest of theirs."""
        return all(
            spec.shape and None not in spec.shape[1:] for spec in self.outputs.values()
        )

    def __call__(self, inputs):
        """Run arrays by input name to arrays by output name; raises tf.errors."""
        tensors = {
            name: tf.constant(inputs[name], _dtype(spec))
            for name, spec in self.specs.items()
        }
        outputs = self._function(**tensors)
        return {name: value.numpy() for name, value in outputs.items()}

    def example(self):
        """Make up one row of input: a grey photograph, or zeros."""
        jpeg = tf.io.encode_jpeg(np.full([256, 256, 3], 127, np.uint8)).numpy()

        def fill(name, spec):
            shape = [1, *(size or 1 for size in spec.shape[1:])]
            if spec.dtype == object:
                return np.full(shape, jpeg if name == _IMAGES else b"", object)
            return np.zeros(shape, spec.dtype)

        return {name: fill(name, spec) for name, spec in self.specs.items()}


def _preprocessing(path):
    """Read what an export says of its resizing: `image_size`, `resize_mode`."""
    file = path / "assets.extra" / "preprocessing.json"
    if not file.is_file():
        return {"image_size": [224, 224], "resize_mode": "crop"}
    wanted = "image_size and resize_mode, as an export writes them"
    with whole(file, wanted, "Export the model again, or copy it again."):
        said = json.loads(file.read_bytes())
        height, width = map(int, said["image_size"])
        return {"image_size": [height, width], "resize_mode": said["resize_mode"]}


def _signature_def(path):
    """Read the SignatureDefs as the JSON-ready dict of the metadata API."""
    proto = saved_model_pb2.SavedModel.FromString(
        (path / "saved_model.pb").read_bytes()
    )
    return {
        name: json_format.MessageToDict(
            definition,
            preserving_proto_field_name=True,
            always_print_fields_with_no_presence=True,
        )
        for name, definition in proto.meta_graphs[0].signature_def.items()
    }


def _spec(spec):
    """Turn a tf.TensorSpec into a `Spec`."""
    dtype = object if spec.dtype == tf.string else spec.dtype.as_numpy_dtype
    shape = None if spec.shape.rank is None else tuple(spec.shape.as_list())
    return Spec(np.dtype(dtype), shape)


def _dtype(spec):
    return tf.string if spec.dtype == object else tf.as_dtype(spec.dtype)


_STATUSES = {
    tf.errors.InvalidArgumentError: 400,
    tf.errors.FailedPreconditionError: 400,
    tf.errors.OutOfRangeError: 400,
    tf.errors.ResourceExhaustedError: 429,
    tf.errors.UnavailableError: 503,
    tf.errors.UnimplementedError: 501,
}


def _request_error(error):
    """Turn TensorFlow's error into ours, with TensorFlow Serving's status."""
    status = _STATUSES.get(type(error), 500)
    # "Graph execution error: ...", the reason on a line of its own, "[[{{node ...".
    lines = error.message.partition("[[{{node")[0].strip().splitlines()
    reason = lines[-1][:500] if lines else type(error).__name__
    advice = "Check the input against GET .../metadata." if status == 400 else ""
    advice = "Try again in a moment." if status in (429, 503) else advice
    return RequestError(f"The model failed: {reason} {advice}".strip(), status)
