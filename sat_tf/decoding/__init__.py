"""Captions from a step: greedy, sampled or beam search, in one in-graph loop.

`decode` runs any `step` (the captioner's, or a toy's) for a batch of images with
stock TensorFlow operations only, so the same loop serves `generate` and TF Serving.
What differs between decoders is how the next words are picked (`DECODERS`); what
differs between location rules is where the model looks (`LOCATION_RULES`).
"""

from sat_tf.decoding.locations import LOCATION_RULES, selector
from sat_tf.decoding.loop import Decoded, decode
from sat_tf.decoding.options import SAMPLING, DecodingOptions
from sat_tf.decoding.words import DECODERS

__all__ = [
    "DECODERS",
    "LOCATION_RULES",
    "SAMPLING",
    "Decoded",
    "DecodingOptions",
    "decode",
    "selector",
]
