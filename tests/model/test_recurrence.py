"""Back-propagation through time by hand, against TensorFlow's own."""

import numpy as np
import pytest
import tensorflow as tf
from toy import batch, gradients, toy

from sat_tf.estimators import GumbelSoftmax, Reinforce, Soft, StraightThrough, Trace
from sat_tf.model import losses


def plain_trace(model, data, select, samples):
    """The same captions one `step` at a time, differentiated by TensorFlow."""
    tokens = data["tokens"]
    inputs = tf.pad(tokens[:, :-1], [[0, 0], [1, 0]])
    memory, state = model.network.start(data["annotations"])
    state = tuple(tf.repeat(x, samples, axis=0) for x in state)
    words, logits, weights, states = [], [], [], []
    bias = data.get("location_bias", tf.zeros([*tokens.shape, model.encoder.locations]))
    for t in range(tokens.shape[1]):
        states.append(state)
        e = model.network.attention(memory["projection"], state[0]) + bias[:, t]
        previous = tf.repeat(inputs[None, :, t], samples, axis=0)
        log_p, state, aux = model.network.step(
            previous, state, memory, lambda e, t=t: select(e + bias[:, t], t)
        )
        words.append(log_p)
        logits.append(e)
        weights.append(aux["weights"])
    words, logits, weights = (tf.stack(x, axis=2) for x in (words, logits, weights))
    return Trace(
        log_p_word=losses.log_likelihood(words, tokens),
        log_alpha=tf.nn.log_softmax(logits),
        weights=weights,
        mask=tf.cast(tokens > 0, tf.float32),
        states=tuple(tf.stack(x, axis=2) for x in zip(*states, strict=True)),
    )


def scalar(trace):
    """Touches every output, with different weights everywhere."""
    parts = []
    outputs = (trace.log_p_word, trace.log_alpha, trace.weights, *trace.states)
    for i, x in enumerate(outputs):
        noise = tf.random.stateless_normal(tf.shape(x), [17, i])
        parts.append(tf.reduce_sum(noise * x))
    return tf.add_n(parts)


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize(
    "estimator",
    [
        Soft(),
        Reinforce(),
        Reinforce(semi_sampling=0.5),
        GumbelSoftmax(temperature=0.5),
        StraightThrough(temperature=0.5),
    ],
    ids=["soft", "hard", "semi", "gumbel_softmax", "straight_through"],
)
def test_gradient_is_that_of_the_plain_loop(estimator, samples):
    model = toy()
    data = batch(model, lengths=(5, 3, 4))
    seed = tf.constant([17, 4])

    def select(e, t):
        return estimator.select(e, training=True, seed=seed, step=t)

    def fast():
        trace, _ = model.network.trace(
            data, select, samples=samples, one_hot=estimator.one_hot
        )
        return scalar(trace)

    def plain():
        return scalar(plain_trace(model, data, select, samples))

    assert fast().numpy() == pytest.approx(plain().numpy(), rel=1e-5)
    wanted = gradients(model, plain)
    got = gradients(model, fast)
    assert np.abs(got - wanted).max() < 1e-5 * np.abs(wanted).max()


@pytest.mark.parametrize("name", ["annotations", "location_bias"])
@pytest.mark.parametrize("kind", ["soft", "hard"])
def test_gradient_reaches_what_comes_with_the_batch(kind, name):
    """The annotations, to fine-tune an encoder; a location's logit, to judge it."""
    model = toy()
    data = batch(model, lengths=(4, 2))
    data["location_bias"] = tf.random.stateless_normal([2, 4, 4], [17, 5])
    seed, hard = tf.constant([17, 4]), Reinforce(samples=2)

    def derive(function):
        with tf.GradientTape() as tape:
            tape.watch(data[name])
            value = scalar(function())
        return tape.gradient(value, data[name])

    def select(e, t):
        if kind == "soft":
            return tf.nn.softmax(e)
        return hard.select(e, training=True, seed=seed, step=t)

    got = derive(lambda: model.network.trace(data, select, samples=2)[0])
    wanted = derive(lambda: plain_trace(model, data, select, 2))
    assert np.abs(wanted).max() > 0.1
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)


def test_captions_may_share_images():
    model = toy("soft")
    data = batch(model, lengths=(4, 2))
    rows = tf.constant([1, 0, 1])
    tokens = tf.gather(data["tokens"], rows)
    shared = {**data, "rows": rows, "tokens": tokens}
    apart = {
        "annotations": tf.gather(data["annotations"], rows),
        "tokens": tokens,
    }
    np.testing.assert_allclose(model(shared), model(apart), rtol=1e-6)
    together, alone = (
        gradients(model, lambda d=d: model.loss_of(d)[0]) for d in (shared, apart)
    )
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-6)


def test_score_is_the_word_of_one_step():
    """Each context in turn, from the states of a trace, of captions that share."""
    model = toy()
    data = batch(model, lengths=(4, 2))
    data |= {"rows": tf.constant([1, 0]), "tokens": data["tokens"]}
    seed, draw = tf.constant([17, 4]), Reinforce().draw
    trace, _ = model.network.trace(
        data, lambda e, t: draw(e, seed, t), one_hot=True, samples=3
    )
    annotations = model.network.annotations_of(data)
    contexts = tf.einsum("sbtl,bld->sbtd", trace.weights, annotations)
    again = model.network.score(data, trace.states, tf.stack([contexts, 0 * contexts]))
    np.testing.assert_allclose(again[0], trace.log_p_word, rtol=1e-5, atol=1e-6)
    assert np.abs(again[1] - trace.log_p_word)[:, 0].min() > 1e-3
    assert not np.any(again.numpy()[:, :, 1, 2:])
