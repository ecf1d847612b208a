"""The network of the paper: where to look, what to say, word by word."""

import keras
import tensorflow as tf

from sat_tf.estimators import Trace
from sat_tf.model import losses, recurrence
from sat_tf.model.attention import Attention
from sat_tf.model.decoder import Decoder
from sat_tf.model.recurrence import look, shifted
from sat_tf.runtime.ranges import Size, check


class Network(keras.layers.Layer):
    """Encoder, attention and decoder, and the ways to run them.

    `start` and `step` decode, one word at a time. `trace` goes over captions that are
    given, all words in one loop, and `score` asks what they would have been worth had
    the network looked elsewhere. A batch, `data`, is what `ShowAttendTell.fit` takes.

    Args:
        vocabulary_size: V.
        encoder: an `Encoder`.
        attention_size: A, the width of f_att's hidden layer.
        input_dropout: rate on what goes into the recurrence (Zaremba et al. 2014): the
            word embeddings, and channels of the annotations, an image's at all
            locations at once.
        **options: the other arguments of `Decoder`.
    """

    def __init__(
        self,
        vocabulary_size,
        *,
        encoder,
        attention_size=512,
        input_dropout=0.0,
        dtype=None,
        **options,
    ):
        # Features come in float32, for the encoder to standardise.
        super().__init__(autocast=False, dtype=dtype, name="network")
        check(Size, attention_size=attention_size)
        dtype = self.dtype_policy
        self.encoder = encoder
        self.attention = Attention(attention_size, dtype=dtype, name="attention")
        self.decoder = Decoder(
            vocabulary_size,
            input_dropout=input_dropout,
            dtype=dtype,
            name="decoder",
            **options,
        )
        self.drop_annotations = keras.layers.SpatialDropout1D(
            input_dropout, dtype=dtype, name="drop_annotations"
        )
        self.attention.build((None, encoder.size), (None, self.decoder.hidden_size))
        self.decoder.build((None, None, encoder.size))
        self.built = True

    # ---------------------------------------------------------------- from images

    def encode(self, images, training=False):
        """Features `[B, L, D]` of images `[B, H, W, 3]` in 0..255, to be cached."""
        return self.encoder.features(images, training=training)

    def features_of(self, data, training=False):
        """Float32 features `[B, L, D]` of a batch, whichever form it comes in."""
        if "annotations" in data:
            return tf.cast(data["annotations"], tf.float32)
        return self.encode(data["image"], training)

    def annotations(self, features, training=False):
        """a_i `[B, L, D]` as attention and decoder see them, dropout included."""
        annotations = tf.cast(self.encoder(features), self.compute_dtype)
        return self.drop_annotations(annotations, training=training)

    def annotations_of(self, data, training=False):
        """a_i `[B, L, D]` of each caption's image, before any dropout."""
        annotations = self.encoder(self.features_of(data, training))
        rows = data.get("rows")
        return annotations if rows is None else tf.gather(annotations, rows)

    # ------------------------------------------------------------ one word at a time

    def start(self, features, training=False, *, words=1):
        """What decoding needs before the first word.

        Args:
            features: `[B, L, D]`, from `encode`. training: dropout on.
            words: how many may be said of an image, in all its captions. If they are
                more than its locations, it is `read` once at each location instead of
                for each word: the context enters eq. 1 and eq. 7 linearly.

        Returns:
            memory: `annotations` `[B, L, D]`, or what is `read` of them, and their
                `projection` `[B, L, A]`.
            state: h_0 and c_0, `[1, B, n]` each.
        """
        annotations = self.annotations(features, training)
        memory = {"projection": self.attention.project(annotations)}
        if words > self.encoder.locations:
            memory["read"] = self.decoder.read(annotations)
        else:
            memory["annotations"] = annotations
        return memory, self.decoder.initial_state(annotations, training=training)

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
        one_hot = getattr(choose, "one_hot", False)
        if "read" in memory:
            seen = [look(x, weights, one_hot) for x in memory["read"]]
        else:
            seen = self.decoder.read(look(memory["annotations"], weights, one_hot))
        beta = self.decoder.beta(state[0])
        for_gates, for_word = (beta * x for x in seen)
        embedded = self.decoder.embed(tokens)
        hidden, cell = self.decoder.recur(embedded, for_gates, *state)
        log_p = tf.nn.log_softmax(self.decoder.logits(embedded, hidden, for_word))
        aux = {
            # For one image a third of the time of `tf.nn.softmax`.
            "alpha": tf.exp(tf.nn.log_softmax(logits)),
            "weights": weights,
            "beta": tf.squeeze(beta, axis=-1),
        }
        return log_p, (hidden, cell), aux

    # --------------------------------------------------------------- whole captions

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
            locations = self.encoder.locations
            location_bias = tf.zeros(tf.concat([tf.shape(inputs), [locations]], axis=0))
        given = self._recurrence(memory, (hidden, cell), embedded, location_bias)
        outputs = recurrence.unroll(given, select, one_hot)
        # [T, S, B, ..] -> [S, B, T, ..]
        after, context, logits, weights, cells = (
            tf.transpose(x, [1, 2, 0, 3]) for x in outputs
        )
        for_word = self.decoder.output_context(context)
        words = self.decoder.logits(embedded[None], after, for_word, training=training)
        before = tf.concat([hidden[:, :, None], after[:, :, :-1]], axis=2)
        seen = memory["annotations"], embedded
        return words, logits, weights, (before, cells), seen

    def _recurrence(self, memory, state, embedded, location_bias):
        """What the recurrence depends on, `recurrence.Inputs`."""
        attention, decoder = self.attention, self.decoder
        hidden, cell = state

        def weight(layer, name="kernel"):
            return tf.cast(tf.convert_to_tensor(getattr(layer, name)), hidden.dtype)

        def of_locations(x):
            # What is compiled has to know how many there are, whoever made the batch.
            return tf.ensure_shape(x, [None, self.encoder.locations, None])

        return recurrence.Inputs(
            gates_word=tf.transpose(decoder.gates_word(embedded), [1, 0, 2]),
            annotations=of_locations(memory["annotations"]),
            projection=of_locations(memory["projection"]),
            hidden=hidden,
            cell=cell,
            query=weight(attention.query),
            vector=weight(attention, "vector"),
            beta=weight(decoder.beta),
            beta_bias=weight(decoder.beta, "bias"),
            gates_hidden=weight(decoder.gates_hidden),
            gates_context=weight(decoder.gates_context),
            location_bias=tf.transpose(location_bias, [1, 0, 2]),
        )

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
        for_gates, for_word = self.decoder.read(contexts)
        hidden, _ = self.decoder.recur(embedded, for_gates, *states)
        words = self.decoder.logits(embedded, hidden, for_word, training=training)
        shape = tf.shape(words)
        flat = tf.reshape(words, tf.concat([[-1], shape[2:]], axis=0))
        return tf.reshape(losses.log_likelihood(flat, tokens), shape[:-1])
