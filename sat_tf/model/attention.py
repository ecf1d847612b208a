"""f_att: how well each location suits the next word (eq. 4-5). No sampling here."""

import functools

import keras
import tensorflow as tf


# The [S, B, L, A] temporary costs more than all else in a step, and XLA never writes
# it to memory. The shapes do not depend on the caption's length, so this compiles
# once per batch size.
@tf.function(jit_compile=True, autograph=False)
def _fused_scores(projection, query, vector):
    hidden = tf.tanh(projection[None] + query[:, :, None])
    hidden, vector = tf.cast(hidden, tf.float32), tf.cast(vector, tf.float32)
    return tf.einsum("sbla,a->sbl", hidden, vector)


def _scores(projection, query, vector):
    # One beam at a time: at K = 3, B = 32 the whole temporary is mapped and faulted in
    # anew at every word, which takes 2.6 times as long.
    beams = [
        tf.linalg.matvec(
            tf.cast(tf.tanh(projection + one[:, None]), tf.float32),
            tf.cast(vector, tf.float32),
        )
        for one in tf.unstack(query)
    ]
    return tf.stack(beams)


def scores(projection, query, vector, fused=False):
    """v . tanh(projection_i + query), f_att at every location (eq. 4).

    Args:
        projection: `[B, L, A]`. query: `[S, B, A]`. vector: `[A]`.
        fused: compiled with XLA, for training; exported graphs must not be.

    Returns:
        float32 `[S, B, L]`: what softmax takes is never rounded to less.
    """
    return (_fused_scores if fused else _scores)(projection, query, vector)


@keras.saving.register_keras_serializable("sat_tf")
class Attention(keras.layers.Layer):
    """f_att, a perceptron with one hidden layer (Xu et al. 2015, eq. 4).

    The authors' additional scalar bias is left out: softmax cancels it.

    Args:
        size: A, width of the hidden layer.
    """

    def __init__(self, size=512, **kwargs):
        super().__init__(**kwargs)
        self.size = size
        dense = functools.partial(keras.layers.Dense, size, dtype=self.dtype_policy)
        self.project = dense(name="project_annotations")
        self.query = dense(use_bias=False, name="project_hidden")

    def build(self, annotations_shape, hidden_shape):
        """Creates the weights from the last axes of the two inputs."""
        self.project.build(annotations_shape)
        self.query.build(hidden_shape)
        self.vector = self.add_weight(
            shape=(self.size,), initializer=self._vector_initializer, name="vector"
        )
        self.built = True

    def _vector_initializer(self, shape, dtype=None):
        glorot = keras.initializers.GlorotUniform()
        return keras.ops.reshape(glorot((*shape, 1), dtype=dtype), shape)

    def call(self, projection, hidden):
        """Location logits e (eq. 4); their softmax is alpha (eq. 5).

        Args:
            projection: `project(annotations)`, `[B, L, A]`, once per image.
            hidden: `[S, B, n]`, h_{t-1}.

        Returns:
            float32 logits `[S, B, L]`.
        """
        vector = tf.cast(tf.convert_to_tensor(self.vector), projection.dtype)
        return scores(projection, self.query(hidden), vector)

    def get_config(self):
        """Constructor arguments."""
        return {**super().get_config(), "size": self.size}
