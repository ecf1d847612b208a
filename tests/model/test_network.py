"""One word of decoding, whichever way the locations are read."""

import numpy as np
import pytest
import tensorflow as tf
from toy import batch, toy

from sat_tf.decoding import selector


@pytest.mark.parametrize("rule", ["argmax", "sample", "expected"])
@pytest.mark.parametrize("dtype, atol", [("float32", 1e-5), ("mixed_bfloat16", 0.05)])
def test_locations_read_once_say_what_those_read_for_each_word_say(rule, dtype, atol):
    """More words than locations, of three captions each: the locations are read."""
    model = toy(dtype=dtype, output_activation="tanh")
    data = batch(model, (3, 3, 2))
    outputs = []
    for words in (model.encoder.locations, model.encoder.locations + 1):
        memory, state = model.network.start(data["annotations"], words=words)
        assert ("read" in memory) == (words > model.encoder.locations)
        state = [tf.repeat(x, 3, axis=0) for x in state]
        select = selector(rule, tf.constant([17, 17]))

        def choose(logits, select=select):
            return select(logits, 0)

        choose.one_hot = rule != "expected"
        tokens = tf.random.stateless_uniform([3, 3], [1, 2], 0, 7, tf.int32)
        outputs.append(model.network.step(tokens, state, memory, choose))
    for found, wanted in zip(*map(tf.nest.flatten, outputs), strict=True):
        np.testing.assert_allclose(
            tf.cast(found, tf.float32), tf.cast(wanted, tf.float32), atol=atol
        )
