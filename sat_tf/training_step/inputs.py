"""What `fit`, `evaluate` and their like take, and a sentence for what they do not."""

import inspect

import keras
import tensorflow as tf

from sat_tf.training_step import claims

_WORDS_ARE_TARGETS = (
    "The words of a caption are both what goes in and what is to be said, and every "
    "caption counts once: pass one dict, with the words as tokens."
)
REFUSED = {
    "y": _WORDS_ARE_TARGETS,
    "sample_weight": _WORDS_ARE_TARGETS,
    "class_weight": _WORDS_ARE_TARGETS,
    "loss": "Leave it out: the captioner's estimator says what is minimised.",
    "loss_weights": "Leave it out: the captioner's estimator says what is minimised.",
    "metrics": "Leave it out: fit and evaluate show the log-likelihood of the words, "
    "and sat_tf.metrics scores captions from generate.",
    "weighted_metrics": "Leave it out: fit and evaluate show the log-likelihood of the "
    "words, and sat_tf.metrics scores captions from generate.",
}


def arguments(method, args, kwargs):
    """The arguments of a call of Keras' `method`, by name.

    Raises:
        ValueError: one of them could not mean anything to a captioner.
    """
    given = inspect.signature(method).bind(*args, **kwargs).arguments
    given |= given.pop("kwargs", {})
    for name, why in REFUSED.items():
        if given.get(name) is not None:
            raise ValueError(
                f"Expected no {name} in {method.__name__}. "
                f"Received: {name}={_shown(given[name])}. {why}"
            )
    return given


def data_arguments(method, args, kwargs, network):
    """As `arguments`, of a method that takes data: its batches as far as they show.

    Args:
        network: the `Network` that the data are for.

    Raises:
        ValueError: one of them could not mean anything to a captioner.
    """
    given = arguments(method, args, kwargs)
    for name in ("x", "validation_data"):
        data = given.get(name)
        batches = isinstance(data, tf.data.Dataset)
        data = data.element_spec if batches else data
        if isinstance(data, dict):
            _check_shapes(data, _shapes(network))
            if not batches and "batch_size" in inspect.signature(method).parameters:
                _check_lengths(data)
    return given


def batch_of(data, network):
    """The batch, a dict, of what Keras hands to a step.

    Args:
        data: the dict, or a tuple with it alone. network: the `Network` it is for.

    Raises:
        ValueError: it is not what a captioner is trained on.
        InvalidArgumentError: its values are not, see `claims.explained`.
    """
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    if y is not None or sample_weight is not None:
        raise ValueError(
            "Expected batches that are one dict. Received: a tuple of "
            f"{'two' if sample_weight is None else 'three'}. {_WORDS_ARE_TARGETS}"
        )
    wanted = _shapes(network)
    _check_shapes(x, wanted)
    batch = {name: tf.convert_to_tensor(x[name]) for name in wanted if name in x}
    for name, value in batch.items():
        if value.shape.rank is None:
            # Of a data set that does not know, or after a batch of another rank.
            batch[name] = tf.ensure_shape(value, wanted[name])
    return {**x, **claims.checked(batch, network.decoder.vocabulary_size)}


def _shapes(network):
    """What shapes the tensors of a batch for a `Network` have, by name."""
    encoder = network.encoder
    locations = (encoder.locations, encoder.size)
    shapes = {
        "tokens": (None, None),
        "annotations": (None, *locations),
        "rows": (None,),
        "inputs": (None, None),
        "location_bias": (None, None, encoder.locations),
    }
    if encoder.network is not None:
        shapes["image"] = (None, *encoder.image_size, 3)
    return shapes


def _check_shapes(x, wanted):
    """Raises `ValueError` where names, kinds or shapes of a batch are wrong."""
    keys = set(x) if isinstance(x, dict) else set()
    if "tokens" not in keys or not keys & wanted.keys() & {*claims.IMAGES}:
        shown = ", ".join(sorted(map(str, keys))) if keys else _shown(x)
        raise ValueError(
            'Expected a dict of "image" (or "annotations") and "tokens". '
            f"Received: {shown}. Make the tokens of captions with "
            "captioner.vocabulary; for captions of images, call generate(images)."
        )
    for name, shape in wanted.items():
        if name in keys:
            _check_shape(name, x[name], shape)


def _check_lengths(x):
    """Raises `ValueError` where Keras cannot cut arrays into batches."""
    lengths = {n: v.shape[0] for n, v in x.items() if len(getattr(v, "shape", ()))}
    if len({*lengths.values()}) > 1:
        shown = ", ".join(f"{name} of {length}" for name, length in lengths.items())
        raise ValueError(
            f"Expected arrays of one length, that of tokens. Received: {shown}. "
            "Captions that share images come in batches: of a data set, with rows."
        )


def _check_shape(name, value, wanted):
    fix = "Make it an array of numbers."
    if name == "tokens":
        fix = "Make it an array of what captioner.vocabulary says, padded with 0."
    if not hasattr(value, "shape") or not hasattr(value, "dtype"):
        received = f"a {type(value).__name__}"
    elif isinstance(value, tf.RaggedTensor | tf.RaggedTensorSpec):
        received, fix = "a ragged tensor", "Pad it with 0: to_tensor() does."
    elif isinstance(value, tf.SparseTensor | tf.SparseTensorSpec):
        received, fix = "a sparse tensor", "Call tf.sparse.to_dense."
    elif not _is_number(value.dtype):
        received = f"{name}.dtype={getattr(value.dtype, 'name', value.dtype)}"
    elif tf.TensorShape(wanted).is_compatible_with(value.shape):
        if tf.TensorShape(value.shape).rank is None or 0 not in value.shape[1:]:
            return
        received, fix = f"{name}.shape={_as_text(value.shape)}", "None may be empty."
    else:
        received = f"{name}.shape={_as_text(value.shape)}"
        fix = "Bring images to encoder.image_size with sat_tf.images.resize."
        if name != "image":
            fix = "Make them of that shape."
        if len(value.shape) == len(wanted) - 1:
            fix = "Make batches of the data set with .batch(32)."
    raise ValueError(
        f"Expected {name} of shape {_as_text(wanted)}. Received: {received}. {fix}"
    )


def _is_number(dtype):
    try:
        dtype = tf.as_dtype(dtype)
    except TypeError:
        return False
    return dtype.is_integer or dtype.is_floating


def _as_text(shape):
    return f"[{', '.join('any' if n is None else str(n) for n in tuple(shape))}]"


def _shown(value):
    """A value as it fits on a line."""
    if hasattr(value, "shape"):
        return f"{type(value).__name__} of shape {tuple(value.shape)}"
    text = repr(value)
    return text if len(text) < 80 else type(value).__name__
