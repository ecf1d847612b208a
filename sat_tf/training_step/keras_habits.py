"""What people do with a Keras model, and a sentence where it cannot mean anything."""

import keras

from sat_tf.training_step import inputs, updates


class KerasHabits:
    """Base of a captioner that checks what Keras' own methods are given."""

    def compile(self, *args, **kwargs):
        """As Keras', without losses and metrics."""
        updates.check_one_replica(self, compiling=True)
        super().compile(**inputs.arguments(super().compile, args, kwargs))

    def fit(self, *args, **kwargs):
        """As Keras', of a data set of dicts or of a dict of arrays."""
        return super().fit(**inputs.arguments(super().fit, args, kwargs))

    def evaluate(self, *args, **kwargs):
        """As Keras', of what `fit` takes."""
        return super().evaluate(**inputs.arguments(super().evaluate, args, kwargs))

    def train_on_batch(self, *args, **kwargs):
        """As Keras', of one dict."""
        given = inputs.arguments(super().train_on_batch, args, kwargs)
        return super().train_on_batch(**given)

    def test_on_batch(self, *args, **kwargs):
        """As Keras', of one dict."""
        given = inputs.arguments(super().test_on_batch, args, kwargs)
        return super().test_on_batch(**given)

    def get_compile_config(self):
        """What `compile` was given, for a saved model; `None` if it was not called."""
        if not self.compiled:
            return None
        own = {
            "label_smoothing": self.label_smoothing,
            "lambda_ds": self.lambda_ds,
            "encoder_rate": self.encoder_rate,
            "fine_tuning": self.encoder_optimizer is not None,
            "scheduled_sampling": keras.saving.serialize_keras_object(
                self.scheduled_sampling
            ),
        }
        return {**(super().get_compile_config() or {}), **own}

    def compile_from_config(self, config):
        """Compiles a loaded model as it was saved."""
        config = dict(config)
        fine_tuning = config.pop("fine_tuning")
        self.compile(**keras.saving.deserialize_keras_object(config))
        if fine_tuning:
            self.fine_tune()
        updates.build(self)

    @property
    def metrics(self):
        """The means that training and evaluation show."""
        return list(self.means.values())

    def make_train_function(self, force=False):
        """As Keras', on one replica, with the optimizer's variables made before.

        Variables that are born in a trace make it happen twice.
        """
        updates.check_one_replica(self)
        if not self.optimizer.built:
            updates.build(self)
        return super().make_train_function(force)

    def make_test_function(self, force=False):
        """As Keras', on one replica."""
        updates.check_one_replica(self)
        return super().make_test_function(force)

    def _batch(self, data):
        try:
            return inputs.batch_of(data, self.encoder)
        except ValueError:
            # TensorFlow would go on with the graph that this leaves half traced.
            self.train_function = self.test_function = self.predict_function = None
            raise
