"""Scores of captions, from COCO-format files: BLEU, ROUGE-L, CIDEr-D, METEOR, SPICE.

Every score is in percent, as in the paper's tables (BLEU-4 21.3, METEOR 20.3);
CIDEr-D too, so that the 0.596 of some tables is 59.6 here. BLEU, ROUGE-L and
CIDEr-D are pycocoevalcap's scorers, METEOR and SPICE its Java programs.

Predictions are COCO results, `[{"image_id": 0, "caption": "a dog"}, ...]`, and
references COCO captions, `{"images": [{"id", "file_name"}], "annotations":
[{"image_id", "id", "caption"}]}`, with the captions as people wrote them: one
convention turns both sides into words, since a mismatch alone costs some three
points of BLEU-4 (benchmarks/bleu_conventions.py measures it).
"""

import collections
import json
import pathlib
import re

from pycocoevalcap.bleu.bleu_scorer import BleuScorer
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge

from sat_tf.evaluation import spice
from sat_tf.evaluation.meteor import MeteorError, meteor_score
from sat_tf.runtime.files import replacing
from sat_tf.vocabulary import SPECIAL, UNK, tokenise

_UNKNOWN = SPECIAL[UNK]


def _normalise(text):
    return " ".join(tokenise(text))


Convention = collections.namedtuple("Convention", "hypothesis reference statement")
CONVENTIONS = {
    "normalised": Convention(
        _normalise,
        _normalise,
        "both sides lower-cased, punctuation dropped, clitics split "
        "(sat_tf.vocabulary.tokenise)",
    ),
    "raw": Convention(str, str, "both sides as they are, split at spaces"),
    "lower": Convention(str.lower, str.lower, "both sides lower-cased, else raw"),
    "mixed": Convention(
        _normalise, str, "predictions normalised, references raw: a mismatch"
    ),
}


def score(predictions, references, *, convention="normalised", meteor=True):
    """All scores of `predictions` against `references`, in percent.

    Args:
        predictions: list of `{"image_id", "caption"}`, one for each image. An
            empty caption is scored; `<unk>` counts as a word and matches none.
        references: dict with `"annotations"`, `{"image_id", "caption"}` each.
            Those without a single word are left out.
        convention: a name in `CONVENTIONS`. All but `normalised` are for
            measuring what a convention does to a score.
        meteor: whether to run METEOR, which takes Java and some 10 s, and SPICE,
            where its parser is installed, which takes minutes.

    Returns:
        A dict of JSON values: `bleu_1` to `bleu_4` (closest reference length,
        brevity penalty), `bleu_1_no_bp` to `bleu_4_no_bp` (without, as the
        paper), `rouge_l`, `cider_d` (inverse document frequencies are those of
        these references, hence 0 for a single image), `meteor` (None, and then
        `meteor_note` says why), `spice` where its parser is, `n_images`,
        `mean_length` and `reference_mean_length` in words, `distinct_captions`,
        `vocabulary_used` (distinct words, without `<unk>`), `convention`.

    Raises:
        ValueError: no predictions, two for one image, or images on one side
            only.
    """
    hypotheses, groups = _to_words(*_pair(predictions, references), convention)
    hypothesis_words = [text.split() for text in hypotheses]
    reference_words = [text.split() for group in groups for text in group]
    statement = CONVENTIONS[convention].statement
    return {
        **_bleu(hypotheses, groups),
        "rouge_l": _mean_score(Rouge(), hypotheses, groups),
        "cider_d": _cider_d(hypotheses, groups),
        **_meteor(hypotheses, groups, meteor),
        **(_spice(hypotheses, groups) if meteor and spice.installed() else {}),
        "n_images": len(hypotheses),
        "mean_length": _mean_length(hypothesis_words),
        "reference_mean_length": _mean_length(reference_words),
        "distinct_captions": len(set(hypotheses)),
        "vocabulary_used": len(set().union(*hypothesis_words) - {_UNKNOWN}),
        "convention": f"{convention}: {statement}; {_UNKNOWN} matches nothing; percent",
    }


def score_files(predictions_path, references_path, **options):
    """`score` of two JSON files; `options` as there."""
    return score(_read_json(predictions_path), _read_json(references_path), **options)


def bleu4(hypotheses, references):
    """BLEU-4 in percent, with brevity penalty: the model-selection score.

    Args:
        hypotheses: list of captions.
        references: a list of raw captions for each of them.
    """
    if not hypotheses or len(hypotheses) != len(references):
        raise ValueError(
            "Expected a list of references for each of one or more captions. "
            f"Received: hypotheses={len(hypotheses)}, references={len(references)}. "
            "Give one list of reference captions per hypothesis, in the same order."
        )
    return _bleu(*_to_words(hypotheses, references, "normalised"))["bleu_4"]


def to_predictions(captions):
    """COCO results of captions; an image's id is its row."""
    return [{"image_id": i, "caption": text} for i, text in enumerate(captions)]


def to_references(file_names, captions):
    """COCO captions of file names and a tuple of raw captions for each."""
    pairs = [(i, text) for i, group in enumerate(captions) for text in group]
    return {
        "images": [{"id": i, "file_name": str(n)} for i, n in enumerate(file_names)],
        "annotations": [
            {"image_id": i, "id": k, "caption": text}
            for k, (i, text) in enumerate(pairs)
        ],
    }


def write_json(value, path):
    """Writes `value` as JSON, whole or not at all."""
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
    with replacing(path) as beside:
        beside.write_text(text + "\n", encoding="utf-8")


def _read_json(path):
    try:
        return json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"Expected a JSON file of captions. Received: path={str(path)!r} "
            f"({error}). Give a file that `sat-tf evaluate` wrote, or COCO's own."
        ) from error


def _pair(predictions, references):
    """A caption and a list of references for each image, checked."""
    try:
        captions = {p["image_id"]: _text(p) for p in predictions}
        groups = collections.defaultdict(list)
        for annotation in references["annotations"]:
            groups[annotation["image_id"]].append(_text(annotation))
    except (KeyError, TypeError) as error:
        raise ValueError(
            "Expected predictions [{'image_id', 'caption'}, ...] and references "
            "{'annotations': [{'image_id', 'caption'}, ...]}. "
            f"Received: {type(error).__name__} {error}. "
            "Write both in COCO's format (to_predictions, to_references)."
        ) from error
    counts = collections.Counter(p["image_id"] for p in predictions)
    repeated = [i for i, count in counts.items() if count > 1]
    lacking = [i for i in captions if i not in groups]
    missing = [i for i in groups if i not in captions]
    if not captions or repeated or lacking or missing:
        raise ValueError(
            "Expected exactly one prediction for each image that has references. "
            f"Received: predictions={len(counts)}, twice={repeated[:5]}, "
            f"without_references={lacking[:5]}, without_prediction={missing[:5]} "
            "(image ids, five at most). Score the captions of one whole split "
            "against the references of the same split."
        )
    return list(captions.values()), [groups[i] for i in captions]


def _text(entry):
    if not isinstance(entry["caption"], str):
        raise TypeError(f"a caption that is no string, {entry}")
    return entry["caption"]


def _to_words(captions, groups, convention):
    """Captions and references as words separated by single spaces."""
    if convention not in CONVENTIONS:
        raise ValueError(
            f"Expected a convention among {sorted(CONVENTIONS)}. "
            f"Received: convention={convention!r}. Name one of them."
        )
    rule = CONVENTIONS[convention]
    hypotheses = [_hypothesis(text, rule.hypothesis) for text in captions]
    groups = [[_reference(text, rule.reference) for text in group] for group in groups]
    groups = [[text for text in group if text] for group in groups]
    empty = [i for i, group in enumerate(groups) if not group]
    if empty:
        raise ValueError(
            "Expected a reference of one word or more for each image. "
            f"Received: none for {len(empty)} images, the first in row {empty[0]}. "
            "Remove those images from predictions and references."
        )
    return hypotheses, groups


def _hypothesis(text, rule):
    """Applies `rule` around `<unk>`, which stays a word of its own."""
    known = re.split(re.escape(_UNKNOWN), text, flags=re.IGNORECASE)
    return " ".join(f" {_UNKNOWN} ".join(map(rule, known)).split())


def _reference(text, rule):
    """Applies `rule`; the word `<unk>`, should it be there, becomes another."""
    text = re.sub(re.escape(_UNKNOWN), " unk ", text, flags=re.IGNORECASE)
    return " ".join(rule(text).split())


def _bleu(hypotheses, groups):
    scorer = BleuScorer(n=4)
    for pair in zip(hypotheses, groups, strict=True):
        scorer += pair
    penalised, _ = scorer.compute_score(option="closest")
    scorer.special_reflen = 0  # no caption is shorter than 0 words: no penalty
    plain, _ = scorer.recompute_score(option="closest")
    return {
        **{f"bleu_{n}": 100 * value for n, value in enumerate(penalised, 1)},
        **{f"bleu_{n}_no_bp": 100 * value for n, value in enumerate(plain, 1)},
    }


def _cider_d(hypotheses, groups):
    """CIDEr-D in percent (Vedantam et al. 2015).

    pycocoevalcap calls it "CIDEr", but its `cider_scorer.sim` clips the
    counts ("vrama91 : added clipping") and multiplies by a Gaussian of the
    difference in length (sigma 6): the D variant, times 10.
    """
    return _mean_score(Cider(), hypotheses, groups)


def _mean_score(scorer, hypotheses, groups):
    mean, _ = scorer.compute_score(
        dict(enumerate(groups)), {i: [text] for i, text in enumerate(hypotheses)}
    )
    return 100 * float(mean)


def _meteor(hypotheses, groups, wanted):
    if not wanted:
        return {"meteor": None, "meteor_note": "METEOR was not asked for."}
    try:
        return {"meteor": 100 * meteor_score(hypotheses, groups)}
    except MeteorError as error:
        return {"meteor": None, "meteor_note": str(error)}


def _mean_length(sequences):
    return sum(map(len, sequences)) / len(sequences)


def _spice(hypotheses, groups):
    try:
        return {"spice": 100 * spice.spice_score(hypotheses, groups)}
    except spice.SpiceError as error:
        return {"spice": None, "spice_note": str(error)}
