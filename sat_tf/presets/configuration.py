"""A captioner as a dict that another is made from, without its weights."""

import keras

from sat_tf import reranking
from sat_tf.model.encoder import Encoder


class Configured:
    """Base of a captioner that Keras can write down and make again."""

    def get_config(self):
        """Constructor arguments and `decoder_options`: what `from_config` takes."""
        decoder, serialize = self.network.decoder, keras.saving.serialize_keras_object
        return {
            "name": self.name,
            "vocabulary": self.vocabulary.get_config()["words"],
            "encoder": self.encoder.get_config(),
            "estimator": serialize(self.estimator),
            "embedding_size": decoder.embedding_size,
            "hidden_size": decoder.hidden_size,
            "attention_size": self.network.attention.size,
            "dropout": decoder.dropout,
            "input_dropout": decoder.input_dropout,
            "output_activation": decoder.output_activation,
            "initial_state": serialize(decoder.initial_state),
            "rerankers": [serialize(reranker) for reranker in self.rerankers],
            "dtype": self.dtype_policy.name,
            "decoder": self.decoder_options,
        }

    @classmethod
    def from_config(cls, config):
        """Rebuilds a captioner; its weights come from the saved file."""
        config, deserialize = dict(config), keras.saving.deserialize_keras_object
        list(reranking.RERANKERS.values())  # imported, and so known to Keras
        config["encoder"] = Encoder.from_config(config["encoder"])
        config["estimator"] = deserialize(config["estimator"])
        config["rerankers"] = [deserialize(each) for each in config["rerankers"]]
        decoder = config.pop("decoder", {})
        captioner = cls(config.pop("vocabulary"), **config)
        captioner.decoder_options = dict(decoder)
        return captioner
