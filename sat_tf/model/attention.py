"""f_att: how well each location suits the next word (eq. 4-5). No sampling here.

Training, which goes over whole captions, has it compiled: `sat_tf.model.fused`.
"""

import functools

import keras
import tensorflow as tf

from sat_tf.model.dense import Dense
from sat_tf.runtime.ranges import Size, check


def scores(projection, query, vector):
    """v . tanh(projection_i + query), f_att at every location (eq. 4).

    Args:
        projection: `[B, L, A]`. query: `[S, B, A]`. vector: `[A]`.

    Returns:
        float32 `[S, B, L]`: what softmax takes is never rounded to less.
    """
    places, size = tf.shape(projection)[:-1], projection.shape[-1]
    vector = tf.cast(vector, tf.float32)[:, None]

    def of_beam(one):
        hidden = tf.cast(tf.tanh(projection + one[:, None]), tf.float32)
        # Flat: with a batch axis, few locations take several times as long.
        return tf.reshape(tf.matmul(tf.reshape(hidden, [-1, size]), vector), places)

    # One beam at a time: at K = 3, B = 32 the whole temporary is mapped and faulted in
    # anew at every word, which takes 2.6 times as long.
    return tf.stack([of_beam(one) for one in tf.unstack(query)])


@keras.saving.register_keras_serializable("sat_tf")
class Attention(keras.layers.Layer):
    """f_att, a perceptron with one hidden layer (Xu et al. 2015, eq. 4).

    The authors' additional scalar bias is left out: softmax cancels it.

    Args:
        size: A, width of the hidden layer.
    """

    def __init__(self, size=512, **kwargs):
        super().__init__(**kwargs)
        check(Size, size=size)
        self.size = size
        dense = functools.partial(Dense, size, dtype=self.dtype_policy)
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
