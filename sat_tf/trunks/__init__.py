"""Trunks: the convolutional networks that annotations are features of."""

from sat_tf.trunks.loading import (
    is_packaged,
    made_with,
    make_network,
    save_weights,
    weights_name,
)
from sat_tf.trunks.pretrained import TRUNKS

__all__ = [
    "TRUNKS",
    "is_packaged",
    "made_with",
    "make_network",
    "save_weights",
    "weights_name",
]
