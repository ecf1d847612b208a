"""What people do with a Keras model, and a sentence where it cannot mean anything."""

import keras

from sat_tf.training_step import inputs, shares, updates


class KerasHabits:
    """Base of a captioner that checks what Keras' own methods are given."""

    def compile(self, *args, **kwargs):
        """As Keras', without losses and metrics."""
        updates.check_strategy(self, compiling=True)
        given = inputs.arguments(super().compile, args, kwargs)
        if given.get("optimizer", "rmsprop") is None:
            raise ValueError(
                "Expected an optimizer. Received: optimizer=None. Give one, say "
                "keras.optimizers.Adam(1e-3); generate and explain need no compile."
            )
        super().compile(**given)

    def fit(self, *args, **kwargs):
        """As Keras', of a data set of dicts or of a dict of arrays."""
        updates.check_one_worker(self)
        given = inputs.data_arguments(super().fit, args, kwargs, self.network)
        with shares.explained():
            return super().fit(**given)

    def evaluate(self, *args, **kwargs):
        """As Keras', of what `fit` takes."""
        given = inputs.data_arguments(super().evaluate, args, kwargs, self.network)
        with shares.explained():
            return super().evaluate(**given)

    def predict(self, *args, **kwargs):
        """As Keras', of what `fit` takes: log-probabilities of the given words."""
        given = inputs.data_arguments(super().predict, args, kwargs, self.network)
        with shares.explained():
            return super().predict(**given)

    def train_on_batch(self, *args, **kwargs):
        """As Keras', of one dict."""
        given = inputs.data_arguments(
            super().train_on_batch, args, kwargs, self.network
        )
        with shares.explained():
            return super().train_on_batch(**self._shared(given))

    def test_on_batch(self, *args, **kwargs):
        """As Keras', of one dict."""
        given = inputs.data_arguments(super().test_on_batch, args, kwargs, self.network)
        with shares.explained():
            return super().test_on_batch(**self._shared(given))

    def predict_on_batch(self, *args, **kwargs):
        """As Keras', of one dict."""
        given = inputs.data_arguments(
            super().predict_on_batch, args, kwargs, self.network
        )
        with shares.explained():
            return super().predict_on_batch(**given)

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
        """As Keras', with the optimizer's variables made before.

        Variables that are born in a trace make it happen twice.
        """
        updates.check_strategy(self)
        updates.spread_seeds(self)
        if not self.optimizer.built:
            updates.build(self)
        return super().make_train_function(force)

    def make_test_function(self, force=False):
        """As Keras'."""
        updates.check_strategy(self)
        updates.spread_seeds(self)
        return super().make_test_function(force)

    def make_predict_function(self, force=False):
        """As Keras', on one replica."""
        updates.check_one_replica(self)
        return super().make_predict_function(force)

    @property
    def distribute_strategy(self):
        """The strategy, for Keras: of several replicas, it cuts batches by images."""
        strategy = super().distribute_strategy
        if strategy.num_replicas_in_sync == 1:
            return strategy
        return shares.CutsBatches(strategy, self.network)

    def _maybe_symbolic_build(self, *args, **kwargs):
        """Nothing: a captioner is built when it is made.

        Keras would read a batch for it, and take the mean of its shares.
        """

    def _shared(self, given):
        """Arguments of one batch, the batch cut where there are several replicas."""
        strategy = self.distribute_strategy
        if strategy.num_replicas_in_sync == 1:
            return given
        return {**given, "x": strategy.shares(given["x"])}

    def _batch(self, data):
        try:
            return inputs.batch_of(data, self.network)
        except ValueError:
            # TensorFlow would go on with the graph that this leaves half traced.
            self.train_function = self.test_function = self.predict_function = None
            raise
