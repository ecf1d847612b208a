"""Show, Attend and Tell: the main path, from images to the training step."""

import keras
import tensorflow as tf

from sat_tf import generation, inputs, logs, losses, recurrence, storage, updates
from sat_tf.attention import Attention
from sat_tf.decoder import Decoder
from sat_tf.decoding import OPINIONS, DecodingOptions, selector
from sat_tf.detector import WordDetector
from sat_tf.encoder import Encoder
from sat_tf.estimators import ESTIMATORS, Trace
from sat_tf.grounding import Grounding
from sat_tf.recurrence import look
from sat_tf.scheduled_sampling import shifted, with_own_words
from sat_tf.vocabulary import Vocabulary


@keras.saving.register_keras_serializable("sat_tf")
class ShowAttendTell(keras.Model):
    """Image captioner that looks at one place for every word it says.

    Train it with `compile(optimizer=...)` and `fit(dataset)`, where the data set
    yields `{"image": [B, H, W, 3] in 0..255, "tokens": int32 [B, T]}`, or
    `"annotations": [B, L, D]` (features computed once by `encode`) in place of
    `"image"`. Tokens end in `<eos>` and are padded with 0. Captions that share images
    may come with fewer of them and `"rows"`, int `[B]`: which one each is about.
    Rows of tokens that are all 0 fill a batch up and count for nothing.
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
        input_dropout: rate on what goes into the recurrence (Zaremba et al. 2014): the
            word embeddings, and channels of the annotations, an image's at all places.
        output_activation: `None` as eq. 7, `"tanh"` as the authors' code.
        initial_state: `"annotations"` as the paper, or `"learned"`; initial_dropout:
            share of the images in training that `"annotations"` says nothing of;
            initial_gain: how much it says at test time, 0 to 1; see `Decoder`.
        detector_size: hidden units of a `WordDetector`, trained beside the decoder with
            the same dropout rates, for `DecodingOptions.detection`; 0 = none.
        grounding_size: hidden units of a `Grounding`, with the same dropout rates, for
            `DecodingOptions.grounding`; 0 = none. See `grounding.fit`.
        lambda_ds: weight of the doubly stochastic penalty (eq. 14); see the warning
            at `losses.doubly_stochastic` before raising it.
        label_smoothing: share of the target spread over the vocabulary.
        attention_rule: location rule of `test_step` and `generate`: `argmax`,
            `sample` or `expected`; by default the estimator's.
        encoder_rate: factor on the learning rate of a trainable encoder.
        resize_mode: how image files become `encoder.image_size`: `crop`, `squash` or
            `none`, see `images.resize`.
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
        initial_state="annotations",
        initial_dropout=0.0,
        initial_gain=1.0,
        detector_size=0,
        grounding_size=0,
        lambda_ds=0.0,
        label_smoothing=0.0,
        attention_rule=None,
        encoder_rate=1.0,
        resize_mode="crop",
        **kwargs,
    ):
        # Features come in float32, for the encoder to standardise.
        super().__init__(autocast=False, **kwargs)
        if not isinstance(vocabulary, Vocabulary):
            vocabulary = Vocabulary(vocabulary)
        if isinstance(estimator, str):
            estimator = ESTIMATORS[estimator]()
        self.vocabulary = vocabulary
        self.encoder = encoder
        self.estimator = estimator
        self.lambda_ds = lambda_ds
        self.label_smoothing = label_smoothing
        self.attention_rule = attention_rule or estimator.attention
        self.encoder_rate = encoder_rate
        self.resize_mode = resize_mode
        dtype = self.dtype_policy
        self.attention = Attention(attention_size, dtype=dtype, name="attention")
        self.decoder = Decoder(
            len(vocabulary),
            embedding_size=embedding_size,
            hidden_size=hidden_size,
            dropout=dropout,
            input_dropout=input_dropout,
            output_activation=output_activation,
            initial_state=initial_state,
            initial_dropout=initial_dropout,
            initial_gain=initial_gain,
            dtype=dtype,
            name="decoder",
        )
        self.drop_annotations = keras.layers.SpatialDropout1D(
            input_dropout, dtype=dtype, name="drop_annotations"
        )
        self.attention.build((None, encoder.size), (None, hidden_size))
        self.decoder.build((None, None, encoder.size))
        self._build_estimator(estimator)
        # Last: the others start as they would without them.
        self.detector = self._second_opinion(WordDetector, detector_size, "detector")
        self.grounding = self._second_opinion(Grounding, grounding_size, "grounding")
        if self.grounding is not None:
            self.grounding.trainable = False  # by `grounding.fit`, afterwards
        self.seeds = keras.random.SeedGenerator(name="seeds")
        self.means = logs.running_means()
        self.decoder_options = {}
        self.scheduled_sampling = 0.0
        self.encoder_optimizer = None
        self.decoding_graphs = {}
        self.strategy = tf.distribute.get_strategy()
        self.built = True

    def _second_opinion(self, kind, size, name):
        if not size:
            return None
        layer = kind(
            len(self.vocabulary),
            size,
            dropout=self.decoder.dropout,
            input_dropout=self.decoder.input_dropout,
            dtype=self.dtype_policy,
            name=name,
        )
        layer.build((None, None, self.encoder.size))
        return layer

    @property
    def grid(self):
        """`(h, w)` of the places, L = h * w."""
        return self.encoder.grid

    # ------------------------------------------------------------------ one step

    def encode(self, images, training=False):
        """Features `[B, L, D]` of images `[B, H, W, 3]` in 0..255, to be cached."""
        return self.encoder.features(images, training=training)

    def start(self, features, training=False):
        """What decoding needs before the first word.

        Args:
            features: `[B, L, D]`, from `encode`. training: dropout on.

        Returns:
            memory: `annotations` `[B, L, D]` and their `projection` `[B, L, A]`.
            state: h_0 and c_0, `[1, B, n]` each.
        """
        annotations = tf.cast(self.encoder(features), self.compute_dtype)
        annotations = self.drop_annotations(annotations, training=training)
        memory = {
            "annotations": annotations,
            "projection": self.attention.project(annotations),
        }
        return memory, self.decoder.initial_state(annotations, training)

    def detect(self, features):
        """p(a caption says word w) `[B, V]` of features `[B, L, D]`.

        `None` for a captioner without a detector.
        """
        if self.detector is None:
            return None
        return tf.sigmoid(self.detector(self.encoder(features)))

    def ground(self, features):
        """log p(word | place) - log p(word) `[B, L, V]` nats of features `[B, L, D]`.

        `None` for a captioner without a grounding.
        """
        if self.grounding is None:
            return None
        return self.grounding.evidence(self.encoder(features))

    def step(self, tokens, state, memory, choose):
        """One word of decoding.

        Args:
            tokens: int `[S, B]`, y_{t-1}, 0 before the first word.
            state: hidden and cell, `[S, B, n]` each.
            memory: from `start`; never copied per sample or beam.
            choose: location logits `[S, B, L]` -> weights `[S, B, L]`; one that says
                `choose.one_hot` makes the context a look-up.

        Returns:
            log_p: `[S, B, V]` nats. state: h_t and c_t.
            aux: `alpha`, `weights` `[S, B, L]` and `beta` `[S, B]`.
        """
        logits = self.attention(memory["projection"], state[0])
        weights = choose(logits)
        annotations = memory["annotations"]
        one_hot = getattr(choose, "one_hot", False)
        context = look(annotations, weights, one_hot)
        context, beta = self.decoder.gate(context, state[0])
        embedded = self.decoder.embed(tokens)
        hidden, cell = self.decoder.recur(embedded, context, *state)
        log_p = tf.nn.log_softmax(self.decoder.logits(embedded, hidden, context))
        aux = {"alpha": tf.nn.softmax(logits), "weights": weights, "beta": beta}
        return log_p, (hidden, cell), aux

    # --------------------------------------------------------------- a whole caption

    def unroll(
        self,
        features,
        inputs,
        select,
        *,
        one_hot=False,
        rows=None,
        location_bias=None,
        samples=1,
        training=False,
    ):
        """Runs the recurrence over captions whose words are given.

        Args:
            features: `[B, L, D]`. inputs: int `[B, T]`, y_{t-1}, first column 0.
            select: (location logits `[S, B, L]`, t) -> weights `[S, B, L]`.
            one_hot: whether the weights are one-hot draws, see `recurrence.unroll`.
            rows: int `[B]`, the row of `features` that each caption is about, where
                captions share images; `None` = one image each.
            location_bias: `[B, T, L]`, added to the location logits; `None` = 0.
            samples: S.

        Returns:
            word logits `[S, B, T, V]`, location logits and weights `[S, B, T, L]`,
            the states `[S, B, T, n]` that the steps started from, and the annotations
            `[B, L, D]` and word vectors `[B, T, m]` that went in.
        """
        memory, state = self.start(features, training)
        if rows is not None:
            memory = {name: tf.gather(x, rows) for name, x in memory.items()}
            state = [tf.gather(x, rows, axis=1) for x in state]
        hidden, cell = (tf.repeat(x, samples, axis=0) for x in state)
        # All that needs no state is one large product outside the loop.
        embedded = self.decoder.embed(inputs, training)
        if location_bias is None:
            places = self.encoder.locations
            location_bias = tf.zeros(tf.concat([tf.shape(inputs), [places]], axis=0))

        def weight(layer, name="kernel"):
            return tf.cast(tf.convert_to_tensor(getattr(layer, name)), hidden.dtype)

        outputs = recurrence.unroll(
            recurrence.Inputs(
                gates_word=tf.transpose(self.decoder.gates_word(embedded), [1, 0, 2]),
                annotations=memory["annotations"],
                projection=memory["projection"],
                hidden=hidden,
                cell=cell,
                query=weight(self.attention.query),
                vector=weight(self.attention, "vector"),
                beta=weight(self.decoder.beta),
                beta_bias=weight(self.decoder.beta, "bias"),
                gates_hidden=weight(self.decoder.gates_hidden),
                gates_context=weight(self.decoder.gates_context),
                location_bias=tf.transpose(location_bias, [1, 0, 2]),
            ),
            select,
            one_hot,
        )
        # [T, S, B, ..] -> [S, B, T, ..]
        after, context, logits, weights, cells = (
            tf.transpose(x, [1, 2, 0, 3]) for x in outputs
        )
        words = self.decoder.logits(embedded[None], after, context, training=training)
        before = tf.concat([hidden[:, :, None], after[:, :, :-1]], axis=2)
        seen = memory["annotations"], embedded
        return words, logits, weights, (before, cells), seen

    def trace(self, data, select, *, one_hot=False, samples=1, training=False):
        """The `Trace` of a batch, and the word logits `[S, B, T, V]` behind it."""
        tokens = tf.cast(data["tokens"], tf.int32)
        words, logits, weights, states, seen = self.unroll(
            self.features_of(data, training),
            data.get("inputs", shifted(tokens)),
            select,
            one_hot=one_hot,
            rows=data.get("rows"),
            location_bias=data.get("location_bias"),
            samples=samples,
            training=training,
        )
        trace = Trace(
            log_p_word=losses.log_likelihood(words, tokens),
            log_alpha=tf.nn.log_softmax(logits),
            weights=weights,
            mask=tf.cast(tokens > 0, tf.float32),
            states=states,
            annotations=seen[0],
            embedded=seen[1],
        )
        return trace, words

    def score(self, data, states, contexts, *, embedded=None, training=False):
        """log p(y_t) had each word been spoken with another context, one step ahead.

        All steps at once, as each starts from a state that is known. The states
        themselves are not changed by it.

        Args:
            data: as `fit` takes it. states: a trace's, `[S, B, T, n]` each.
            contexts: z_t to try, before their gate, `[K, S, B, T, D]`; made of a
                trace's `annotations`.
            embedded: a trace's word vectors `[B, T, m]`; `None` = without dropout.

        Returns:
            `[K, S, B, T]` nats, 0 at padding.
        """
        tokens = tf.cast(data["tokens"], tf.int32)
        if embedded is None:
            embedded = self.decoder.embed(data.get("inputs", shifted(tokens)))
        contexts, _ = self.decoder.gate(contexts, states[0])
        hidden, _ = self.decoder.recur(embedded, contexts, *states)
        words = self.decoder.logits(embedded, hidden, contexts, training=training)
        shape = tf.shape(words)
        flat = tf.reshape(words, tf.concat([[-1], shape[2:]], axis=0))
        return tf.reshape(losses.log_likelihood(flat, tokens), shape[:-1])

    def annotations_of(self, data, training=False):
        """a_i `[B, L, D]` of each caption's image, before any dropout."""
        annotations = self.encoder(self.features_of(data, training))
        rows = data.get("rows")
        return annotations if rows is None else tf.gather(annotations, rows)

    def features_of(self, data, training=False):
        """Float32 `[B, L, D]` of a batch as `fit` takes it, in whichever form."""
        if "annotations" in data:
            return tf.cast(data["annotations"], tf.float32)
        return self.encode(data["image"], training)

    def call(self, data, training=False):
        """log p(y_t | y_<t, image) `[B, T]` nats under `attention_rule`."""
        return self._evaluate(self._batch(data))[0].log_p_word[0]

    # ------------------------------------------------------------------- training

    def loss_of(self, data):
        """The scalar to minimise on a batch, and its `Trace`."""
        seed = self._seed()
        # Once, though an estimator may look at it in several passes.
        data = {**data, "annotations": self.features_of(data, training=True)}
        if self.scheduled_sampling:
            data = with_own_words(self, data, seed)
        trace, words = self.estimator.trace(self, data, seed)
        objective = self.estimator.surrogate(trace)
        if self.lambda_ds:
            objective -= self.lambda_ds * losses.doubly_stochastic(
                tf.exp(trace.log_alpha), trace.mask
            )
        if self.label_smoothing:
            tokens = tf.cast(data["tokens"], tf.int32)
            log_p = losses.log_likelihood(words, tokens)
            smooth = losses.mean_log_p(words, log_p, tokens)
            extra = tf.reduce_mean(tf.reduce_sum(smooth - log_p, axis=-1), axis=0)
            objective += self.label_smoothing * extra
        if self.detector is not None:
            # A second opinion: it must not shape the annotations it is given.
            annotations = tf.stop_gradient(self.encoder(data["annotations"]))
            logits = self.detector(annotations, training=True)
            if "rows" in data:
                logits = tf.gather(logits, data["rows"])
            tokens = tf.cast(data["tokens"], tf.int32)
            objective += losses.detection(logits, tokens)
        return -losses.mean_over_captions(objective, trace.mask), trace

    def use(self, estimator):
        """Changes the estimator between calls of `fit`, say after a soft warm-up.

        Keras goes on tracking the old one, so that its weights stay in checkpoints and
        in the optimizer until it comes back.

        Raises:
            ValueError: the optimizer was built before the estimator's weights were.
        """
        if estimator is self.estimator:
            return
        self._build_estimator(estimator)
        optimizer = getattr(self, "optimizer", None)
        if optimizer is not None and optimizer.built:
            known = {id(v) for v in self.trainable_variables}
            unknown = [v for v in estimator.trainable_variables if id(v) not in known]
            if unknown:
                raise ValueError(
                    "Expected an optimizer that knows the estimator's weights. "
                    f"Received: estimator={estimator.name!r}, whose weights are newer "
                    "than the optimizer. Call compile(...) with a new one before "
                    "use(...), or make the captioner with this estimator and "
                    "use(Soft()) for the warm-up."
                )
        self.estimator = estimator
        self.train_function = None  # traced with the old one

    def _build_estimator(self, estimator):
        if not estimator.built:
            words = (None, None, self.decoder.embedding_size)
            estimator.build((None, None, self.encoder.size), words)

    def fine_tune(self):
        """Trains the encoder's trunk too from the next `fit` on, at `encoder_rate`.

        Call it on a compiled captioner, between calls of `fit`: the trunk gets an
        optimizer of its own, whose moments start when the trunk does.
        """
        self.encoder.network.trainable = True
        self.encoder_optimizer = updates.encoder_optimizer(self)
        self.train_function = None  # traced with the trunk frozen

    def train_step(self, data):
        """One update: likelihood, score function against the baseline, entropy."""
        data = self._batch(data)
        with tf.GradientTape() as tape:
            loss, trace = self.loss_of(data)
            scaled = self.optimizer.scale_loss(loss)
        variables = self.trainable_variables
        gradients = tape.gradient(scaled, variables)
        updates.apply(self, gradients)
        inside = {id(v) for v in self.attention.trainable_variables}
        pairs = zip(gradients, variables, strict=True)
        extra = {
            "surrogate": loss,
            **self.estimator.statistics(trace),
            "attention_gradient": tf.linalg.global_norm(
                [g for g, v in pairs if id(v) in inside]
            ),
        }
        self.estimator.update(trace)  # after use: b must not know this sample
        return self._logs(trace, extra)

    def test_step(self, data):
        """Log-likelihood under `attention_rule`, so that it is not a noisy sample."""
        trace, _ = self._evaluate(self._batch(data))
        return self._logs(trace, {})

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

    @property
    def metrics(self):
        """The means that training and evaluation show."""
        return list(self.means.values())

    def make_train_function(self, force=False):
        """As Keras', on one replica."""
        updates.check_one_replica(self)
        return super().make_train_function(force)

    def make_test_function(self, force=False):
        """As Keras', on one replica."""
        updates.check_one_replica(self)
        return super().make_test_function(force)

    def compile(self, *args, decoder=None, scheduled_sampling=0.0, **kwargs):
        """As Keras; a trainable encoder with its own rate gets its own optimizer.

        Args:
            decoder: default of `generate`: `greedy`, `sample`, `beam`, or a dict of
                the fields of `DecodingOptions`.
            scheduled_sampling: probability that training feeds the captioner's own
                word in place of the caption's, or a Keras schedule of it over the
                updates, see `scheduled_sampling.rising`. 0 costs nothing.
        """
        updates.check_one_replica(self, compiling=True)
        super().compile(**inputs.arguments(super().compile, args, kwargs))
        self.scheduled_sampling = scheduled_sampling
        if decoder is not None:
            named = {"decoder": decoder} if isinstance(decoder, str) else decoder
            self.decoder_options = dict(named)
            self.options()  # refuses now what nobody could decode with later
        self.compiled_updates = updates.Compiled()
        self.encoder_optimizer = None
        if self.encoder_rate != 1.0 and self.encoder.trainable_variables:
            self.encoder_optimizer = updates.encoder_optimizer(self)

    def get_compile_config(self):
        """What `compile` was given, for a saved model; `None` if it was not called."""
        if not self.compiled:
            return None
        own = {
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

    def _batch(self, data):
        try:
            return inputs.batch_of(data, self.encoder)
        except ValueError:
            # TensorFlow would go on with the graph that this leaves half traced.
            self.train_function = self.test_function = self.predict_function = None
            raise

    def _evaluate(self, data):
        return self.trace(
            data,
            selector(self.attention_rule, self._seed()),
            one_hot=self.attention_rule != "expected",
        )

    def _seed(self):
        return tf.bitcast(tf.cast(self.seeds.next(), tf.uint32), tf.int32)

    def _logs(self, trace, extra):
        return logs.update(self.means, trace, extra, self.encoder.locations)

    # ------------------------------------------------------------------- speaking

    def generate(self, images, *, seed=None, batch_size=32, **options):
        """Captions images.

        Args:
            images: paths, bytes, Pillow images, arrays or a `tf.data.Dataset`, one or
                many; see `generation.generate`.
            seed: for what is drawn at random: for each image by its index, whatever
                the batch; `None` draws anew at every call.
            batch_size: images decoded at once.
            **options: fields of `DecodingOptions`, over those given to `compile`.
                `banned` may hold words instead of ids.

        Returns:
            list of `Caption`, in the order of the images.
        """
        return generation.generate(
            self, images, self.options(**options), seed=seed, batch_size=batch_size
        )

    def options(self, **options):
        """`DecodingOptions` with this captioner's defaults filled in."""
        defaults = {"attention": self.attention_rule, **self.decoder_options}
        if options.get("consensus", 0.0) is None:
            for name in OPINIONS:
                defaults.pop(name, None)  # they add to what is not wanted
        options = {**defaults, **options}
        if "banned" in options:
            options["banned"] = tuple(
                self.vocabulary.id_of(w) if isinstance(w, str) else w
                for w in options["banned"]
            )
        options = DecodingOptions(**options)
        for name, layer in zip(OPINIONS, ("detector", "grounding"), strict=True):
            if getattr(options, name) and getattr(self, layer) is None:
                raise ValueError(
                    f"Expected {name}=0, as this captioner was trained without "
                    f"{layer}_size. Received: {name}={getattr(options, name)}. "
                    f"Leave it out, or train with --set {layer}_size=512."
                )
        return options

    # -------------------------------------------------------------------- keeping

    def get_config(self):
        """Constructor arguments and `decoder_options`: what `from_config` takes."""
        return {
            "name": self.name,
            "vocabulary": self.vocabulary.get_config()["words"],
            "encoder": self.encoder.get_config(),
            "estimator": keras.saving.serialize_keras_object(self.estimator),
            "embedding_size": self.decoder.embedding_size,
            "hidden_size": self.decoder.hidden_size,
            "attention_size": self.attention.size,
            "dropout": self.decoder.dropout,
            "input_dropout": self.decoder.input_dropout,
            "output_activation": self.decoder.output_activation,
            "initial_state": self.decoder.starts_from,
            "initial_dropout": self.decoder.initial_dropout,
            "initial_gain": self.decoder.initial_gain,
            "detector_size": self.detector.hidden_size if self.detector else 0,
            "grounding_size": self.grounding.hidden_size if self.grounding else 0,
            "lambda_ds": self.lambda_ds,
            "label_smoothing": self.label_smoothing,
            "attention_rule": self.attention_rule,
            "encoder_rate": self.encoder_rate,
            "resize_mode": self.resize_mode,
            "dtype": self.dtype_policy.name,
            "decoder": self.decoder_options,
        }

    def save_to_preset(self, folder, **options):
        """Writes config and weights to a folder; options as `storage.save`."""
        storage.save(self, folder, **options)

    def export(self, path, version=None, **options):
        """Writes a SavedModel for servers; see `sat_tf.export.export`."""
        from sat_tf.export import export  # imports TFDS, for its example images

        return export(self, path, version, **options)

    @classmethod
    def from_preset(cls, name, *, encoder_weights=None):
        """A trained captioner, by what `storage.find` takes: `hf://user/name`, say."""
        return storage.load(cls, name, encoder_weights=encoder_weights)

    @classmethod
    def from_config(cls, config):
        """Rebuilds a captioner; its weights come from the saved file."""
        config = dict(config)
        config["encoder"] = Encoder.from_config(config["encoder"])
        config["estimator"] = keras.saving.deserialize_keras_object(config["estimator"])
        decoder = config.pop("decoder", {})
        captioner = cls(config.pop("vocabulary"), **config)
        captioner.decoder_options = dict(decoder)
        return captioner
