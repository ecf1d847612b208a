"""Which words are said of a location, whatever came before them."""

import keras
import numpy as np
import tensorflow as tf

from sat_tf.decoding import selector
from sat_tf.reranking.base import Reranker
from sat_tf.reranking.image_batches import ImageBatches
from sat_tf.runtime.ranges import Rate, Size, check
from sat_tf.vocabulary import EOS

PASSES = 7
RATE = 1e-3  # of Adam, falling on a cosine to a fiftieth
IMAGES = 50  # per batch
SMOOTHING = 0.1  # added to every word's count, as none has probability 0


@keras.saving.register_keras_serializable("sat_tf")
class Grounding(Reranker):
    """How far the locations that a beam looked at say its words, nats a word.

    log p(word | the location looked at) - log p(word), one hidden layer on one
    annotation. It knows nothing but where each word looked: beams that say "dog" while
    they look at one are ranked above those that say it of the grass beside. `fit`
    trains it when the captioner is done, as attention keeps moving until then. Before
    that it has no opinion: 0 nats of every word.

    Args:
        hidden_size: units with a rectifier.
        dropout: rate on the hidden units. input_dropout: on the annotation.
    """

    learns = True
    requires = ("consensus",)

    def __init__(self, hidden_size=384, *, dropout=0.0, input_dropout=0.0, **kwargs):
        super().__init__(**kwargs)
        check(Size, hidden_size=hidden_size)
        check(Rate, dropout=dropout, input_dropout=input_dropout)
        self.hidden_size = hidden_size
        self.dropout = dropout
        self.input_dropout = input_dropout

    def build(self, annotations_shape, vocabulary_size):
        """Creates all weights from D, the last axis of the annotations, and V."""
        self.vocabulary_size = vocabulary_size
        self.hidden = keras.layers.Dense(
            self.hidden_size, activation="relu", dtype=self.dtype_policy, name="hidden"
        )
        self.words = keras.layers.Dense(
            vocabulary_size,
            kernel_initializer="zeros",
            dtype=self.dtype_policy,
            name="words",
        )
        self.hidden.build((None, annotations_shape[-1]))
        self.words.build((None, self.hidden_size))
        self.log_prior = self.add_weight(
            shape=(vocabulary_size,),
            initializer=keras.initializers.Constant(-np.log(vocabulary_size)),
            trainable=False,
            name="log_prior",
        )
        self.drop_annotation = keras.layers.Dropout(
            self.input_dropout, name="drop_annotation"
        )
        self.drop_hidden = keras.layers.Dropout(self.dropout, name="drop_hidden")
        self.trainable = False  # in `fit`, afterwards, and only there
        # A loaded one is frozen already, and then that does not reach its layers.
        self.hidden.trainable = self.words.trainable = False
        self.built = True

    def call(self, annotations, training=False):
        """Annotations `[.., D]` -> float32 logits `[.., V]` of the word said there."""
        annotation = self.drop_annotation(annotations, training=training)
        hidden = self.drop_hidden(self.hidden(annotation), training=training)
        return tf.cast(self.words(hidden), tf.float32)

    def evidence(self, annotations):
        """log p(word | location) - log p(word), `[.., D] -> [.., V]`, nats."""
        return tf.nn.log_softmax(self(annotations)) - self.log_prior

    @property
    def fitted(self):
        """Whether `fit` has been here."""
        return np.ptp(keras.ops.convert_to_numpy(self.log_prior)) > 0

    def score(self, beams, evidence, strength):
        """`strength` times the mean evidence of a beam's words, `[K, B]`."""
        return strength * grounded_words(beams.tokens, beams.locations, evidence)

    def fit(self, captioner, inputs, key, captions, *, seed=17, verbose="auto"):
        """Learns which words are said at the locations where a captioner looks.

        The captioner goes over the captions of the training images as it would at test
        time; of every location it looked at, the head learns which words were said.
        """
        image, location, word = _looks(captioner, inputs, key, captions, seed)
        counts = np.bincount(word, minlength=self.vocabulary_size) + SMOOTHING
        spoken = _Spoken(captioner, inputs, key, image, location, word, seed)
        self.trainable = True
        trainer = keras.Sequential([keras.Input((captioner.encoder.size,)), self])
        rate = keras.optimizers.schedules.CosineDecay(RATE, PASSES * len(spoken), 0.02)
        trainer.compile(
            optimizer=keras.optimizers.Adam(rate),
            loss=keras.losses.CategoricalCrossentropy(from_logits=True),
            jit_compile=False,  # no two batches have as many locations
        )
        trainer.fit(spoken, epochs=PASSES, shuffle=False, verbose=verbose)
        self.trainable = False
        self.log_prior.assign(np.log(counts / counts.sum()))

    def get_config(self):
        """Constructor arguments."""
        return {
            **super().get_config(),
            "hidden_size": self.hidden_size,
            "dropout": self.dropout,
            "input_dropout": self.input_dropout,
        }


def grounded_words(tokens, locations, evidence):
    """How far the locations that each beam looked at say its words, `[K, B]`, nats.

    The mean over its words of log p(word | location) - log p(word).

    Args:
        tokens: `[K, B, T]`, as `consensus` takes them; `<eos>` has no location.
        locations: int `[K, B, T]`, where each word was looked at.
        evidence: of every word at every location, `[B, L, V]`.
    """
    found = where_looked(tokens, locations, evidence)
    word = tf.cast(tokens > EOS, tf.float32)
    words = tf.reduce_sum(word, axis=-1)
    return tf.math.divide_no_nan(tf.reduce_sum(word * found, axis=-1), words)


def where_looked(tokens, locations, evidence):
    """What is known of each word at the location where it was looked for, `[K, B, T]`.

    Args:
        tokens, locations, evidence: as `grounded_words` takes them.
    """
    looks = tf.transpose(tf.stack([locations, tokens], axis=-1), [1, 0, 2, 3])
    return tf.transpose(tf.gather_nd(evidence, looks, batch_dims=1), [1, 0, 2])


def _looks(captioner, inputs, key, captions, seed):
    """Every word of the captions and where it was looked at: three int arrays."""
    attention = captioner.options().attention

    @tf.function(autograph=False, reduce_retracing=True)
    def locations(data, at):
        trace, _ = captioner.network.trace(
            data,
            selector(attention, tf.stack([seed, at])),
            one_hot=attention != "expected",
        )
        return tf.argmax(trace.weights[0], axis=-1)

    found = []
    for at in range(0, len(inputs), IMAGES):
        images = np.arange(at, min(at + IMAGES, len(inputs)))
        ids = [[captioner.vocabulary.encode(c) for c in captions[i]] for i in images]
        rows = np.repeat(np.arange(len(images)), [len(each) for each in ids])
        ids = [row for each in ids for row in each]
        tokens = np.zeros((len(ids), max(map(len, ids))), "int32")
        for row, said in zip(tokens, ids, strict=True):
            row[: len(said)] = said
        features = captioner.network.features_of({key: inputs.read(images)})
        data = {"annotations": features, "tokens": tokens, "rows": rows}
        data = {name: tf.convert_to_tensor(value) for name, value in data.items()}
        looked, spoken = locations(data, tf.constant(at)).numpy(), tokens > 0
        image = np.broadcast_to((at + rows)[:, None], tokens.shape)
        found.append((image[spoken], looked[spoken], tokens[spoken]))
    return (np.concatenate(each) for each in zip(*found, strict=True))


class _Spoken(ImageBatches):
    """Locations of some images, and the share of every word among those said there."""

    def __init__(self, captioner, inputs, key, image, location, word, seed):
        super().__init__(captioner, inputs, key, IMAGES, seed)
        order = np.argsort(image, kind="stable")
        self.location, self.word = location[order], word[order]
        self.starts = np.searchsorted(image[order], np.arange(len(inputs) + 1))

    def __getitem__(self, index):
        images = self.chosen(index)
        annotations = self.annotations(images).numpy()
        locations, words = [], []
        for row, image in enumerate(images):
            said = slice(self.starts[image], self.starts[image + 1])
            locations.append(row * annotations.shape[1] + self.location[said])
            words.append(self.word[said])
        locations, row = np.unique(np.concatenate(locations), return_inverse=True)
        size = len(self.captioner.vocabulary)
        counts = np.zeros((len(locations), size), "float32")
        np.add.at(counts, (row, np.concatenate(words)), 1)
        total = counts.sum(axis=1, keepdims=True)
        flat = annotations.reshape(-1, annotations.shape[-1])
        return flat[locations], counts / total, total[:, 0]
