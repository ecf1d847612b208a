import keras
import numpy as np
import pytest
import tensorflow as tf

from sat_tf.model.dense import Dense


@pytest.mark.parametrize(
    "open_shape", [(None, 4), (3, None, 4), (None, 3, 4), (None, None, 4), (2, 1, 3, 4)]
)
@pytest.mark.parametrize(
    ("policy", "tolerance"), [("float32", 1e-6), ("mixed_bfloat16", 2**-5)]
)
def test_is_keras_layer_whatever_the_rank(open_shape, policy, tolerance):
    rng = np.random.default_rng(17)
    shape = [3 if size is None else size for size in open_shape]
    inputs = tf.constant(rng.normal(size=shape), "float32")
    ours = Dense(5, activation="tanh", dtype=policy)
    theirs = keras.layers.Dense(5, activation="tanh", dtype=policy)
    for layer in (ours, theirs):
        layer.build((None, 4))
    theirs.set_weights([rng.normal(size=(4, 5)), rng.normal(size=5)])
    ours.set_weights(theirs.get_weights())

    @tf.function(input_signature=[tf.TensorSpec(open_shape)], autograph=False)
    def both(x):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(x)
            outputs = ours(x), theirs(x)
        slopes = [tape.gradient(y, x) for y in outputs]
        return outputs, slopes

    (found, expected), (slope, expected_slope) = both(inputs)
    assert found.dtype == expected.dtype
    found, expected = (tf.cast(x, tf.float32) for x in (found, expected))
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(slope, expected_slope, rtol=tolerance, atol=tolerance)


def test_asks_for_no_shape_where_one_axis_is_open():
    layer = Dense(5)
    layer.build((None, 4))
    graph = tf.function(layer).get_concrete_function(tf.TensorSpec([3, None, 4])).graph
    kinds = {operation.type for operation in graph.get_operations()}
    assert "MatMul" in kinds and "Shape" not in kinds
