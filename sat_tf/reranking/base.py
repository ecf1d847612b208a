"""What a reranker has to say."""

import keras

from sat_tf.reranking import RERANKERS


class Reranker(keras.layers.Layer):
    """A second opinion on the finished beams of an image.

    A subclass implements `score`, and `evidence` if it needs to know more of an image
    than its beams. One that has a say in the search itself sets `guides = True` and
    implements `guide`. One that learns sets `learns = True` and has weights, made in
    `build`; a captioner is given such a reranker when it is made, since its weights are
    saved with the captioner. It learns either beside the decoder, through `objective`,
    or afterwards, in `fit`.
    """

    learns = False
    """Whether it has weights, and so belongs to one captioner."""
    locates = False
    """Whether it knows which locations show a word, and so has `locate`."""
    guides = False
    """Whether it guides the search whose beams it ranks, and so has `guide`."""
    requires = ()
    """Names of the rerankers to whose scores this one only adds."""
    added = ()
    """Names of weights that captioners saved by earlier versions lack, the last of its
    own; they stay as they are made."""
    strength = 1.0
    """How much it counts unless told otherwise; what 0 and 1 mean, `score` says."""

    def __init__(self, **kwargs):
        # Weights are saved by name, and Keras' own names count upwards.
        super().__init__(**{"name": type(self).__name__.lower(), **kwargs})

    @classmethod
    def summary(cls):
        """Its docstring's first line, for model cards."""
        line = cls.__doc__.splitlines()[0].rstrip(".")
        return line[0].lower() + line[1:]

    @classmethod
    def is_off(cls, strength):
        """Whether it counts for nothing at this strength; `None` and 0 do."""
        return strength is None or strength == 0

    def build(self, annotations_shape, vocabulary_size):
        """Creates weights from `(None, h, w, D)`, the grid and D, and V."""
        self.built = True

    def load_own_variables(self, store):
        """As Keras does, but a file may lack what is `added`."""
        own = self._trainable_variables + self._non_trainable_variables
        earlier = len(own) - len(self.added)
        if len(store.keys()) != earlier:
            super().load_own_variables(store)
            return
        for number, variable in enumerate(own[:earlier]):
            variable.assign(store[f"{number}"])

    def get_build_config(self):
        """Nothing: a captioner builds its rerankers, with sizes of its own."""

    def objective(self, annotations, tokens, rows=None, trace=None):
        """What to maximise beside the likelihood, per caption: `[B]`, or 0.

        Args:
            annotations: `[B, L, D]`, through which no gradient may pass.
            tokens: int32 `[B, T]`, 0 at padding.
            rows: int `[B]`, the row of `annotations` that each caption is about;
                `None` = one image each.
            trace: the `Trace` of the batch, whose attention may be taught.
        """
        return 0.0

    def locate(self, annotations, tokens, rows=None):
        """Where words are seen, and how far the images support them.

        Args:
            annotations, tokens, rows: as `objective` takes them.

        Returns:
            log p(location | word) `[B, T, L]` nats, and `[B, T]` nats: how much more
            probable the image makes each word than images in general do.
        """
        raise NotImplementedError

    def sharpen(self, factor):
        """Makes `locate` surer, by a factor on its logarithms.

        Attention is made so by `fit_temperature`. `explain` multiplies the two, and
        finds words where it did before if both are made surer alike.
        """

    @property
    def fitted(self):
        """Whether there is nothing left for `fit` to do."""
        return True

    def fit(self, captioner, inputs, key, captions, *, seed=17, verbose="auto"):
        """Learns from a captioner that has been trained; nothing else moves.

        Args:
            captioner: a `ShowAttendTell`.
            inputs, key: from `cached_inputs`.
            captions: per image, its captions.
            seed: of everything that is drawn.
            verbose: as in Keras' `fit`.
        """

    def evidence(self, annotations):
        """What `score` needs to know of the images: `[B, L, D]` -> tensors."""
        return ()

    def guide(self, tokens, locations, evidence):
        """What each word gains in the search, `[S, B, V]` nats; `<pad>` nothing.

        Args:
            tokens: int32 `[S, B, T]`, the captions so far, then 0.
            locations: int32 `[S, B]`, where each looks for its next word.
            evidence: what `evidence` made of the images.
        """
        raise NotImplementedError

    def score(self, beams, evidence, strength):
        """How good each beam is, `[K, B]`.

        Args:
            beams: `Decoded`, the search's beams.
            evidence: what `evidence` made of the images.
            strength: a number, by which its opinion counts.
        """
        raise NotImplementedError


def made_rerankers(rerankers):
    """A captioner's rerankers: each is a `Reranker`, or a name in `RERANKERS`.

    Raises:
        ValueError: it is no such list, or one of them comes twice.
    """
    if not isinstance(rerankers, (list, tuple)):
        raise ValueError(
            "Expected rerankers to be a list. "
            f"Received: rerankers={rerankers!r}. Put them in brackets."
        )
    every = [RERANKERS.made(each, Reranker) for each in rerankers]
    kinds = [type(each) for each in every]
    if len(set(kinds)) != len(kinds):
        raise ValueError(
            "Expected rerankers of different kinds. Received: "
            f"{', '.join(kind.__name__ for kind in kinds)}. Leave out the second."
        )
    return every
