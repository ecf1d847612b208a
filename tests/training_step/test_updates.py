"""The update that every training step ends with."""

from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf
from toy import batch, toy

from sat_tf.estimators import Reinforce, Soft


def test_updates_are_compiled_once_for_all_estimators(monkeypatch):
    model = toy(Reinforce())
    compiled, apply = [], keras.optimizers.Adam.apply_gradients
    monkeypatch.setattr(
        keras.optimizers.Adam,
        "apply_gradients",
        lambda *args: (compiled.append(1), apply(*args)),
    )
    for times in (1, 2):
        model.compile(optimizer=keras.optimizers.Adam(0.01))
        for estimator in (Soft(), Reinforce(), Reinforce(samples=2)):
            model.use(estimator)
            before = model.network.attention.vector.numpy()
            model.train_step(batch(model))
            assert np.any(model.network.attention.vector.numpy() != before)
        assert len(compiled) == times


def test_weights_on_other_machines_are_refused_with_one_replica_too():
    kind = tf.distribute.ParameterServerStrategy
    model = toy("soft")
    model.strategy = mock.Mock(spec=kind, num_replicas_in_sync=1)
    with pytest.raises(ValueError, match="Expected a MirroredStrategy for several"):
        model.compile("sgd")
