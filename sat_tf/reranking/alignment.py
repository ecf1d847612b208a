"""Which locations of an image show which words, learned from captions alone."""

import keras
import numpy as np
import tensorflow as tf

from sat_tf.reranking.base import Reranker
from sat_tf.reranking.detection import expected_words, words_of
from sat_tf.reranking.grounding import where_looked
from sat_tf.runtime.ranges import Positive, Rate, Size, Weight, check
from sat_tf.vocabulary import EOS, PAD

PASSES = 8
RATE = 1e-3  # of Adam, falling on a cosine to a fiftieth
RARE = 1e-4  # share of the captions that a word is taken to be in at least
SPREAD = 0.77  # cells, standard deviation: a thing is seldom in one cell alone
COMMON = 0.1  # share of the captions from which a word says nothing of its neighbours
IN_FULL = np.log(3)  # nats of support from which a word is taught in full


@keras.saving.register_keras_serializable("sat_tf")
class Alignment(Reranker):
    """How far a beam says the words that the image shows, where it looked for them.

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

    Ranking cannot find a beam that the search has missed, so it can also guide the
    search: with `guiding`, words are preferred that are found where the search looks.

    Args:
        hidden_size: units with a rectifier.
        dropout: rate on the hidden units. input_dropout: on channels of the
            annotations, an image's at all locations at once.
        sharpness: factor on the logits in both; towards 0 the maximum becomes a mean,
            and the softmax uniform.
        teaching: weight of a supported word's cross-entropy; 0 = attention is not
            taught.
        guiding: weight of what a word gains, or loses, in a search by how far it is
            found, beside its log-probability; 0 = the search is not guided. It takes
            decoding options that have the alignment rerank, at any strength but 0.
    """

    learns = True
    locates = True
    requires = ("consensus",)
    added = ("inverse_temperature",)

    def __init__(
        self,
        hidden_size=512,
        *,
        dropout=0.0,
        input_dropout=0.0,
        sharpness=3.0,
        teaching=0.0,
        guiding=0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check(Size, hidden_size=hidden_size)
        check(Rate, dropout=dropout, input_dropout=input_dropout)
        check(Positive, sharpness=sharpness)
        check(Weight, teaching=teaching, guiding=guiding)
        self.hidden_size = hidden_size
        self.dropout = dropout
        self.input_dropout = input_dropout
        self.sharpness = sharpness
        self.teaching = teaching
        self.guiding = guiding

    def build(self, annotations_shape, vocabulary_size):
        """Creates all weights from the grid and D, and V."""
        self.grid = tuple(annotations_shape[1:-1])
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
        self.inverse_temperature = self.add_weight(
            shape=(), initializer="ones", trainable=False, name="inverse_temperature"
        )
        self.drop_channels = keras.layers.SpatialDropout1D(
            self.input_dropout, name="drop_channels"
        )
        self.drop_hidden = keras.layers.Dropout(self.dropout, name="drop_hidden")
        self.learn(False)
        self.built = True

    def learn(self, learns):
        """Says whether the words are learned now: only by what asks for it."""
        # A loaded layer is frozen already, and then that does not reach its layers.
        self.trainable = self.hidden.trainable = self.words.trainable = learns

    def call(self, annotations, training=False):
        """Annotations `[B, L, D]` -> float32 logits `[B, V]`: captions have a word."""
        return self._has(self._logits(annotations, training), axis=1)

    def _logits(self, annotations, training=False):
        """Of every word at every location, float32 `[B, L, V]`."""
        channels = self.drop_channels(annotations, training=training)
        hidden = self.drop_hidden(self.hidden(channels), training=training)
        return tf.cast(self.words(hidden), tf.float32)

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
        """See `Reranker.locate`.

        A location shows a word as far as the locations around it do, and as far as it
        shows the words around the word: a "red" beside "shirt" is the shirt's.
        """
        hidden = self.hidden(annotations)
        if rows is not None:
            hidden = tf.gather(hidden, rows)
        words = tf.gather(tf.transpose(self.words.kernel), tokens)
        logits = tf.einsum("bth,blh->btl", tf.cast(words, hidden.dtype), hidden)
        logits = tf.cast(logits, tf.float32)
        logits += tf.gather(self.words.bias, tokens)[..., None]
        support = tf.math.log_sigmoid(self._has(logits, axis=-1))
        support += tf.gather(self._information(), tokens)
        support = tf.where(tokens != PAD, support, 0.0)
        near = tf.einsum("btl,ml->btm", logits, _spread(self.grid))
        share = tf.gather(self.share, tokens)
        telling = tf.cast((tokens != PAD) & (share < COMMON), tf.float32)
        near = tf.matmul(_neighbours(telling), near)
        sharpness = self.sharpness * tf.cast(self.inverse_temperature, tf.float32)
        return tf.nn.log_softmax(sharpness * near), support

    def sharpen(self, factor):
        """See `Reranker.sharpen`."""
        self.inverse_temperature.assign(factor * self.inverse_temperature)

    def evidence(self, annotations):
        """log p(a caption says w) `[B, V]`, log p(a location shows w) `[B, L, V]`."""
        logits = self._logits(annotations)
        near = tf.matmul(_spread(self.grid), logits)
        return tf.math.log_sigmoid(self._has(logits, axis=1)), tf.math.log_sigmoid(near)

    @property
    def guides(self):
        """Whether it guides the search whose beams it ranks."""
        return self.guiding > 0

    def guide(self, tokens, locations, evidence):
        """`guiding` times log p(word is found) - log p(word), `[S, B, V]`; see `score`.

        That is how much more probable a location makes a word, their pointwise mutual
        information. What was said already gains nothing, nor what all captions have,
        such as `<eos>`.
        """
        (has, shows), worth = evidence, self._information()
        weight = self.guiding * tf.cast(worth > 0, tf.float32)
        beam, image, _ = tf.meshgrid(
            *map(tf.range, tf.unstack(tf.shape(tokens))), indexing="ij"
        )
        seen = tf.gather_nd(shows, tf.stack([image[..., 0], locations], axis=-1))
        # The first term is `[B, V]`: one pass less over all beams.
        gain = weight * (has / 2 + worth) + weight / 2 * seen
        # `<pad>` is among the tokens as long as there is a next word.
        said = tf.stack([beam, image, tokens], axis=-1)
        return tf.tensor_scatter_nd_update(gain, said, tf.zeros(tf.shape(tokens)))

    def score(self, beams, evidence, strength):
        """`strength` times the F measure of `expected_words`, `[K, B]`.

        A word that is said counts by the geometric mean of the two p of `evidence`, the
        second where it was looked for: a dog in the image does not make "dog" right
        that was said while looking at the grass. It is worth its information, minus the
        logarithm of its share of all captions: "dog" says more than "the".
        """
        has, shows = evidence
        said = words_of(beams.tokens, has)
        seen = where_looked(beams.tokens, beams.locations, shows)
        seen = tf.where(beams.tokens > EOS, seen, said)  # <eos> is said of no location
        found, worth = tf.exp((said + seen) / 2), self._information()
        return strength * expected_words(beams.tokens, tf.exp(has), found, worth)

    def _information(self):
        """Of each word, if a caption has it, `[V]` nats: log 1 / `share`."""
        return -tf.math.log(tf.clip_by_value(self.share, RARE, 1.0))

    @property
    def fitted(self):
        """Whether `fit` has been here."""
        return bool((keras.ops.convert_to_numpy(self.share) < 1).any())

    def fit(self, captioner, inputs, key, captions, *, seed=17, verbose="auto"):
        """Learns the words of the captions of images, from the images as wholes."""
        # Here, as it imports TFDS, which whoever only captions does not need.
        from sat_tf.reranking.bags import Bags

        bags = Bags(captioner, inputs, key, captions, seed)
        share = bags.share()
        self.share.assign(share)
        self.words.bias.assign(np.log(np.maximum(share, RARE)))  # as any image's
        self.learn(True)
        encoder, steps = captioner.encoder, PASSES * len(bags)
        trainer = keras.Sequential(
            [keras.Input((encoder.locations, encoder.size)), self]
        )
        trainer.compile(
            optimizer=keras.optimizers.Adam(
                keras.optimizers.schedules.CosineDecay(RATE, steps, 0.02)
            ),
            loss=cross_entropy,
            jit_compile=False,
        )
        trainer.fit(bags, epochs=PASSES, shuffle=False, verbose=verbose)
        self.learn(False)

    def get_config(self):
        """Constructor arguments."""
        return {
            **super().get_config(),
            "hidden_size": self.hidden_size,
            "dropout": self.dropout,
            "input_dropout": self.input_dropout,
            "sharpness": self.sharpness,
            "teaching": self.teaching,
            "guiding": self.guiding,
        }


def _spread(grid):
    """How much each location's logits count at each `[L, L]`; rows sum to 1."""
    cells = np.stack(np.meshgrid(*map(np.arange, grid), indexing="ij"), -1)
    cells = cells.reshape(-1, len(grid))
    distance = np.sum((cells[:, None] - cells) ** 2, axis=-1)
    weights = np.exp(-distance / (2 * SPREAD**2))
    return (weights / weights.sum(axis=-1, keepdims=True)).astype("float32")


def _neighbours(telling):
    """How much each word's logits count for each `[B, T, T]`; its own in full.

    Args:
        telling: `[B, T]`, 1 at words that say something of their neighbours.
    """
    time = tf.range(tf.shape(telling)[1], dtype=tf.float32)
    weights = tf.exp(-tf.abs(time[:, None] - time)) * telling[:, None]
    return tf.linalg.set_diag(weights, tf.ones_like(telling))


def cross_entropy(shares, logits):
    """Binary, of all words, `[B, V]` -> `[B]` nats.

    Their mean would be of another size in every vocabulary.
    """
    each = tf.nn.sigmoid_cross_entropy_with_logits(shares, logits)
    return tf.reduce_sum(each, axis=-1)
