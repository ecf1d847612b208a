"""Scores: what they count, what a convention does, and what is refused."""

import collections
import json
import math
import os
import pathlib
import shutil
import stat

import pytest

from sat_tf.evaluation import captions as metrics
from sat_tf.evaluation.meteor import MeteorError, meteor_score
from sat_tf.vocabulary import tokenise

FIXTURES = pathlib.Path(__file__).parents[1] / "fixtures"
FIXTURE = json.loads((FIXTURES / "metrics_conventions.json").read_text())
needs_java = pytest.mark.skipif(
    shutil.which("java") is None, reason="METEOR needs Java, which is not here"
)


def score(captions, groups, **options):
    options = {"meteor": False, **options}
    names = [f"{i}.jpg" for i in range(len(captions))]
    return metrics.score(
        metrics.to_predictions(captions),
        metrics.to_references(names, groups),
        **options,
    )


def bleu_by_hand(hypotheses, groups, n_max):
    """Papineni et al. 2002 in ten lines: (with brevity penalty, without)."""
    right, all_, words, closest = [0] * n_max, [0] * n_max, 0, 0
    for hypothesis, group in zip(hypotheses, groups, strict=True):
        words += len(hypothesis)
        closest += min((abs(len(g) - len(hypothesis)), len(g)) for g in group)[1]
        for n in range(1, n_max + 1):

            def grams(text, n=n):
                return collections.Counter(
                    zip(*(text[k:] for k in range(n)), strict=False)
                )

            most = collections.Counter()
            for g in group:
                most |= grams(g)
            right[n - 1] += (grams(hypothesis) & most).total()
            all_[n - 1] += max(0, len(hypothesis) - n + 1)
    plain = math.prod(r / a for r, a in zip(right, all_, strict=True)) ** (1 / n_max)
    return plain * min(1, math.exp(1 - closest / words)), plain


def test_bleu_is_what_a_hand_counts():
    scores = score(["A dog runs fast."], [["a dog runs", "the dog runs very fast"]])
    # 4/4 words, 2/3 pairs, 1/2 triples; 4 words against 3, the closest: no penalty
    assert scores["bleu_1"] == pytest.approx(100)
    assert scores["bleu_2"] == pytest.approx(100 * (2 / 3) ** (1 / 2))
    assert scores["bleu_3"] == pytest.approx(100 * (2 / 3 / 2) ** (1 / 3))
    assert scores["bleu_4"] == pytest.approx(0, abs=0.1)


def test_brevity_penalty_is_on_and_off():
    scores = score(["a dog runs very"], [["a dog runs very fast today"]])
    for n in range(1, 5):
        assert scores[f"bleu_{n}_no_bp"] == pytest.approx(100)
        assert scores[f"bleu_{n}"] == pytest.approx(100 * math.exp(1 - 6 / 4))


def test_a_caption_longer_than_its_references_has_no_penalty():
    scores = score(["a dog runs very fast today"], [["a dog runs very"]])
    for n in range(1, 5):
        assert scores[f"bleu_{n}"] == pytest.approx(scores[f"bleu_{n}_no_bp"])


def test_bleu4_agrees_with_an_independent_count():
    captions = [p["caption"] for p in FIXTURE["predictions"]]
    captions[2] = captions[2].replace("<unk>", "xyzzy")
    groups = [[] for _ in captions]
    for annotation in FIXTURE["references"]["annotations"]:
        groups[annotation["image_id"]].append(annotation["caption"])
    words = [tokenise(c) for c in captions]
    references = [[tokenise(c) for c in group] for group in groups]
    expected = FIXTURE["expected"]["normalised"]
    for n in range(1, 5):
        with_penalty, without = bleu_by_hand(words, references, n)
        assert expected[f"bleu_{n}"] == pytest.approx(100 * with_penalty, abs=1e-4)
        assert expected[f"bleu_{n}_no_bp"] == pytest.approx(100 * without, abs=1e-4)
    assert metrics.bleu4(captions, groups) == pytest.approx(expected["bleu_4"])


@pytest.mark.parametrize("convention", metrics.CONVENTIONS)
def test_what_each_convention_gives_is_pinned(convention):
    scores = metrics.score(
        FIXTURE["predictions"],
        FIXTURE["references"],
        convention=convention,
        meteor=False,
    )
    for key, value in FIXTURE["expected"][convention].items():
        assert scores[key] == pytest.approx(value, abs=1e-4), key
    assert scores["convention"].startswith(f"{convention}: ")


@pytest.mark.parametrize("convention", metrics.CONVENTIONS)
@pytest.mark.parametrize("unknown", ["<unk>", "<UNK>"])
@pytest.mark.parametrize("reference", ["a unk runs", "a <unk> runs", "A <UNK>. Runs"])
def test_unknown_matches_nothing_and_counts_as_a_word(convention, unknown, reference):
    scores = score([unknown], [[reference]], convention=convention)
    assert scores["rouge_l"] == 0
    assert scores["bleu_1_no_bp"] == pytest.approx(0, abs=1e-6)
    assert scores["vocabulary_used"] == 0
    longer = score([f"a {unknown} runs"], [[reference]])
    assert longer["mean_length"] == 3
    assert longer["bleu_1"] == pytest.approx(100 * 2 / 3)


def test_cider_is_the_d_variant():
    groups = [["a dog runs"], ["two cats sleep here"], ["the red ball"]]
    right = score(["a dog runs", "two cats sleep here", "the red ball"], groups)
    assert right["cider_d"] == pytest.approx(100 * 10 * (0.75 + 1 + 0.75) / 3)
    # One word said nine times has the same cosine as once: only D sees it.
    nine = score(["a dog runs", "two cats sleep here", "ball " * 9], groups)
    once = score(["a dog runs", "two cats sleep here", "ball"], groups)
    assert nine["cider_d"] < once["cider_d"]


def test_length_and_diversity():
    scores = score(["A dog.", "a dog", "a cat <unk>"], [["a"], ["a b"], ["a b c"]])
    assert scores["distinct_captions"] == 2
    assert scores["vocabulary_used"] == 3
    assert scores["mean_length"] == pytest.approx(7 / 3)
    assert scores["reference_mean_length"] == 2
    assert scores["n_images"] == 3


@pytest.mark.parametrize(
    "caption, reference, words",
    [
        ("लाल गोला दीवार के सामने है", "लाल गोला, दीवार के सामने है।", 6),
        ("一只红色的狗在跑", "一只红色的狗，在跑。", 8),
        ("l'homme court", "L’homme court.", 3),
    ],
)
def test_captions_are_scored_in_every_script(caption, reference, words):
    """As they are printed, against references as people write them."""
    scores = score([caption], [[reference]])
    assert scores["mean_length"] == scores["reference_mean_length"] == words
    for n in range(1, min(words, 4) + 1):
        assert scores[f"bleu_{n}"] == pytest.approx(100)


def test_an_empty_caption_is_scored_and_an_empty_reference_left_out():
    scores = score(["", "a dog"], [["a cat", " . "], ["a dog"]])
    assert scores["reference_mean_length"] == 2
    assert scores["rouge_l"] == pytest.approx(50)
    assert score([""], [["a cat"]])["bleu_1"] == 0


def test_nothing_is_printed(capfd):
    score(["a dog"], [["a cat"]])
    metrics.bleu4(["a dog"], [["a cat"]])
    assert capfd.readouterr() == ("", "")


ONE = metrics.to_predictions(["a dog"])
ONE_REFERENCE = metrics.to_references(["a.jpg"], [["a dog"]])


@pytest.mark.parametrize(
    "predictions, references, said",
    [
        ([], ONE_REFERENCE, "predictions=0"),
        (ONE * 2, ONE_REFERENCE, r"twice=\[0\]"),
        (
            [{"image_id": 7, "caption": "a"}],
            ONE_REFERENCE,
            r"without_references=\[7\], without_prediction=\[0\]",
        ),
        ([{"image_id": 0}], ONE_REFERENCE, "KeyError 'caption'"),
        ([{"image_id": 0, "caption": None}], ONE_REFERENCE, "no string"),
        ({"image_id": 0}, ONE_REFERENCE, "TypeError"),
        (ONE, [], "TypeError"),
        (ONE, metrics.to_references(["a.jpg"], [["..."]]), "none for 1 images"),
    ],
)
def test_bad_input_is_refused_in_three_parts(predictions, references, said):
    with pytest.raises(ValueError, match=rf"Expected [\s\S]*Received: [\s\S]*{said}"):
        metrics.score(predictions, references, meteor=False)


def test_unknown_convention_and_unequal_lists_are_refused():
    with pytest.raises(ValueError, match="Received: convention='ptb'"):
        score(["a"], [["a"]], convention="ptb")
    with pytest.raises(ValueError, match="hypotheses=1, references=2"):
        metrics.bleu4(["a"], [["a"], ["b"]])


def test_scores_come_from_the_files(tmp_path):
    metrics.write_json(FIXTURE["predictions"], tmp_path / "new" / "predictions.json")
    metrics.write_json(FIXTURE["references"], tmp_path / "references.json")
    scores = metrics.score_files(
        tmp_path / "new" / "predictions.json",
        tmp_path / "references.json",
        meteor=False,
    )
    assert scores == metrics.score(
        FIXTURE["predictions"], FIXTURE["references"], meteor=False
    )
    with pytest.raises(ValueError, match="Received: path='.*absent.json'"):
        metrics.score_files(tmp_path / "absent.json", tmp_path / "references.json")


def test_coco_tools_read_the_files(tmp_path, capsys):
    from pycocotools.coco import COCO

    metrics.write_json(FIXTURE["predictions"], tmp_path / "predictions.json")
    metrics.write_json(FIXTURE["references"], tmp_path / "references.json")
    coco = COCO(str(tmp_path / "references.json"))
    results = coco.loadRes(str(tmp_path / "predictions.json"))
    assert sorted(results.getImgIds()) == sorted(coco.getImgIds())
    assert results.imgToAnns[4][0]["caption"] == "A dog is on the beach"


def test_json_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "scores.json"
    metrics.write_json({"bleu_4": 21.3, "note": "é"}, path)
    with pytest.raises(ValueError):
        metrics.write_json({"bleu_4": float("nan")}, path)

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full_disk)
        with pytest.raises(OSError, match="No space"):
            metrics.write_json({"bleu_4": 0}, path)
    assert json.loads(path.read_text("utf-8")) == {"bleu_4": 21.3, "note": "é"}
    assert os.listdir(tmp_path) == ["scores.json"]


@needs_java
def test_meteor_runs_on_java():
    scores = metrics.score(FIXTURE["predictions"], FIXTURE["references"])
    assert scores["meteor"] == pytest.approx(FIXTURE["expected_meteor"], abs=1e-3)
    assert "meteor_note" not in scores


@needs_java
def test_meteor_survives_what_breaks_its_protocol():
    references = [["a dog"], ["unk qzunkzq", "a <unk>"], ["a ||| dog\n"], ["süß"]]
    assert meteor_score(["", "<unk> <unk>", "|||", "<unk>\n"], references) == 0


def fake_java(folder, script):
    path = folder / "java"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(folder)


@pytest.mark.parametrize(
    "script, said",
    [
        (None, "no `java` on the PATH"),
        ("echo Unable to locate a Java Runtime. >&2; exit 1", "locate a Java Runtime"),
        ("exit 3", "METEOR's Java program failed"),
        ("while read line; do echo Error: specify Meteor stats; done", "specify"),
    ],
)
def test_meteor_is_null_with_a_reason_when_java_is_not_well(
    tmp_path, monkeypatch, script, said
):
    folder = fake_java(tmp_path, script) if script else str(tmp_path)
    monkeypatch.setenv("PATH", folder)
    scores = score(["a dog"] * 2, [["a dog"]] * 2, meteor=True)
    assert scores["meteor"] is None
    assert said in scores["meteor_note"]
    assert scores["bleu_1"] == pytest.approx(100)


def test_meteor_does_not_wait_for_ever(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", fake_java(tmp_path, "exec /bin/sleep 60"))
    with pytest.raises(MeteorError, match="no answer within 0.5 s"):
        meteor_score(["a dog"], [["a dog"]], timeout=0.5)
