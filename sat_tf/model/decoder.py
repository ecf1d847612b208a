"""The LSTM that speaks: initial state, recurrence and deep output (eq. 1-3, 7)."""

import functools

import keras
import tensorflow as tf

from sat_tf.model.dense import Dense
from sat_tf.model.initial_state import make_initial_state
from sat_tf.model.recurrence import lstm
from sat_tf.runtime.ranges import Rate, Size, check


@keras.saving.register_keras_serializable("sat_tf")
class Decoder(keras.layers.Layer):
    """Conditional LSTM with scalar gate beta and deep output (Xu et al. 2015, 3.1.2).

    Args:
        vocabulary_size: K in the paper, V here.
        embedding_size: m.
        hidden_size: n.
        dropout: rate, on h before the deep output and on its sum (the authors' places).
        input_dropout: rate, on the embedding of the words that go in.
        output_activation: `None` as eq. 7, `"tanh"` as the authors' code.
        initial_state: an `InitialState`, or a key of `INITIAL_STATES` for its defaults.
    """

    def __init__(
        self,
        vocabulary_size,
        *,
        embedding_size=512,
        hidden_size=512,
        dropout=0.0,
        input_dropout=0.0,
        output_activation=None,
        initial_state="from_mean",
        **kwargs,
    ):
        super().__init__(**kwargs)
        check(Size, vocabulary_size=vocabulary_size)
        check(Size, embedding_size=embedding_size, hidden_size=hidden_size)
        check(Rate, dropout=dropout, input_dropout=input_dropout)
        self.vocabulary_size = vocabulary_size
        self.embedding_size = embedding_size
        self.hidden_size = hidden_size
        self.dropout = dropout
        self.input_dropout = input_dropout
        self.output_activation = output_activation

        n, m, dtype = hidden_size, embedding_size, self.dtype_policy
        dense = functools.partial(Dense, dtype=dtype)
        drop = functools.partial(keras.layers.Dropout, dtype=dtype)
        # Looked up and, on the way back, summed over all places of a word: in float32.
        self.embedding = keras.layers.Embedding(
            vocabulary_size, m, dtype="float32", name="embedding"
        )
        self.initial_state = make_initial_state(initial_state, dtype)
        self.gates_word = dense(
            4 * n, bias_initializer=self._unit_forget_bias, name="gates_word"
        )
        self.gates_hidden = dense(
            4 * n,
            use_bias=False,
            kernel_initializer=self._orthogonal_blocks,
            name="gates_hidden",
        )
        self.gates_context = dense(4 * n, use_bias=False, name="gates_context")
        self.beta = dense(1, activation="sigmoid", name="beta")
        self.output_hidden = dense(m, name="output_hidden")
        self.output_context = dense(m, use_bias=False, name="output_context")
        self.output_word = dense(vocabulary_size, name="output_word")
        self.activation = keras.activations.get(output_activation)
        self.drop_word = drop(input_dropout, name="drop_word")
        self.drop_hidden = drop(dropout, name="drop_hidden")
        self.drop_output = drop(dropout, name="drop_output")

    def build(self, annotations_shape):
        """Creates all weights from D, the last axis of the annotations."""
        context = (None, annotations_shape[-1])
        hidden, word = (None, self.hidden_size), (None, self.embedding_size)
        self.embedding.build((None,))
        self.initial_state.build(annotations_shape, self.hidden_size)
        for layer in (self.gates_context, self.output_context):
            layer.build(context)
        for layer in (self.gates_hidden, self.beta, self.output_hidden):
            layer.build(hidden)
        for layer in (self.gates_word, self.output_word):
            layer.build(word)
        self.built = True

    def _unit_forget_bias(self, shape, dtype=None):
        n = shape[0] // 4
        gates = [keras.ops.zeros(n, dtype)] * 4
        gates[1] = keras.ops.ones(n, dtype)
        return keras.ops.concatenate(gates)

    def _orthogonal_blocks(self, shape, dtype=None):
        blocks = [
            keras.initializers.Orthogonal()((shape[0], shape[0]), dtype=dtype)
            for _ in range(4)
        ]
        return keras.ops.concatenate(blocks, axis=-1)

    def embed(self, previous, training=False):
        """E y_{t-1} `[.., m]`; the id 0 before the first word is the zero vector."""
        words = tf.cast(self.embedding(previous), self.compute_dtype)
        words = self.drop_word(words, training=training)
        return tf.where((previous > 0)[..., None], words, tf.zeros_like(words))

    def read(self, seen):
        """What eq. 1 and eq. 7 take from annotations or contexts `[.., D]`.

        Returns:
            their parts of the gates, `[.., 4n]`, and of the words, `[.., m]`.
        """
        return self.gates_context(seen), self.output_context(seen)

    def gate(self, context, hidden):
        """beta_t z_t with beta_t = sigma(f_beta(h_{t-1})) (4.2.1), and beta `[S, B]`.

        Both shaped as given: context `[S, B, D]`, hidden `[S, B, n]`.
        """
        beta = self.beta(hidden)
        return beta * context, tf.squeeze(beta, axis=-1)

    def recur(self, embedded, seen, hidden, cell):
        """One step of the LSTM (eq. 1-3).

        Args:
            embedded: E y_{t-1}, `[S, B, m]`. seen: what the gates take from the gated
                z_t, `gates_context` of it, `[S, B, 4n]`.
            hidden, cell: `[S, B, n]`.

        Returns:
            h_t and c_t, `[S, B, n]`.
        """
        gates = self.gates_word(embedded) + self.gates_hidden(hidden) + seen
        return lstm(gates, cell)

    def logits(self, embedded, hidden, seen, training=False):
        """L_o (E y_{t-1} + L_h h_t + L_z z_t), the deep output (eq. 7).

        Args:
            embedded: `[.., m]`, E y_{t-1}; hidden: `[.., n]`; seen: `output_context` of
                the gated z_t, `[.., m]`.
            training: dropout on.

        Returns:
            float32 word logits `[.., V]`.
        """
        hidden = self.drop_hidden(hidden, training=training)
        summed = embedded + self.output_hidden(hidden) + seen
        summed = self.drop_output(self.activation(summed), training=training)
        return tf.cast(self.output_word(summed), tf.float32)

    def get_config(self):
        """Constructor arguments."""
        return {
            **super().get_config(),
            "vocabulary_size": self.vocabulary_size,
            "embedding_size": self.embedding_size,
            "hidden_size": self.hidden_size,
            "dropout": self.dropout,
            "input_dropout": self.input_dropout,
            "output_activation": self.output_activation,
            "initial_state": keras.saving.serialize_keras_object(self.initial_state),
        }
