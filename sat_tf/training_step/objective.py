"""What an update maximises: the estimator's surrogate, and what is added to it."""

import tensorflow as tf

from sat_tf.model import losses
from sat_tf.training_step.scheduled_sampling import with_own_words


def loss(captioner, data, seed):
    """The scalar to minimise on a batch, and its `Trace`.

    Args:
        captioner: a compiled `ShowAttendTell`.
        data: the batch, as `fit` takes it.
        seed: int32 `[2]`, which all that is drawn follows from.

    Returns:
        `(loss, trace)`: minus the mean over captions of the estimator's surrogate of
        log p, the doubly stochastic penalty (eq. 14), label smoothing and what the
        rerankers learn, nats.
    """
    # Once, though an estimator may look at it in several passes.
    features = captioner.network.features_of(data, training=True)
    data = {**data, "annotations": features}
    if captioner.scheduled_sampling:
        data = with_own_words(captioner, data, seed)
    trace, words = captioner.estimator.trace(captioner.network, data, seed)
    objective = captioner.estimator.surrogate(trace)
    tokens = tf.cast(data["tokens"], tf.int32)
    if captioner.lambda_ds:
        alpha = tf.exp(trace.log_alpha)
        penalty = losses.doubly_stochastic(alpha, trace.mask)
        objective -= captioner.lambda_ds * penalty
    if captioner.label_smoothing:
        objective += captioner.label_smoothing * losses.smoothing(words, tokens)
    if captioner.rerankers:
        # A second opinion must not shape the annotations it is given.
        annotations = tf.stop_gradient(captioner.encoder(features))
        for reranker in captioner.rerankers:
            objective += reranker.objective(
                annotations, tokens, data.get("rows"), trace
            )
    return -losses.mean_over_captions(objective, trace.mask), trace
