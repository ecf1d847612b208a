"""What is minimised is what the parts make by hand, in every combination of them."""

import numpy as np
import pytest
import tensorflow as tf
from toy import batch, toy

from sat_tf.reranking.alignment import Alignment
from sat_tf.training_step import objective

SEED = tf.constant([3, 5])


@pytest.mark.parametrize("teaching", [0.0, 0.5])
@pytest.mark.parametrize("lambda_ds", [0.0, 0.3])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
def test_the_loss_is_the_sum_of_its_parts(label_smoothing, lambda_ds, teaching):
    rerankers = [Alignment(3, teaching=teaching)] if teaching else []
    model = toy(
        "soft",
        rerankers=rerankers,
        label_smoothing=label_smoothing,
        lambda_ds=lambda_ds,
    )
    for reranker in rerankers:  # as if it had learned of words
        for variable in reranker.variables:
            variable.assign(tf.fill(variable.shape, 0.2))
    data = batch(model, lengths=(4, 2, 3))
    loss, trace = objective.loss(model, data, SEED)

    tokens, mask = data["tokens"].numpy(), data["tokens"].numpy() > 0
    _, logits = model.estimator.trace(model.network, data, SEED)
    log_p = np.float64(logits[0])
    log_p -= np.log(np.exp(log_p).sum(axis=-1, keepdims=True))
    said = np.take_along_axis(log_p, tokens[..., None], axis=-1)[..., 0]
    terms = said + label_smoothing * (log_p.mean(axis=-1) - said)
    seen = np.einsum("btl,bt->bl", np.exp(trace.log_alpha[0]), mask)
    each = (terms * mask).sum(axis=1) - lambda_ds * ((1 - seen) ** 2).sum(axis=1)
    for reranker in rerankers:
        annotations = model.encoder(data["annotations"])
        each += reranker.objective(annotations, tokens, None, trace).numpy()
    assert float(loss) == pytest.approx(-each.mean(), rel=1e-5)
