"""The recurrence over a whole caption, with back-propagation through time by hand.

`tf.while_loop` can be differentiated by TensorFlow, but then every weight gradient
is accumulated word by word: T thin matrix products and T passes over the largest
tensors. By hand each is one product over all words after the loop, and the loop only
carries what really flows through time: of f_att the query's gradient, while that of the
projection waits until every word's is known. What has to go over all locations is
compiled, see `fused`. `tests/model/test_recurrence.py` holds this gradient against
TensorFlow's own.

In mixed precision the large products are bfloat16. Float32 are what is added to word
by word (the cell; on the way back the gradients of the cell and of f_att) and the
logits and weights of the locations, as softmax and the score term are made of them.
"""

from typing import NamedTuple

import tensorflow as tf

from sat_tf.model import fused


class Inputs(NamedTuple):
    """What the recurrence depends on; the gradient has the same fields.

    B captions, T words, L locations of D features, A attention units, n hidden units,
    S attention samples.
    """

    gates_word: tf.Tensor
    """`[T, B, 4n]`, the words' share of the gates, bias included."""
    annotations: tf.Tensor
    """`[B, L, D]`."""
    projection: tf.Tensor
    """`[B, L, A]`, the annotations' share of f_att."""
    hidden: tf.Tensor
    """`[S, B, n]`, h_0."""
    cell: tf.Tensor
    """float32 `[S, B, n]`, c_0."""
    query: tf.Tensor
    """`[n, A]`, the hidden state's share of f_att."""
    vector: tf.Tensor
    """`[A]`."""
    beta: tf.Tensor
    """`[n, 1]`."""
    beta_bias: tf.Tensor
    """`[1]`."""
    gates_hidden: tf.Tensor
    """`[n, 4n]`."""
    gates_context: tf.Tensor
    """`[D, 4n]`."""
    location_bias: tf.Tensor
    """float32 `[T, B, L]`, added to e_t, the same for all samples."""


class Outputs(NamedTuple):
    """What was spoken with and looked at, all steps."""

    hidden: tf.Tensor
    """`[T, S, B, n]`, h_t."""
    context: tf.Tensor
    """`[T, S, B, D]`, beta_t z_t."""
    logits: tf.Tensor
    """float32 `[T, S, B, L]`, e_t."""
    weights: tf.Tensor
    """float32 `[T, S, B, L]`, what `select` made of them."""
    cell: tf.Tensor
    """`[T, S, B, n]`, c_{t-1}: the cell each step started from."""


def unroll(inputs, select, one_hot):
    """Runs eq. 1-6 over the words of captions.

    Args:
        inputs: `Inputs`.
        select: (logits `[S, B, L]`, t) -> weights `[S, B, L]`; called again on the way
            back, so it must draw from a stateless seed.
        one_hot: whether the weights are one-hot draws that no gradient passes; then
            the context is looked up (eq. 9), not summed.

    Returns:
        `Outputs`.
    """

    @tf.custom_gradient
    def run(*tensors):
        inputs = Inputs(*tensors)
        outputs, *kept = _forward(inputs, select, one_hot)

        def gradient(*upstream):
            return _backward(inputs, select, one_hot, *kept, Outputs(*upstream))

        return tuple(outputs), gradient

    return Outputs(*run(*inputs))


class _Tape(NamedTuple):
    """What the way back needs of each step, `[T, S, B, ..]`."""

    hidden: tf.Tensor  # h_{t-1}
    cell: tf.Tensor  # c_{t-1}, float32
    gates: tf.Tensor  # before their non-linearities
    query: tf.Tensor
    looked: tf.Tensor  # z_t, before its gate
    beta: tf.Tensor
    logits: tf.Tensor  # float32
    weights: tf.Tensor  # float32


def _forward(x, select, one_hot):
    time = tf.shape(x.gates_word)[0]
    # One product for all that is made of h_{t-1}.
    from_hidden = tf.concat([x.gates_hidden, x.query, x.beta], axis=1)
    sizes = [x.gates_hidden.shape[1], x.query.shape[1], 1]
    exp_projection = fused.exponential(x.projection)

    def body(t, hidden, cell, *arrays):
        recurrent, query, beta = tf.split(_matmul(hidden, from_hidden), sizes, axis=-1)
        logits = fused.scores(exp_projection, query, x.vector)  # eq. 4
        logits += x.location_bias[t]
        weights = select(logits, t)
        if one_hot:
            looked = look(x.annotations, weights, one_hot)  # eq. 9
        else:
            looked = fused.context(x.annotations, weights)  # eq. 13
        beta = tf.sigmoid(beta + x.beta_bias)
        context = beta * looked
        gates = x.gates_word[t] + recurrent + _matmul(context, x.gates_context)
        new_hidden, new_cell = lstm(gates, cell)
        taped = _Tape(hidden, cell, gates, query, looked, beta, logits, weights)
        values = (new_hidden, context, *taped)
        written = (a.write(t, v) for a, v in zip(arrays, values, strict=True))
        return (t + 1, new_hidden, new_cell, *written)

    kinds = {"cell": tf.float32, "logits": tf.float32, "weights": tf.float32}
    arrays = [
        tf.TensorArray(kinds.get(name, x.hidden.dtype), time)
        for name in ("hidden", "context", *_Tape._fields)
    ]
    state = tf.while_loop(lambda t, *_: t < time, body, (0, x.hidden, x.cell, *arrays))
    hidden, context, *taped = (array.stack() for array in state[3:])
    tape = _Tape(*taped)
    outputs = Outputs(hidden, context, tape.logits, tape.weights, tape.cell)
    return outputs, exp_projection, tape


def _backward(x, select, one_hot, exp_projection, tape, upstream):
    time, n = tf.shape(x.gates_word)[0], x.hidden.shape[-1]
    from_context = tf.transpose(x.gates_context)
    from_gates = tf.transpose(tf.concat([x.gates_hidden, x.query, x.beta], axis=1))

    def body(k, d_hidden, d_cell, *arrays):
        t = time - 1 - k
        step = _Tape(*(a[t] for a in tape))
        d_hidden += upstream.hidden[t]
        d_gates, d_cell = _lstm_gradient(step.gates, step.cell, d_hidden, d_cell)
        d_cell += upstream.cell[t]
        d_context = _matmul(d_gates, from_context) + upstream.context[t]
        d_beta = tf.reduce_sum(d_context * step.looked, axis=-1, keepdims=True)
        d_beta *= step.beta * (1 - step.beta)
        d_looked = step.beta * d_context
        d_logits = upstream.logits[t]
        if not one_hot:
            d_weights = fused.weights_gradient(x.annotations, d_looked)
            d_weights += upstream.weights[t]
            d_logits += _select_gradient(select, t, step.logits, d_weights)
        d_query = fused.query_gradient(exp_projection, step.query, x.vector, d_logits)
        d_query = tf.cast(d_query, d_gates.dtype)
        made = tf.concat([d_gates, d_query, d_beta], axis=-1)
        d_hidden = _matmul(made, from_gates)
        values = (made, d_looked, d_logits)
        written = (a.write(t, v) for a, v in zip(arrays, values, strict=True))
        return (k + 1, d_hidden, d_cell, *written)

    arrays = [tf.TensorArray(x.hidden.dtype, time) for _ in range(2)]
    arrays.append(tf.TensorArray(tf.float32, time))
    zeros = [tf.zeros_like(x.hidden), tf.zeros_like(x.cell)]
    _, d_hidden, d_cell, *arrays = tf.while_loop(
        lambda k, *_: k < time, body, (0, *zeros, *arrays)
    )
    made, d_looked, d_logits = (array.stack() for array in arrays)
    d_gates = made[..., : 4 * n]
    d_projection, d_vector = fused.projection_gradient(
        exp_projection, tape.query, x.vector, d_logits
    )
    # One product each over all T * S * B rows.
    from_hidden = _outer(tape.hidden, made)
    a = x.query.shape[1]
    weights = tf.cast(tape.weights, d_looked.dtype)
    return Inputs(
        gates_word=tf.reduce_sum(d_gates, axis=1),
        annotations=tf.einsum("tsbl,tsbd->bld", weights, d_looked),
        projection=tf.cast(d_projection, x.projection.dtype),
        hidden=d_hidden,
        cell=d_cell,
        query=from_hidden[:, 4 * n : 4 * n + a],
        vector=tf.cast(d_vector, x.vector.dtype),
        beta=from_hidden[:, 4 * n + a :],
        beta_bias=tf.reduce_sum(made[..., 4 * n + a :], axis=[0, 1, 2]),
        gates_hidden=from_hidden[:, : 4 * n],
        gates_context=_outer(tape.beta * tape.looked, d_gates),
        location_bias=tf.reduce_sum(d_logits, axis=1),
    )


def shifted(tokens):
    """y_{t-1} of y_t, int `[B, T]`; 0 before the first word."""
    return tf.pad(tokens[:, :-1], [[0, 0], [1, 0]])


def look(annotations, weights, one_hot=False):
    """z_t `[S, B, D]`: the chosen location (eq. 9) or the weighted mean (eq. 13)."""
    if one_hot:
        index = tf.transpose(tf.argmax(weights, axis=-1, output_type=tf.int32))
        return tf.transpose(tf.gather(annotations, index, batch_dims=1), [1, 0, 2])
    return tf.einsum("sbl,bld->sbd", tf.cast(weights, annotations.dtype), annotations)


def lstm(gates, cell):
    """h_t and c_t from the four gates before their non-linearities (eq. 1-3).

    Computed in the cell's precision; h_t gets that of the gates.
    """
    i, f, o, g = tf.split(tf.cast(gates, cell.dtype), 4, axis=-1)
    cell = tf.sigmoid(f) * cell + tf.sigmoid(i) * tf.tanh(g)  # eq. 2
    return tf.cast(tf.sigmoid(o) * tf.tanh(cell), gates.dtype), cell  # eq. 3


def _lstm_gradient(gates, cell, d_hidden, d_cell):
    d_hidden = tf.cast(d_hidden, cell.dtype)
    i, f, o, g = tf.split(tf.cast(gates, cell.dtype), 4, axis=-1)
    i, f, o, g = tf.sigmoid(i), tf.sigmoid(f), tf.sigmoid(o), tf.tanh(g)
    tanh_cell = tf.tanh(f * cell + i * g)
    d_cell += d_hidden * o * (1 - tanh_cell**2)
    d_gates = [
        d_cell * g * i * (1 - i),
        d_cell * cell * f * (1 - f),
        d_hidden * tanh_cell * o * (1 - o),
        d_cell * i * (1 - g**2),
    ]
    return tf.cast(tf.concat(d_gates, axis=-1), gates.dtype), d_cell * f


def _select_gradient(select, t, logits, upstream):
    with tf.GradientTape() as tape:
        tape.watch(logits)
        weights = select(logits, t)
    found = tape.gradient(weights, logits, upstream)
    return tf.zeros_like(upstream) if found is None else found


def _matmul(x, kernel):
    """`[S, B, i] x [i, j]` as one product of S * B rows."""
    rows = tf.reshape(x, [-1, kernel.shape[0]])
    shape = tf.concat([tf.shape(x)[:-1], [kernel.shape[1]]], axis=0)
    return tf.reshape(tf.matmul(rows, kernel), shape)


def _outer(x, y):
    """Sum over all rows of x^T y: `[.., i], [.., j] -> [i, j]`."""
    x = tf.reshape(x, [-1, x.shape[-1]])
    y = tf.reshape(y, [-1, y.shape[-1]])
    return tf.matmul(x, y, transpose_a=True)
