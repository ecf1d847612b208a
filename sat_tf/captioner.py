"""Show, Attend and Tell as a Keras model: compile, fit, generate, save."""

import keras
import tensorflow as tf

from sat_tf import reranking
from sat_tf.decoding import SAMPLING, DecodingOptions, explain, generate, selector
from sat_tf.estimators import ESTIMATORS, Estimator
from sat_tf.model.encoder import Encoder
from sat_tf.model.network import Network
from sat_tf.presets import storage
from sat_tf.presets.configuration import Configured
from sat_tf.reranking.base import made_rerankers
from sat_tf.runtime import replicas
from sat_tf.runtime.ranges import Rate, Share, Weight, check, check_dtype, check_made
from sat_tf.training_step import logs, objective, updates
from sat_tf.training_step.keras_habits import KerasHabits
from sat_tf.vocabulary import Vocabulary


@keras.saving.register_keras_serializable("sat_tf")
class ShowAttendTell(KerasHabits, Configured, keras.Model):
    """Image captioner that looks at one location for every word it says.

    Train it with `compile(optimizer=...)` and `fit(dataset)`, where the data set
    yields `{"image": [B, H, W, 3] in 0..255, "tokens": int32 [B, T]}`, or
    `"annotations": [B, L, D]` (features computed once by `encode`) in place of
    `"image"`. Tokens end in `<eos>` and are padded with 0. Captions that share images
    may come with fewer of them and `"rows"`, int `[B]`: which one each is about.
    Words to go in that are not the caption's own come as `"inputs"`, int `[B, T]`.
    `"location_bias"` `[B, T, L]`, if there, is added to the location logits (eq. 4).
    Captions without words, all 0, may fill a batch up to its size: they count for
    nothing. `fit` also takes one such dict of arrays, with Keras' `batch_size`.

    All that is drawn in training follows from Keras' global seed at the time the
    captioner is made (`keras.utils.set_random_seed`). A saved file does not hold where
    the draws were, a loaded captioner's begin anew; the checkpoints of `train` do.

    Args:
        vocabulary: a `Vocabulary`, or the list of its words.
        encoder: an `Encoder`.
        estimator: an `Estimator`, or a key of `ESTIMATORS` for its defaults.
        embedding_size: m. hidden_size: n. attention_size: A.
        dropout: rate in the deep output.
        input_dropout: rate on what goes into the recurrence, see `Network`.
        output_activation: `None` as eq. 7, `"tanh"` as the authors' code.
        initial_state: an `InitialState`, or a key of `INITIAL_STATES` for its
            defaults; `from_mean` is the paper's.
        rerankers: those that learn something of this captioner, a list: each a
            `Reranker`, or a key of `RERANKERS` for its defaults.
        dtype: policy of all but the encoder, which has its own: `float32` or
            `mixed_bfloat16` (weights, softmax, likelihoods and score terms stay
            float32); by default Keras' global one.
    """

    # The fused attention compiles by itself; the loop around it is faster without.
    supports_jit = False

    def __init__(
        self,
        vocabulary,
        *,
        encoder,
        estimator="reinforce",
        embedding_size=512,
        hidden_size=512,
        attention_size=512,
        dropout=0.5,
        input_dropout=0.0,
        output_activation=None,
        initial_state="from_mean",
        rerankers=(),
        **kwargs,
    ):
        super().__init__(autocast=False, **kwargs)
        check_dtype(self.dtype_policy)
        if not isinstance(vocabulary, Vocabulary):
            vocabulary = Vocabulary(vocabulary)
        check_made("encoder", encoder, Encoder)
        self.vocabulary = vocabulary
        self.network = Network(
            len(vocabulary),
            encoder=encoder,
            embedding_size=embedding_size,
            hidden_size=hidden_size,
            attention_size=attention_size,
            dropout=dropout,
            input_dropout=input_dropout,
            output_activation=output_activation,
            initial_state=initial_state,
            dtype=self.dtype_policy,
        )
        self.estimator = ESTIMATORS.made(estimator, Estimator)
        self._build_estimator(self.estimator)
        self.seeds = keras.random.SeedGenerator(name="seeds")
        # Last: all else starts, and draws, as it would without them.
        self.rerankers = made_rerankers(rerankers)
        for reranker in self.rerankers:
            if not reranker.built:
                reranker.dtype_policy = self.dtype_policy
                reranker.build((None, *encoder.grid, encoder.size), len(vocabulary))
        self.means = logs.running_means()
        self.decoder_options = {}
        self.label_smoothing = self.lambda_ds = self.scheduled_sampling = 0.0
        self.encoder_rate = 1.0
        self.encoder_optimizer = None
        self.graphs = {}
        self.strategy = tf.distribute.get_strategy()
        self.built = True

    @property
    def encoder(self):
        """The `Encoder`, with `grid`, `locations`, `size`, `image_size` and `adapt`."""
        return self.network.encoder

    @property
    def grid(self):
        """`(h, w)` of the locations, L = h * w."""
        return self.encoder.grid

    def encode(self, images, training=False):
        """Features `[B, L, D]` of images `[B, H, W, 3]` in 0..255, to be cached."""
        return self.network.encode(images, training=training)

    def call(self, data, training=False):
        """log p(y_t | y_<t, image) `[B, T]` nats, as `test_step` looks."""
        return self._evaluate(self._batch(data))[0].log_p_word[0]

    # ------------------------------------------------------------------- training

    def compile(
        self,
        *args,
        decoder=None,
        label_smoothing=0.0,
        lambda_ds=0.0,
        encoder_rate=1.0,
        scheduled_sampling=0.0,
        **kwargs,
    ):
        """As Keras, with what is particular to captions.

        Args:
            decoder: default of `generate`: `greedy`, `sample`, `beam`, or a dict of
                the fields of `DecodingOptions`. `None` leaves it as it is.
            label_smoothing: share of the target spread over the vocabulary.
            lambda_ds: weight of the doubly stochastic penalty (eq. 14); see the warning
                at `losses.doubly_stochastic` before raising it.
            encoder_rate: factor on the learning rate of a trainable encoder, which then
                has an optimizer of its own.
            scheduled_sampling: probability that training feeds the captioner's own
                word in place of the caption's, or a Keras schedule of it over the
                updates, see `scheduled_sampling.rising`. 0 costs nothing.
        """
        check(Rate, label_smoothing=label_smoothing)
        check(Weight, lambda_ds=lambda_ds, encoder_rate=encoder_rate)
        if not callable(scheduled_sampling):
            check(Share, scheduled_sampling=scheduled_sampling)
        super().compile(*args, **kwargs)  # of `KerasHabits`
        self.label_smoothing, self.lambda_ds = label_smoothing, lambda_ds
        self.encoder_rate = encoder_rate
        self.scheduled_sampling = scheduled_sampling
        if decoder is not None:
            named = {"decoder": decoder} if isinstance(decoder, str) else decoder
            # Refused now is what nobody could decode with later.
            self.decoder_options = self._options({}, named).told(named)
        self.compiled_updates = updates.Compiled()
        self.encoder_optimizer = None
        if self.encoder_rate != 1.0 and self.encoder.trainable_variables:
            self.encoder_optimizer = updates.encoder_optimizer(self)

    def use(self, estimator):
        """Changes the estimator between calls of `fit`, say after a soft warm-up.

        Keras goes on tracking the old one, so that its weights stay in checkpoints and
        in the optimizer until it comes back.

        Raises:
            ValueError: the optimizer was built before the estimator's weights were.
        """
        estimator = ESTIMATORS.made(estimator, Estimator)
        if estimator is self.estimator:
            return
        self._build_estimator(estimator)
        updates.check_known(self, estimator)
        self.estimator = estimator
        self.train_function = None  # traced with the old one

    def _build_estimator(self, estimator):
        if not estimator.built:
            words = (None, None, self.network.decoder.embedding_size)
            estimator.build((None, None, self.encoder.size), words)

    def fine_tune(self):
        """Trains the encoder's trunk too from the next `fit` on, at `encoder_rate`.

        Call it on a compiled captioner, between calls of `fit`: the trunk gets an
        optimizer of its own, whose moments start when the trunk does.
        """
        self.encoder.network.trainable = True
        self.encoder_optimizer = updates.encoder_optimizer(self)
        self.train_function = None  # traced with the trunk frozen

    def loss_of(self, data):
        """The scalar to minimise on a batch, and its `Trace`; see `objective.loss`."""
        return objective.loss(self, data, self._seed())

    def train_step(self, data):
        """One update: likelihood, score function against the baseline, entropy."""
        data = self._batch(data)
        with tf.GradientTape() as tape:
            loss, trace = self.loss_of(data)
            scaled = self.optimizer.scale_loss(loss)
        variables = self.trainable_variables
        gradients = replicas.total(tape.gradient(scaled, variables))
        updates.apply(self, gradients)
        inside = {id(v) for v in self.network.attention.trainable_variables}
        pairs = zip(gradients, variables, strict=True)
        extra = {
            "surrogate": replicas.total(loss),
            **self.estimator.statistics(trace),
            "attention_gradient": tf.linalg.global_norm(
                [g for g, v in pairs if id(v) in inside]
            ),
        }
        self.estimator.update(trace)  # after use: b must not know this sample
        return logs.update(self.means, trace, extra, self.encoder.locations)

    def test_step(self, data):
        """Log-likelihood as it decodes: not a noisy sample, unless asked for."""
        trace, _ = self._evaluate(self._batch(data))
        return logs.update(self.means, trace, {}, self.encoder.locations)

    def _evaluate(self, data):
        rule = self.options().attention
        select = selector(rule, self._seed())
        return self.network.trace(data, select, one_hot=rule != "expected")

    def _seed(self):
        return tf.bitcast(tf.cast(self.seeds.next(), tf.uint32), tf.int32)

    # ------------------------------------------------------------------- speaking

    def generate(self, images, *, seed=None, batch_size=32, **options):
        """Captions images.

        Args:
            images: paths, bytes, Pillow images, arrays or a `tf.data.Dataset`, one or
                many; see `decoding.generate.generate`.
            seed: for what is drawn at random: for each image by its index, whatever
                the batch; `None` draws anew at every call.
            batch_size: images decoded at once.
            **options: fields of `DecodingOptions`, over those given to `compile`.
                `banned` may hold words instead of ids; `rerank={"consensus": 0.3}`
                changes one reranker's strength, and `None` turns it off.

        Returns:
            list of `Caption`, in the order of the images.
        """
        return generate.generate(
            self, images, self.options(**options), seed=seed, batch_size=batch_size
        )

    def explain(self, images, captions):
        """Says where each word of given captions is found in the images.

        Args:
            images: as `generate` takes them. captions: a string, or one for each image.

        Returns:
            list of `Explanation`, in the order of the images.

        Raises:
            ValueError: not one caption for each image, or one without words.
        """
        return explain.explain_captions(self, images, captions)

    def options(self, **options):
        """`DecodingOptions` with this captioner's defaults filled in."""
        return self._options(self.decoder_options, options)

    def _options(self, defaults, asked):
        if asked.get("decoder", "sample") != "sample":  # then nobody asked for these
            defaults = {k: v for k, v in defaults.items() if k not in SAMPLING}
        options = {"attention": self.estimator.attention, **defaults, **asked}
        options["rerank"] = reranking.chosen(
            self.rerankers, defaults.get("rerank", {}), asked.get("rerank", {})
        )
        if isinstance(options.get("banned"), list | tuple | set):
            options["banned"] = tuple(
                self.vocabulary.id_of(w) if isinstance(w, str) else w
                for w in options["banned"]
            )
        return DecodingOptions(**options)

    def opinions(self, features, options):
        """What `decode` takes as `guides` and `rerank`, for features `[B, L, D]`."""
        pairs = reranking.with_a_say(self.rerankers, options)
        return reranking.opinions(pairs, self.encoder(features)) if pairs else {}

    # -------------------------------------------------------------------- keeping

    def save_to_preset(self, folder, **options):
        """Writes config and weights to a folder; options as `storage.save`."""
        storage.save(self, folder, **options)

    @classmethod
    def from_preset(cls, name, *, encoder_weights=None):
        """A trained captioner, by what `storage.find` takes: `hf://user/name`, say."""
        return storage.load(cls, name, encoder_weights=encoder_weights)

    def export(self, path, version=None, **options):
        """Writes a SavedModel for servers; see `sat_tf.export.export`."""
        from sat_tf.export import export  # imports TFDS, for its example images

        return export(self, path, version, **options)
