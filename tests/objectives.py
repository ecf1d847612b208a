"""Scalars whose gradients estimators estimate, every path of the toy summed over."""

import itertools

import numpy as np
import tensorflow as tf
from toy import (
    all_paths,
    batch,
    expected_gradient,
    gradients,
    lower_bound,
    path_probability,
    paths_of,
    relative_error,
    settled,
    toy,
)


def log_marginal(model, data):
    """log p(y | a), mean over images."""
    p, log_p, _ = paths_of(model, data)
    return tf.reduce_mean(tf.math.log(tf.reduce_sum(p * tf.exp(log_p), axis=0)))


def soft_log_likelihood(model, data):
    trace = model.network.trace(data, lambda e, t: tf.nn.softmax(e))[0]
    return tf.reduce_mean(tf.reduce_sum(trace.log_p_word, axis=-1))


def tuples(x, samples):
    """Every S-tuple of `[paths, B]` as `[tuples, S, B]`."""
    index = list(itertools.product(range(x.shape[0]), repeat=samples))
    return tf.gather(x, np.array(index))


def importance_weighted_bound(model, data):
    """E[log of the mean of S likelihoods] (Burda et al. 2016)."""
    p, log_p, _ = paths_of(model, data)
    samples = model.estimator.samples
    probability = tf.reduce_prod(tuples(p, samples), axis=1)
    mean = tf.reduce_mean(tf.exp(tuples(log_p, samples)), axis=1)
    return tf.reduce_mean(tf.reduce_sum(probability * tf.math.log(mean), axis=0))


def step_marginals(model, data, carry, samples):
    """log sum_i alpha_ti p(y_t | h_{t-1}, a_i) and log alpha, one `step` at a time."""
    tokens, locations = data["tokens"], model.encoder.locations
    most = getattr(model.estimator, "top_k", None) or locations
    memory, state = model.network.start(data["annotations"])
    state = tuple(tf.repeat(x, samples, axis=0) for x in state)
    marginals, log_alphas = [], []
    spoken = tf.zeros_like(tokens[:, 0])
    for t in range(tokens.shape[1]):
        before = tf.repeat(spoken[None], samples, axis=0)

        def one(i, before=before, state=state, t=t):
            def at(e):
                return tf.broadcast_to(tf.one_hot(i, locations), tf.shape(e))

            log_p = model.network.step(before, state, memory, at)[0]
            said = tf.repeat(tokens[None, :, t], samples, axis=0)
            return tf.gather(log_p, said, batch_dims=2)

        alpha = model.network.step(before, state, memory, tf.nn.softmax)[2]["alpha"]
        each = alpha * tf.exp(tf.stack([one(i) for i in range(locations)], axis=-1))
        kept = alpha >= tf.sort(alpha, direction="DESCENDING")[..., most - 1, None]
        kept = tf.cast(kept, tf.float32)
        marginals.append(tf.math.log(tf.reduce_sum(kept * each, axis=-1)))
        log_alphas.append(tf.math.log(alpha))
        _, state, _ = model.network.step(
            before, state, memory, lambda e, t=t: carry(e, t)
        )
        spoken = tokens[:, t]
    mask = tf.cast(tokens > 0, tf.float32)
    return tf.stack(marginals, axis=-1) * mask, tf.stack(log_alphas, axis=2)


def step_marginal_likelihood(model, data):
    marginals, _ = step_marginals(model, data, lambda e, t: tf.nn.softmax(e), 1)
    return tf.reduce_mean(tf.reduce_sum(marginals, axis=-1))


def step_marginal_paths(model, data):
    """p of the states' locations and sum of the log marginals, `[paths, B]`."""
    weights = all_paths(model, data).weights
    marginals, log_alpha = step_marginals(
        model, data, lambda e, t: weights[:, :, t], weights.shape[0]
    )
    p = path_probability(all_paths(model, data)._replace(log_alpha=log_alpha))
    return p, tf.reduce_sum(marginals, axis=-1)


def step_marginal_bound(model, data):
    p, marginals = step_marginal_paths(model, data)
    return tf.reduce_mean(tf.reduce_sum(p * marginals, axis=0))


def proposal(model, data, trace):
    """log q `[1, B, T, L]` of the inference network; log alpha without one."""
    network = model.estimator.inference
    if network is None:
        return trace.log_alpha
    tokens, annotations = data["tokens"], model.encoder(data["annotations"])
    mask = tf.cast(tokens > 0, tf.float32)
    return network(annotations, model.network.decoder.embed(tokens), mask)[None]


def proposal_paths(model, data):
    """q(s) and its log, log p(y | s, a) and log p(s | a) `[paths, B]`, the trace."""
    _, log_p, trace = paths_of(model, data)
    trace = trace._replace(log_q=proposal(model, data, trace))
    q = path_probability(trace, trace.log_drawn)
    log_p_path = tf.math.log(path_probability(trace))
    return q, log_p, log_p_path, trace


def variational_bound(model, data):
    """E_q[sum_t log p(y_t | s) - KL(q_t || alpha_t)]."""
    q, log_p, _, trace = proposal_paths(model, data)
    each = tf.exp(trace.log_q) * (trace.log_q - trace.log_alpha)
    divergence = tf.reduce_sum(tf.reduce_sum(each, axis=-1) * trace.mask, axis=-1)
    return tf.reduce_mean(tf.reduce_sum(q * (log_p - divergence), axis=0))


OBJECTIVES = {
    f.__name__: f
    for f in (
        lower_bound,
        soft_log_likelihood,
        importance_weighted_bound,
        step_marginal_likelihood,
        step_marginal_bound,
        variational_bound,
    )
}


def update_rule(model, data):
    """E[grad log p(y|s) + w R grad log p(s) + lambda_e grad H], as a scalar."""
    estimator = model.estimator
    p, log_p, trace = paths_of(model, data)
    reward = log_p
    if estimator.reward == "per_word":
        reward /= tf.reduce_sum(trace.mask, axis=-1)
    weight = estimator.lambda_r
    if estimator.normalise_advantage:
        weight /= max(1.0, float(estimator.variance.numpy()) ** 0.5)
    entropy = tf.reduce_sum(trace.entropy, axis=-1)
    held = tf.stop_gradient
    spoken = held(p) * (log_p + estimator.lambda_e * entropy)
    return tf.reduce_mean(tf.reduce_sum(spoken + weight * p * held(reward), axis=0))


def self_normalised(model, data):
    """E[sum_k v_k grad log p(y, s^k)] and the same for log q, as a scalar."""
    samples, estimator = model.estimator.samples, model.estimator
    q, log_p, log_p_path, _ = proposal_paths(model, data)
    joint, log_q = log_p + log_p_path, tf.math.log(q)
    share = tuples(tf.exp(joint - log_q), samples)
    share /= tf.reduce_sum(share, axis=1, keepdims=True)
    explained = joint if estimator.inference is None else joint + log_q
    probability = tf.reduce_prod(tuples(q, samples), axis=1, keepdims=True)
    each = tf.stop_gradient(probability * share) * tuples(explained, samples)
    return tf.reduce_mean(tf.reduce_sum(each, axis=[0, 1]))


def reinmax(model, data):
    """E_s[log p(y | s)], s moving as `Reinmax` says: its matrix written out."""
    weights = all_paths(model, data).weights
    tau = model.estimator.temperature

    def covariance(p):
        return tf.linalg.diag(p) - p[..., None] * p[..., None, :]

    def moving(logits, t):
        drawn = weights[:, :, t]
        pi = (drawn + tf.nn.softmax(logits / tau)) / 2
        slope = 2 * covariance(pi) - covariance(tf.nn.softmax(logits)) / 2
        moved = (logits - tf.stop_gradient(logits))[..., None]
        return drawn + tf.squeeze(tf.stop_gradient(slope) @ moved, axis=-1)

    trace = model.network.trace(data, moving, samples=weights.shape[0])[0]
    spoken = tf.reduce_sum(trace.log_p_word, axis=-1)
    held = tf.stop_gradient(path_probability(trace))
    return tf.reduce_mean(tf.reduce_sum(held * spoken, axis=0))


# Scalars whose gradient is what a biased estimator says that it estimates.
TARGETS = {f.__name__: f for f in (update_rule, self_normalised, reinmax)}


def check_conformance(estimator):
    """The gradient it has in expectation is the one that it says."""
    model = settled(toy(estimator))
    said = {**OBJECTIVES, **TARGETS}
    if estimator.unbiased_for is not None:
        assert estimator.target == estimator.unbiased_for
        said = OBJECTIVES
    assert estimator.target in said, "say what it estimates, and add it to this test"
    data = batch(model, lengths=(2, 1))
    wanted = gradients(model, lambda: said[estimator.target](model, data))
    assert relative_error(model, expected_gradient(model, data), wanted) < 1e-4
