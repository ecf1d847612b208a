"""How sure attention is, fitted to captions when all else is learned."""

import numpy as np
import tensorflow as tf

from sat_tf.datasets import pipeline
from sat_tf.decoding.explain import from_everywhere
from sat_tf.vocabulary import PAD

CAPTIONS = 1024  # that it is fitted to, or all
BATCH = 16  # captions at once: each word is spoken anew from every location
FACTORS = 2.0 ** (np.arange(-24, 25) / 8)  # 1/8 to 8, each 9 % above the one before
AS_IT_IS = len(FACTORS) // 2


def fit_temperature(captioner, inputs, key, captions, *, seed=17, verbose="auto"):
    """Scales the location logits so that captions are as probable as they can be.

    Of a captioner that looks where alpha is greatest, training learns which location
    that is, but hardly how much greater alpha should be there than elsewhere. One
    factor on e (eq. 5) is left to be chosen: temperature scaling (Guo et al. 2017),
    here of attention. It maximises the words' exact log-likelihood, as a mixture over
    the location of each, those before it being what they were:

        log sum_i softmax(factor e_t)_i p(y_t | s_t = i, h_{t-1}, a)

    Where alpha is greatest stays as it is, and so what `argmax` decodes. A reranker
    that `locates` is made surer by the same factor, so that where `explain` finds words
    stays too. If the least or the greatest of `FACTORS` is the best, there is no
    telling: it is left at 1.

    Args:
        captioner: a `ShowAttendTell`; its `attention.vector` is multiplied.
        inputs, key: from `cached_inputs`. captions: per image, its captions.
        seed: of the captions that it is fitted to. verbose: 0 prints nothing.

    Returns:
        the factor, one of `FACTORS`.
    """
    of, tokens = pipeline.flatten(captions, captioner.vocabulary)
    size = min(CAPTIONS, len(tokens))
    chosen = np.random.default_rng(seed).choice(len(tokens), size, replace=False)
    chosen = chosen[np.argsort(of[chosen], kind="stable")]
    graph = tf.function(
        lambda records, tokens: _likelihoods(captioner, records, tokens),
        autograph=False,
        reduce_retracing=True,
    )
    total = np.zeros(len(FACTORS))
    for start in range(0, size, BATCH):
        rows = chosen[start : start + BATCH]
        records = {key: inputs.read(of[rows])}
        total += graph(records, tokens.padded(rows)).numpy()
    best = total.round(2).argmax()  # less is rounding of float32
    if best in (0, len(FACTORS) - 1):
        best = AS_IT_IS
    factor = float(FACTORS[best])
    vector = captioner.network.attention.vector
    vector.assign(factor * vector)
    for reranker in captioner.rerankers:
        if reranker.locates:
            reranker.sharpen(factor)
    if verbose and factor != 1:
        words = int((tokens.padded(chosen) != PAD).sum())
        gain = (total[best] - total[AS_IT_IS]) / words
        print(f"e, eq. 5, times {factor:.3g}: {gain:.2g} nats a word", flush=True)
    return factor


def _likelihoods(captioner, records, tokens):
    """What the words come to with each of `FACTORS`, nats."""
    features = captioner.network.features_of(records)
    log_alpha, log_p = from_everywhere(captioner, features, tokens)
    word = tf.cast(tokens != PAD, tf.float32)

    def likelihood(factor):
        prior = tf.nn.log_softmax(factor * log_alpha)
        return tf.reduce_sum(word * tf.reduce_logsumexp(prior + log_p, axis=-1))

    return tf.map_fn(likelihood, tf.constant(FACTORS, tf.float32))
