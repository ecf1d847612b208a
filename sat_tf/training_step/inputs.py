"""What `fit`, `evaluate` and their like take, and a sentence for what they do not."""

import inspect

import keras
import tensorflow as tf

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


def batch_of(data, encoder):
    """The batch, a dict, of what Keras hands to a step.

    Args:
        data: the dict, or a tuple with it alone. encoder: whose images they are.

    Raises:
        ValueError: it is not what a captioner is trained on.
    """
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    if y is not None or sample_weight is not None:
        raise ValueError(
            "Expected batches that are one dict. Received: a tuple of "
            f"{'two' if sample_weight is None else 'three'}. {_WORDS_ARE_TARGETS}"
        )
    locations = (encoder.locations, encoder.size)
    wanted = {"tokens": (None, None), "annotations": (None, *locations)}
    if encoder.network is not None:
        wanted["image"] = (None, *encoder.image_size, 3)
    keys = set(x) if isinstance(x, dict) else set()
    if "tokens" not in keys or not keys & {"image", "annotations"}:
        shown = ", ".join(sorted(keys)) if isinstance(x, dict) else _shown(x)
        raise ValueError(
            'Expected a dict of "image" (or "annotations") and "tokens". '
            f"Received: {shown}. Make the tokens of captions with "
            "captioner.vocabulary; for captions of images, call generate(images)."
        )
    shaped = {n: _shaped(n, x[n], wanted[n]) for n in wanted if n in keys}
    return {**x, **shaped}


def _shaped(name, value, wanted):
    if not hasattr(value, "shape"):
        received, fix = f"a {type(value).__name__}", "Make it an array, padded with 0."
    elif tf.TensorShape(wanted).is_compatible_with(value.shape):
        # Of a data set that does not know, or after a batch of another rank.
        unknown = tf.TensorShape(value.shape).rank is None
        return tf.ensure_shape(value, wanted) if unknown else value
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


def _as_text(shape):
    return f"[{', '.join('any' if n is None else str(n) for n in tuple(shape))}]"


def _shown(value):
    """A value as it fits on a line."""
    if hasattr(value, "shape"):
        return f"{type(value).__name__} of shape {tuple(value.shape)}"
    text = repr(value)
    return text if len(text) < 80 else type(value).__name__
