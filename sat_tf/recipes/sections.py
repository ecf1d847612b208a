"""The sections of a recipe that have fields of their own."""

import dataclasses

from sat_tf.runtime.ranges import (
    Bound,
    Count,
    Positive,
    Rate,
    Share,
    Size,
    Weight,
    checked,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model:
    """The captioner.

    Attributes:
        trunk, encoder_weights, image_size, resize_mode: see `Encoder`.
        embedding_size, hidden_size, attention_size, dropout, input_dropout,
            output_activation: see `ShowAttendTell`.
        initial_state: a name in `INITIAL_STATES`, and arguments of its constructor.
        rerankers: those that learn, by their name in `RERANKERS`, each with the
            arguments of its constructor.
        word_vectors: text file of pretrained word vectors of `embedding_size` numbers,
            GloVe's or word2vec's, to start the word embedding from.
        dtype: `float32` or `mixed_bfloat16`: half the memory traffic, and faster where
            the hardware has it; weights stay float32.
    """

    trunk: str = "vgg19"
    encoder_weights: str | None = "imagenet"
    image_size: tuple = (224, 224)
    resize_mode: str = "crop"
    embedding_size: Size = 512
    hidden_size: Size = 512
    attention_size: Size = 512
    dropout: Rate = 0.5
    input_dropout: Rate = 0.0
    output_activation: str | None = None
    initial_state: dict = dataclasses.field(
        default_factory=lambda: {"name": "from_mean"}
    )
    rerankers: dict = dataclasses.field(default_factory=dict)
    word_vectors: str | None = None
    dtype: str = "float32"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Objective:
    """What is maximised beside the estimator's surrogate; see `ShowAttendTell.compile`.

    Attributes:
        label_smoothing, lambda_ds: as there.
        scheduled_sampling: probability, at the end of training, that the captioner's
            own word goes in instead of the caption's; it rises linearly from 0 over
            all updates of all epochs. 0 = off.
    """

    label_smoothing: Rate = 0.0
    lambda_ds: Weight = 0.0
    scheduled_sampling: Share = 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optimizer:
    """How gradients move the weights.

    Attributes:
        name: `adam` or `rmsprop` (Graves 2013, as the authors').
        learning_rate, final_rate: first and last rate of a cosine; per update.
        clip_norm: global norm of the gradient at most; `None` = as it is.
        encoder_rate: factor on the learning rate for a trunk that is trained.
    """

    name: str = "adam"
    learning_rate: Positive = 1e-3
    final_rate: Weight = 1e-3
    clip_norm: Bound = None
    encoder_rate: Weight = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data:
    """How captions become batches.

    Attributes:
        max_words, min_count: the vocabulary, see `Vocabulary.from_captions`.
        batch_size: captions.
        mirrored: whether about half of the training images of each batch are mirrored.
            That suits photographs, but not writing, nor captions that say left and
            right.
    """

    max_words: Size = 10_000
    min_count: Count = 1
    batch_size: Size = 64
    mirrored: bool = False


SECTIONS = {
    "model": Model,
    "objective": Objective,
    "optimizer": Optimizer,
    "data": Data,
}


def make_section(name, values):
    """One of `SECTIONS` with these values, which are checked; see `checked`."""
    fields = {field.name: field for field in dataclasses.fields(SECTIONS[name])}
    return SECTIONS[name](
        **{
            key: checked(f"{name}.{key}", value, fields[key].type)
            for key, value in values.items()
        }
    )
