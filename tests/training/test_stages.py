"""Stages: what each does, in which order, and killed at any moment."""

import json

import numpy as np
import pytest
from own_run import STEPS
from quick_run import FINE_TUNED, HARD, arrays_of, trunk_of, vector_of

from sat_tf.estimators import Reinforce, Rloo, Soft, Variational
from sat_tf.reranking.alignment import Alignment
from sat_tf.reranking.grounding import Grounding
from sat_tf.training.run import Run
from sat_tf.training.stages import STAGES, Plan, Stage


def test_soft_warm_up_then_hard(quick, tmp_path):
    captioner, history = quick.train(tmp_path, {"stages.train.epochs": 2})
    assert quick.used == [Soft] * STEPS + [Reinforce] * 2 * STEPS
    assert isinstance(captioner.estimator, Reinforce)
    assert captioner.options().attention == "argmax"
    assert [row["epoch"] for row in history] == [1, 2, 3]


def test_soft_alone_needs_no_warm_up(quick, tmp_path):
    """Its first epoch may be its best, and there is no captioner to wait for."""
    quick.bleu = {1: 9.0}
    stages = {"warm_up": {"epochs": 2}}
    captioner, _ = quick.train(
        tmp_path, {"estimator": {"name": "soft"}, "stages": stages}
    )
    assert captioner.options().attention == "expected"
    metadata = json.loads((tmp_path / "model" / "metadata.json").read_text())
    assert metadata["epoch"] == 1


def test_stopped_in_and_after_a_warm_up(quick, tmp_path, monkeypatch):
    """The estimator that waits for its turn is in every checkpoint, in one place."""
    options = {"estimator": {"name": "variational"}}
    whole, history = quick.train(tmp_path / "whole", options)
    real, calls = Run.save_checkpoint, []

    def dies(self, *args):
        real(self, *args)
        calls.append(args)
        if len(calls) in (1, STEPS + 1):
            raise KeyboardInterrupt

    monkeypatch.setattr(Run, "save_checkpoint", dies)
    for used in (Soft, Variational):
        with pytest.raises(KeyboardInterrupt):
            quick.train(tmp_path / "stopped", options)
        assert quick.used[-1] is used
    found, again = quick.train(tmp_path / "stopped", options)
    assert again == history
    for ours, theirs in zip(found.weights, whole.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_the_trunk_is_trained_after_so_many_epochs(quick, small_trunk, tmp_path):
    """And a run killed before, at or after that moment ends with the same weights."""
    cache = tmp_path / "cache"  # features of another trunk are refused

    def run(out):
        return quick.train(tmp_path / out, FINE_TUNED, cache_dir=cache)

    class Killed(Exception):
        pass

    def dying(after):
        calls = []

        def save(self, captioner, progress):
            real(self, captioner, progress)
            calls.append(progress.step)
            checkpoints[progress.step] = arrays_of(self.folder / "checkpoint.npz")
            if len(calls) == after:
                raise Killed

        return save

    real, checkpoints = Run.save_checkpoint, {}
    whole, history = run("whole")
    assert quick.read == ["annotations"] * STEPS + ["image"] * 2 * STEPS
    with pytest.MonkeyPatch.context() as patch:
        for saves in (1, STEPS - 1, 1):  # in epoch 1, at its end, in epoch 2
            patch.setattr(Run, "save_checkpoint", dying(saves))
            with pytest.raises(Killed):
                run("stopped")
    found, again = run("stopped")
    for mine, theirs in zip(trunk_of(found), trunk_of(whole), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    np.testing.assert_array_equal(vector_of(found), vector_of(whole))
    assert again == history
    # A frozen trunk is not kept again and again, only one that changes.
    kernel = trunk_of(whole)[0].shape
    kept = {
        step: any(array.shape == kernel for array in arrays.values())
        for step, arrays in checkpoints.items()
    }
    assert kept == {step: step > STEPS for step in range(1, STEPS + 2)}


def test_grounding_is_fitted_at_the_end_and_once(quick, tmp_path, monkeypatch):
    """And a run that is killed then ends as one that was not."""
    strengths = {"consensus": 0.3, "grounding": 0.5}
    options = {
        **HARD,
        "stages.fit_rerankers": {},
        "model.rerankers": {"grounding": {"hidden_size": 3}},
        "decoding": {"decoder": "beam", "beam": 2, "rerank": strengths},
    }

    def weights(captioner):
        return [w.numpy() for w in captioner.rerankers[0].weights]

    whole, _ = quick.train(tmp_path / "whole", options)
    assert whole.rerankers[0].fitted and dict(whole.options().rerank) == strengths
    before = (tmp_path / "whole" / "model" / "metadata.json").read_text()
    fit = Grounding.fit

    def dies(self, *args, **kwargs):
        fit(self, *args, **kwargs)
        raise KeyboardInterrupt

    monkeypatch.setattr(Grounding, "fit", dies)
    again, _ = quick.train(tmp_path / "whole", options)  # nothing more to do
    assert (tmp_path / "whole" / "model" / "metadata.json").read_text() == before
    with pytest.raises(KeyboardInterrupt):
        quick.train(tmp_path / "killed", options)
    monkeypatch.setattr(Grounding, "fit", fit)
    found, _ = quick.train(tmp_path / "killed", options)
    for other in (again, found):
        for mine, theirs in zip(weights(other), weights(whole), strict=True):
            np.testing.assert_array_equal(mine, theirs)


SEEN = {
    **HARD,
    "model.rerankers": {"alignment": {"hidden_size": 4}},
    "stages.see": {},
}


@pytest.fixture
def seeing(monkeypatch):
    """What every call of `Alignment.fit` read: `annotations` or `image`."""
    fit, calls = Alignment.fit, []

    def watched(self, captioner, inputs, key, captions, **options):
        fit(self, captioner, inputs, key, captions, **options)
        calls.append(key)

    monkeypatch.setattr(Alignment, "fit", watched)
    return calls


def test_words_are_seen_before_any_is_said(quick, seeing, tmp_path):
    captioner, _ = quick.train(tmp_path / "run", SEEN)
    assert len(seeing) == 1 and captioner.rerankers[0].fitted
    kept = json.loads((tmp_path / "run" / "preset.json").read_text())["stages"]
    assert list(kept)[0] == "see"


def test_what_was_seen_is_restored_on_resuming(quick, seeing, tmp_path):
    """Killed while it sees, when it has seen, and later; it sees twice at most."""
    whole, history = quick.train(tmp_path / "whole", SEEN)
    seeing.clear()

    def dying(owner, name):
        """Does it, and then dies."""
        real = getattr(owner, name)

        def dies(*args, **options):
            real(*args, **options)
            raise KeyboardInterrupt

        patch = pytest.MonkeyPatch()
        patch.setattr(owner, name, dies)
        return patch

    for owner, name in (
        (Alignment, "fit"),
        (Run, "save_checkpoint"),
        (Run, "save_checkpoint"),
    ):
        patch = dying(owner, name)
        with pytest.raises(KeyboardInterrupt):
            quick.train(tmp_path / "stopped", SEEN)
        patch.undo()
    found, again = quick.train(tmp_path / "stopped", SEEN)
    assert len(seeing) == 2 and again == history
    weights = [
        [w.numpy() for w in each.rerankers[0].weights] for each in (found, whole)
    ]
    for mine, theirs in zip(*weights, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    np.testing.assert_array_equal(vector_of(found), vector_of(whole))


class Others(Stage):
    """Another estimator for a while; and a word said at the end."""

    def __init__(self, epochs=0, *, samples=2):
        super().__init__(epochs)
        self.samples = samples

    def judged(self, estimator):
        """Its captioner is not the one that was asked for."""
        return False

    def enter(self, captioner, estimator):
        """Uses it."""
        if not isinstance(captioner.estimator, Rloo):
            captioner.use(Rloo(samples=self.samples))

    def finish(self, captioner, inputs, key, captions, *, seed, verbose):
        """Says one word more or less often, once."""
        bias = captioner.network.decoder.output_word.bias
        if float(bias[3]) == 9.0:
            return False
        values = bias.numpy()
        values[3] = 9.0
        bias.assign(values)
        return True


@pytest.mark.parametrize("order", [["others", "train"], ["train", "others", "train2"]])
def test_a_new_stage_is_a_class_and_a_line(order, quick, tmp_path, monkeypatch):
    """It trains where the recipe says, resumes after a kill, and is saved."""
    monkeypatch.setitem(STAGES, "others", Others)
    monkeypatch.setitem(STAGES, "train2", STAGES["train"])
    stages = {name: {"epochs": 1} for name in order}
    stages["others"]["samples"] = 3
    recipe = {"stages": stages}
    whole, history = quick.train(tmp_path / "whole", recipe)
    used = [Rloo if name == "others" else Reinforce for name in order]
    assert quick.used == [kind for kind in used for _ in range(STEPS)]
    assert [row["epoch"] for row in history] == list(range(1, len(order) + 1))
    assert isinstance(whole.estimator, Reinforce)
    kept = json.loads((tmp_path / "whole" / "preset.json").read_text())["stages"]
    assert kept == stages and list(kept) == order
    metadata = json.loads((tmp_path / "whole" / "model" / "metadata.json").read_text())
    assert order[metadata["epoch"] - 1] != "others"

    real, calls = Run.save_checkpoint, []

    def dies(self, *args):
        real(self, *args)
        calls.append(args)
        if len(calls) % 2 == 0:  # in every stage, and at its end
            raise KeyboardInterrupt

    monkeypatch.setattr(Run, "save_checkpoint", dies)
    while True:
        try:
            found, again = quick.train(tmp_path / "stopped", recipe)
            break
        except KeyboardInterrupt:
            continue
    assert len(calls) == len(order) * STEPS and again == history
    np.testing.assert_array_equal(vector_of(found), vector_of(whole))
    for captioner in (found, type(found).from_preset(tmp_path / "stopped")):
        assert float(captioner.network.decoder.output_word.bias[3]) == 9.0


def test_a_plan_knows_its_stages_by_epoch():
    plan = Plan(
        {"warm_up": {"epochs": 2}, "train": {"epochs": 0}, "fine_tune": {"epochs": 1}}
    )
    kinds = [STAGES[name] for name in ("warm_up", "warm_up", "fine_tune")]
    assert [type(plan.at(epoch)) for epoch in range(3)] == kinds
    assert plan.epochs == 3 and plan.trains_the_trunk
    with pytest.raises(IndexError):
        plan.at(3)
    begun = [[type(stage) for stage in plan.until(epoch)] for epoch in (-1, 0, 1, 2)]
    assert begun == [[], kinds[:1], kinds[:1], kinds[1:]]
    assert plan.first_judged(Reinforce()) == 2 and plan.first_judged(Soft()) == 0


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        ({"warmup": {"epochs": 1}}, "one of see, warm_up, train, fine_tune, fit_"),
        ({"train": {"epoch": 1}}, r"takes: epochs. Received: stages.train.epoch=1"),
        ({"train": {"epochs": -1}}, "whole number of epochs, 0 or more.*epochs=-1"),
        ({"train": {"epochs": True}}, "stages.train.epochs to be a whole number"),
        ({"fit_rerankers": {"epochs": 1}}, "fit_rerankers takes: none"),
        ({"see": {"epochs": 1}}, "see takes: none"),
    ],
)
def test_stages_that_are_refused(stages, said):
    with pytest.raises(ValueError, match=said):
        Plan(stages)


def test_a_run_without_an_epoch_that_counts_is_refused():
    with pytest.raises(ValueError, match="WarmUp for 3, Train for 0. Set stages.train"):
        Plan({"warm_up": {"epochs": 3}, "train": {"epochs": 0}}).check(Reinforce())
