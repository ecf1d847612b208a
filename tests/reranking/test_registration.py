"""Another reranker is one class and one name, and nothing else needs to know it."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from toy import batch, toy

from sat_tf import ShowAttendTell
from sat_tf.reranking import RERANKERS
from sat_tf.reranking.base import Reranker

DECODING = {"decoder": "beam", "beam": 5, "max_length": 6}


@keras.saving.register_keras_serializable("tests")
class Length(Reranker):
    """How near a beam is to the length that the image asks for."""

    learns = True

    def __init__(self, scale=1.0, **kwargs):
        super().__init__(**kwargs)
        self.scale = scale

    def build(self, annotations_shape, vocabulary_size):
        self.head = keras.layers.Dense(1, dtype=self.dtype_policy, name="head")
        self.head.build((None, annotations_shape[-1]))
        self.built = True

    def call(self, annotations):
        return tf.cast(self.head(tf.reduce_mean(annotations, axis=1))[:, 0], tf.float32)

    def objective(self, annotations, tokens, rows=None, trace=None):
        wanted = self(annotations)
        if rows is not None:
            wanted = tf.gather(wanted, rows)
        said = tf.math.count_nonzero(tokens, axis=-1, dtype=tf.float32)
        return -self.scale * tf.square(said - wanted)

    def evidence(self, annotations):
        return self(annotations)

    def score(self, beams, evidence, strength):
        return -strength * tf.abs(tf.cast(beams.length, tf.float32) - evidence)

    def get_config(self):
        return {**super().get_config(), "scale": self.scale}


@pytest.fixture(scope="module")
def registered():
    """`Length` in `RERANKERS`, while the tests of this file run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RERANKERS, "_homes", dict(RERANKERS._homes))
        RERANKERS.register("length", Length)
        yield


@pytest.fixture(scope="module")
def trained(registered):
    """A captioner that has learned how long its captions are, and some images."""
    captioner = toy("soft", rerankers=[Length(scale=0.5)])
    captioner.compile(keras.optimizers.Adam(0.1), decoder=DECODING)
    data = batch(captioner, lengths=(2, 4, 6))
    dataset = tf.data.Dataset.from_tensors(data).repeat()
    options = {"steps_per_epoch": 150, "verbose": 0, "shuffle": False}
    captioner.fit(dataset, **options)
    return captioner, data


def wanted_lengths(captioner, features):
    return captioner.rerankers[0](captioner.encoder(features)).numpy()


def spoken(captioner, features, **options):
    data = tf.data.Dataset.from_tensors({"annotations": features})
    return captioner.generate(data, **options)


def expected_scores(captioner, features, captions, strength):
    """What `Length` says of each beam, from the words that it has."""
    for wanted, caption in zip(
        wanted_lengths(captioner, features), captions, strict=True
    ):
        # `<eos>` is counted; a caption that was cut has none.
        lengths = [min(len(beam.words) + 1, 6) for beam in caption.beams]
        yield [-strength * abs(length - wanted) for length in lengths]


def test_it_learns_beside_the_decoder(trained):
    captioner, data = trained
    wanted = wanted_lengths(captioner, data["annotations"])
    np.testing.assert_allclose(wanted, [2, 4, 6], atol=0.5)


def test_generate_ranks_the_beams_by_it(trained):
    captioner, data = trained
    features = data["annotations"]
    plain = spoken(captioner, features)
    ranked = spoken(captioner, features, rerank={"length": 2.0})
    scores = expected_scores(captioner, features, ranked, 2.0)
    for before, after, wanted in zip(plain, ranked, scores, strict=True):
        found = [beam.score for beam in after.beams]
        np.testing.assert_allclose(found, wanted, atol=1e-4)
        assert found == sorted(found, reverse=True)
        assert {b.words for b in before.beams} == {b.words for b in after.beams}
    orders = [[[b.words for b in c.beams] for c in said] for said in (plain, ranked)]
    assert orders[0] != orders[1]
    both = spoken(captioner, features, rerank={"length": 2.0, "consensus": 0.3})
    assert [c.score for c in both] != [c.score for c in ranked]


@pytest.mark.parametrize("form", ["keras", "preset"])
def test_it_is_saved_with_its_captioner(trained, form, tmp_path):
    captioner, data = trained
    if form == "keras":
        captioner.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
    else:
        captioner.save_to_preset(tmp_path)
        loaded = ShowAttendTell.from_preset(tmp_path)
    (head,) = loaded.rerankers
    assert type(head) is Length and head.scale == 0.5
    features = data["annotations"]
    found, wanted = (
        [(b.words, b.score) for c in captions for b in c.beams]
        for captions in (
            spoken(each, features, rerank={"length": 2.0})
            for each in (loaded, captioner)
        )
    )
    assert found == wanted


def test_beams_of_an_exported_model_are_ranked_by_it(trained, tmp_path):
    captioner, data = trained
    folder = captioner.export(tmp_path / "served", rerank={"length": 2.0})
    served = tf.saved_model.load(str(folder)).signatures["annotations"]
    found = served(annotations=data["annotations"])
    wanted = spoken(captioner, data["annotations"], rerank={"length": 2.0})
    beams = found["beam_captions"].numpy(), found["beam_scores"].numpy()
    for captions, scores, caption in zip(*beams, wanted, strict=True):
        assert [c.decode() for c in captions] == [b.caption for b in caption.beams]
        np.testing.assert_allclose(scores, [b.score for b in caption.beams], atol=1e-5)
    card = (tmp_path / "served" / "README.md").read_text()
    assert "how near a beam is to the length that the image asks for" in card


def test_only_captioners_that_have_it_may_be_asked(trained):
    with pytest.raises(ValueError, match=r"it has none.*Received: length=2.0"):
        toy().options(rerank={"length": 2.0})


def test_one_without_a_name_is_refused(trained, tmp_path):
    """It could be neither asked for nor saved."""

    class Nameless(Length):
        """Not in `RERANKERS`."""

    captioner = toy(rerankers=[Nameless()])
    for call in (captioner.options, lambda: captioner.save_to_preset(tmp_path)):
        with pytest.raises(ValueError, match="Received: Nameless.*RERANKERS.register"):
            call()
