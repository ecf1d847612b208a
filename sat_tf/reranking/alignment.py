"""Which places of an image show which words, learned from captions alone."""

import keras
import numpy as np
import tensorflow as tf

from sat_tf.reranking.base import Reranker
from sat_tf.reranking.detection import expected_words
from sat_tf.vocabulary import PAD

PASSES = 8
RATE = 1e-3  # of Adam, falling on a cosine to a fiftieth
TRUNK_RATE = 0.1  # of that, for a trunk that is trained along
IMAGES = 32  # per batch
RARE = 1e-4  # share of the captions that a word is taken to be in at least
IN_FULL = np.log(3.0)  # nats of support from which a word is taught in full


@keras.saving.register_keras_serializable("sat_tf")
class Alignment(Reranker):
    """How far a beam says the words that places of the image show.

    One hidden layer on every annotation gives each word a logit at each location. Their
    log-mean-exp says whether captions of the image have the word, as a bag of instances
    (Maron and Lozano-Perez 1998; Fang et al. 2015 for words of captions, Pinheiro and
    Collobert 2015 for this maximum), and their softmax over the locations where it is
    seen. `fit` teaches it the words of captions, without boxes; before that it has no
    opinion.

    As it is told the word, it can show attention, which is not, where to look: with
    `teaching`, the cross-entropy between the locations that show a word and alpha is
    minimised too. A word counts by how much the image has to do with it: "dog" in full
    where there is one, "the" not at all.

    Args:
        hidden_size: units with a rectifier.
        dropout: rate on the hidden units. input_dropout: on channels of the
            annotations, an image's at all locations at once.
        sharpness: factor on the logits in both; at 0 the maximum were a mean and the
            softmax uniform.
        teaching: weight of a supported word's cross-entropy; 0 = attention is not
            taught.
    """

    learns = True
    locates = True
    requires = ("consensus",)

    def __init__(
        self,
        hidden_size=512,
        *,
        dropout=0.0,
        input_dropout=0.0,
        sharpness=3.0,
        teaching=0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.hidden_size = hidden_size
        self.dropout = dropout
        self.input_dropout = input_dropout
        self.sharpness = sharpness
        self.teaching = teaching

    def build(self, annotations_shape, vocabulary_size):
        """Creates all weights from D, the last axis of the annotations, and V."""
        self.hidden = keras.layers.Dense(
            self.hidden_size, activation="relu", dtype=self.dtype_policy, name="hidden"
        )
        self.words = keras.layers.Dense(
            vocabulary_size,
            kernel_initializer="zeros",
            dtype=self.dtype_policy,
            name="words",
        )
        self.hidden.build((None, None, annotations_shape[-1]))
        self.words.build((None, None, self.hidden_size))
        self.share = self.add_weight(
            shape=(vocabulary_size,), initializer="ones", trainable=False, name="share"
        )
        self.drop_channels = keras.layers.SpatialDropout1D(
            self.input_dropout, name="drop_channels"
        )
        self.drop_hidden = keras.layers.Dropout(self.dropout, name="drop_hidden")
        # In `fit`, and only there; a loaded one is frozen already, and then that does
        # not reach its layers.
        self.trainable = self.hidden.trainable = self.words.trainable = False
        self.built = True

    def call(self, annotations, training=False):
        """Annotations `[B, L, D]` -> float32 logits `[B, V]`: captions have a word."""
        channels = self.drop_channels(annotations, training=training)
        hidden = self.drop_hidden(self.hidden(channels), training=training)
        return self._has(tf.cast(self.words(hidden), tf.float32), axis=1)

    def _has(self, logits, axis):
        """A maximum over locations that lets all of them learn: their log-mean-exp."""
        logits = self.sharpness * logits
        locations = tf.cast(tf.shape(logits)[axis], tf.float32)
        summed = tf.reduce_logsumexp(logits, axis=axis) - tf.math.log(locations)
        return summed / self.sharpness

    def objective(self, annotations, tokens, rows=None, trace=None):
        """What attention is taught, `[B]`: minus the words' cross-entropies, nats."""
        if not self.teaching:
            return 0.0
        log_places, support = self.locate(annotations, tokens, rows)
        counts = tf.clip_by_value(support / IN_FULL, 0.0, 1.0)
        log_alpha = tf.reduce_mean(trace.log_alpha, axis=0)
        taught = tf.reduce_sum(tf.exp(log_places) * log_alpha, axis=-1)
        return self.teaching * tf.reduce_sum(counts * taught, axis=-1)

    def locate(self, annotations, tokens, rows=None):
        """See `Reranker.locate`; of an image's captions, all count alike."""
        hidden = self.hidden(annotations)
        if rows is not None:
            hidden = tf.gather(hidden, rows)
        words = tf.gather(tf.transpose(self.words.kernel), tokens)
        logits = tf.einsum("bth,blh->btl", tf.cast(words, hidden.dtype), hidden)
        logits = tf.cast(logits, tf.float32)
        logits += tf.gather(self.words.bias, tokens)[..., None]
        usual = tf.math.log(tf.maximum(tf.gather(self.share, tokens), RARE))
        support = tf.math.log_sigmoid(self._has(logits, axis=-1)) - usual
        support = tf.where(tokens != PAD, support, 0.0)
        return tf.nn.log_softmax(self.sharpness * logits), support

    def evidence(self, annotations):
        """p(a caption says word w), `[B, L, D]` -> `[B, V]`."""
        return tf.sigmoid(self(annotations))

    def score(self, beams, evidence, strength):
        """`strength` times the F measure of `expected_words`, `[K, B]`."""
        return strength * expected_words(beams.tokens, evidence)

    @property
    def fitted(self):
        """Whether `fit` has been here."""
        return bool((keras.ops.convert_to_numpy(self.share) < 1).any())

    def fit(
        self, captioner, inputs, key, captions, *, trunk=None, seed=17, verbose="auto"
    ):
        """Learns the words of the captions of images, from the images as wholes.

        Args:
            captioner, inputs, key, captions, seed, verbose: see `Reranker.fit`.
            trunk: a Keras model from records of `inputs` to features, as maps, which
                learns along at `TRUNK_RATE`; `None` = they are features.
        """

        def features_of(records):
            if trunk is None:
                return captioner.network.features_of({key: records})
            maps = trunk(tf.cast(records, tf.float32), training=False)
            return tf.reshape(maps, [-1, captioner.encoder.locations, maps.shape[-1]])

        bags = _Bags(captioner.vocabulary, inputs, captions, seed)
        share = bags.share()
        self.share.assign(share)
        self.words.bias.assign(np.log(np.maximum(share, RARE)))  # as any image's
        self.trainable = self.hidden.trainable = self.words.trainable = True
        learner = _Learner(self, captioner.encoder, features_of, trunk)
        learner.compile(
            optimizer=_adam(RATE, len(bags)),
            tail_optimizer=_adam(TRUNK_RATE * RATE, len(bags)),
            loss=keras.losses.BinaryCrossentropy(from_logits=True),
            jit_compile=False,
        )
        learner.fit(bags, epochs=PASSES, shuffle=False, verbose=verbose)
        self.trainable = self.hidden.trainable = self.words.trainable = False

    def get_config(self):
        """Constructor arguments."""
        return {
            **super().get_config(),
            "hidden_size": self.hidden_size,
            "dropout": self.dropout,
            "input_dropout": self.input_dropout,
            "sharpness": self.sharpness,
            "teaching": self.teaching,
        }


def _adam(rate, steps):
    falling = keras.optimizers.schedules.CosineDecay(rate, PASSES * steps, 0.02)
    return keras.optimizers.Adam(falling)


class _Learner(keras.Model):
    """From records of images to which words their captions have.

    The trunk's steps are shorter: Adam's do not depend on the scale of the gradient, so
    it has an Adam of its own.
    """

    def __init__(self, alignment, encoder, features_of, trunk):
        super().__init__(autocast=False)
        self.alignment, self.encoder = alignment, encoder
        self.features_of = features_of
        self.head = alignment.trainable_variables
        self.tail = [] if trunk is None else trunk.trainable_variables

    def compile(self, optimizer, tail_optimizer, **options):
        """As Keras', with an optimizer of the trunk's own."""
        super().compile(optimizer=optimizer, **options)
        self.tail_optimizer = tail_optimizer
        optimizer.build(self.head)
        tail_optimizer.build(self.tail)

    def train_step(self, data):
        """One update of the alignment, and of the trunk."""
        records, shares = data
        with tf.GradientTape() as tape:
            annotations = self.encoder(self.features_of(records))
            logits = self.alignment(annotations, training=True)
            # The mean over words would be of another size in every vocabulary.
            loss = logits.shape[-1] * self.compute_loss(y=shares, y_pred=logits)
        found = tape.gradient(loss, [*self.head, *self.tail])
        self.optimizer.apply(found[: len(self.head)], self.head)
        if self.tail:
            self.tail_optimizer.apply(found[len(self.head) :], self.tail)
        return {"loss": loss}


class _Bags(keras.utils.PyDataset):
    """Batches of images, and which share of the captions of each has which word."""

    def __init__(self, vocabulary, inputs, captions, seed):
        super().__init__()
        self.inputs, self.size = inputs, len(vocabulary)
        self.words = [
            [np.unique(vocabulary.encode(caption)) for caption in group]
            for group in captions
        ]
        self.random = np.random.default_rng(seed)
        self.on_epoch_begin()

    def share(self):
        """Share of all captions that have each word, `[V]`."""
        said = np.concatenate([word for group in self.words for word in group])
        counts = np.bincount(said, minlength=self.size)
        return counts / sum(map(len, self.words))

    def on_epoch_begin(self):
        """Draws an order."""
        self.order = self.random.permutation(len(self.inputs))

    def __len__(self):
        return -(-len(self.order) // IMAGES)

    def __getitem__(self, index):
        images = np.sort(self.order[index * IMAGES : (index + 1) * IMAGES])
        shares = np.zeros((len(images), self.size), "float32")
        for row, image in zip(shares, images, strict=True):
            for words in self.words[image]:
                row[words] += 1 / len(self.words[image])
        return self.inputs.read(images), shares
