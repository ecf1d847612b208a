"""A teacher's captions beside those of people, in a file that `train` takes."""

import itertools
import json

import numpy as np
import own_run
import pytest
import tensorflow as tf
from own_run import STEPS
from pycocoevalcap.cider.cider import Cider
from quick_run import HARD, loaded, own_recipe
from small_captioner import small_captioner

from sat_tf import ShowAttendTell, cli, datasets, vocabulary
from sat_tf.evaluation.evaluate import cached_inputs, predict
from sat_tf.reranking.alignment import Alignment
from sat_tf.training import building, loop, teaching
from sat_tf.training.teaching import teach

ONE = {**HARD, "stages.train.epochs": 1}


@pytest.fixture
def teacher(quick, tmp_path):
    """The folder of a captioner of random weights that keeps three beams."""
    captioner = building.build(own_recipe(), loaded("own", "train").captions)
    rng = np.random.default_rng(17)
    for variable in captioner.variables:
        if len(variable.shape) > 1:  # large ones: it is to say different things
            width = 3 / np.sqrt(np.prod(variable.shape[:-1]))
            variable.assign(rng.normal(0, width, variable.shape))
    options = {"beam": 3, "rerank": {"consensus": 0.3}, "max_length": 4}
    captioner.compile(decoder={"decoder": "beam", **options})
    captioner.save_to_preset(tmp_path / "teacher")
    return tmp_path / "teacher"


def best_two(teacher, beams, draws):
    """Per image of the own data, the captions worth learning, and the first beams."""
    captioner = ShowAttendTell.from_preset(teacher)
    split, folder = loaded("own", "train"), own_run.workplace() / "own" / "images"
    paths = [folder / name for name in split.file_names]
    spoken = captioner.generate(paths, beam=beams)
    said = [[[caption.beams[k] for caption in spoken] for k in range(beams)]]
    drawn = {"decoder": "sample", "temperature": 0.8}
    said += [[captioner.generate(paths, seed=1 + i, **drawn)] for i in range(draws)]
    people = {
        i: [" ".join(vocabulary.tokenise(text)) for text in captions]
        for i, captions in enumerate(split.captions)
    }
    ranked = [[] for _ in spoken]
    for k, captions in enumerate(itertools.chain(*said)):
        # pycocoevalcap scores one caption of each image at a time.
        words = {i: [" ".join(caption.words)] for i, caption in enumerate(captions)}
        for i, cider in enumerate(Cider().compute_score(people, words)[1]):
            if captions[i].words:
                ranked[i].append((-round(cider, 9), k, captions[i].caption))
    wanted = {
        name: list(dict.fromkeys(text for *_, text in sorted(rows)))[:2]
        for name, rows in zip(split.file_names, ranked, strict=True)
    }
    plain = [[beam.caption for beam in caption.beams[:2]] for caption in spoken]
    assert all(wanted.values())
    return wanted, plain


@pytest.mark.parametrize("beams, draws", [(3, 0), (1, 6)])
def test_its_captions_are_written_beside_what_people_say(
    beams, draws, teacher, tmp_path, capsys
):
    """Those that people agree with; only of the images that are trained on."""
    wanted, plain = best_two(teacher, beams, draws)
    assert len(set(map(tuple, wanted.values()))) > 1
    assert list(wanted.values()) != plain
    out = tmp_path / "taught.json"
    command = ["teach", str(teacher), "--data", "own", "--captions", "2"]
    command += ["--draws", str(draws)] * (draws > 0) + ["--beam", "1"] * (beams < 3)
    assert cli.main([*command, "--out", str(out), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)  # and nothing else
    images, people = sum(own_run.IMAGES.values()), 2 * sum(own_run.IMAGES.values())
    taught = sum(map(len, wanted.values()))  # draws may be alike
    assert said == {"path": str(out), "images": images, "captions": people + taught}
    rows = json.loads(out.read_text())
    assert len(rows) == images
    for split in own_run.IMAGES:
        theirs = loaded("own", split)
        own = dict(zip(theirs.file_names, theirs.captions, strict=True))
        found = {
            row["file_path"].rsplit("/", 1)[-1]: row["captions"]
            for row in rows
            if row["split"] == split
        }
        added = wanted if split == "train" else dict.fromkeys(own, [])
        assert found == {name: [*own[name], *added[name]] for name in own}


def test_the_file_trains_and_resumes(quick, teacher, tmp_path, monkeypatch, capsys):
    """On people's words; the teacher, gone since, is not asked again."""
    own = tmp_path / "folder"
    own_run.write_own(own)
    monkeypatch.setattr(loop, "load", datasets.load)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    out = own / "taught.json"
    teach(teacher, own, out, count=2, progress=False)
    names = {row["file_path"] for row in json.loads(out.read_text())}
    assert names >= set(loaded("own", "train").file_names)  # as they were
    own = own.rename(tmp_path / "moved")
    for file in sorted(teacher.iterdir()):
        file.unlink()
    out = own / "taught.json"
    split = datasets.load(out, "train")
    people = {n: c for n, c in zip(*_of(loaded("own", "train")), strict=True)}
    for name, captions in zip(*_of(split), strict=True):
        assert captions[:2] == people[name] and len(captions) == 4
    command = own_run.train_arguments(tmp_path / "run", ONE)
    command[command.index("own")] = str(out)
    assert cli.main(command) == 0
    assert len(quick.used) == 2 * STEPS  # twice the captions
    found = ShowAttendTell.from_preset(tmp_path / "run")
    plain = building.build(own_recipe(), list(people.values()))
    assert set(found.vocabulary.words) == set(plain.vocabulary.words)
    assert cli.main(command) == 0
    assert len(quick.used) == 2 * STEPS
    validation = datasets.load(out, "validation")
    assert validation.captions == loaded("own", "validation").captions


def _of(split):
    return split.file_names, split.captions


def test_cached_features_of_the_images_serve_the_student_too(
    quick, teacher, tmp_path, monkeypatch
):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    own, cache = tmp_path / "folder", tmp_path / "cache"
    own_run.write_own(own)
    teach(teacher, own, own / "taught.json", count=1, cache_dir=cache, progress=False)
    (first,) = cache.glob("*-pixels-*")
    split = datasets.load(own / "taught.json", "train")
    cached_inputs(ShowAttendTell.from_preset(teacher), split, cache)
    assert list(cache.glob("*-pixels-*")) == [first]


def test_what_was_interrupted_goes_on(teacher, tmp_path, monkeypatch):
    """Behind the last whole round, to the same captions; other beams begin anew."""
    asked = []

    def two_rounds(*args, seed, **kwargs):
        if len(asked) == 2:
            raise KeyboardInterrupt
        return all_rounds(*args, seed=seed, **kwargs)

    def all_rounds(*args, seed, **kwargs):
        asked.append(seed)
        return predict(*args, seed=seed, **kwargs)

    def ask(out, **kwargs):
        return teach(teacher, "own", out, count=2, draws=3, progress=False, **kwargs)

    whole, out = tmp_path / "whole.json", tmp_path / "taught.json"
    ask(whole)
    monkeypatch.setattr(teaching, "predict", two_rounds)
    with pytest.raises(KeyboardInterrupt):
        ask(out)
    assert asked == [0, 1] and not out.exists()
    monkeypatch.setattr(teaching, "predict", all_rounds)
    ask(out, beam=2)
    assert asked == [0, 1, 0, 1, 2, 3]
    (first,) = tmp_path.glob("taught.json.*/0.json")
    kept = first.read_bytes()
    first.write_bytes(kept[:20])
    with pytest.raises(ValueError, match="captions as `teach` keeps them. Received"):
        ask(out)
    first.write_bytes(kept)
    ask(out)
    assert asked == [0, 1, 0, 1, 2, 3, 2, 3]
    assert out.read_bytes() == whole.read_bytes()
    assert sorted(tmp_path.glob("*.json*")) == [out, whole]  # and nothing in between


def test_what_another_teacher_began_is_not_taken(teacher, tmp_path, monkeypatch):
    """Of the same name, and of other weights."""
    out, whole = tmp_path / "taught.json", tmp_path / "whole.json"

    def interrupted(*args):
        raise KeyboardInterrupt

    def ask(out):
        return teach(teacher, "own", out, count=2, progress=False)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(teaching, "_write", interrupted)
        ask(out)
    (begun,) = tmp_path.glob("taught.json.*")
    captioner = ShowAttendTell.from_preset(teacher)
    for variable in captioner.network.decoder.trainable_variables:
        variable.assign(-variable)
    captioner.save_to_preset(teacher)
    ask(out)
    ask(whole)
    assert out.read_bytes() == whole.read_bytes()
    assert [*tmp_path.glob("taught.json.*")] == [begun]  # of use to that one


def test_what_it_began_with_another_guide_is_not_taken():
    """Which is no weight of it, and changes what it says."""
    split = loaded("own", "train")
    digests = set()
    for guiding in (0.0, 0.5, 1.0):
        head = Alignment(3, guiding=guiding)
        captioner = small_captioner(rerankers=[head])
        for variable in captioner.weights:
            variable.assign(tf.zeros(variable.shape, variable.dtype))
        rounds = teaching._rounds(captioner, 2, 1)
        digests.add(teaching._digest(captioner, split, rounds))
    assert len(digests) == 3


def test_what_it_writes_is_no_more_of_what_people_say(teacher, tmp_path):
    """It takes the place of no file of theirs, and is read only where it is named."""
    data = tmp_path / "own"
    own_run.write_own(data)
    (data / "mine.json").write_text("[]")
    for name in ("captions.csv", "mine.json", "taught.csv", "taught"):
        with pytest.raises(ValueError, match="that teach has written"):
            teach(teacher, data, data / name, count=2, progress=False)
    (data / "mine.json").unlink()
    before = loaded(str(data), "train").captions
    for _ in range(2):  # its own file it may write again
        teach(teacher, data, data / "taught.json", count=2, progress=False)
    after = datasets.load(str(data), "train").captions
    assert list(map(list, after)) == list(map(list, before))
    taught = datasets.load(str(data / "taught.json"), "train").captions
    assert [len(b) + 2 for b in before] == [*map(len, taught)]


@pytest.mark.parametrize("inside", [True, False])
def test_images_that_their_names_do_not_find_get_a_path(inside, teacher, tmp_path):
    """Relative to the file where they lie below it, or else from the root."""
    own = tmp_path / "one" / "folder"
    own_run.write_own(own)
    # Of the same names, and so nobody could tell.
    own_run.write_own(tmp_path / "one" / "copy")
    out = (own.parent if inside else tmp_path / "two") / "taught.json"
    out.parent.mkdir(exist_ok=True)
    teach(teacher, own, out, count=1, progress=False)
    start = "folder/images/" if inside else f"{own}/images/"
    rows = json.loads(out.read_text())
    assert all(row["file_path"].startswith(start) for row in rows)
    assert len(datasets.load(out, "train")) == own_run.IMAGES["train"]


def test_who_cannot_teach_is_refused(teacher, tmp_path, capsys):
    """Before anything is written."""
    out = tmp_path / "taught.json"
    with pytest.raises(ValueError, match="from 1 to 3 captions, as many.*captions=5"):
        teach(teacher, "own", out)
    with pytest.raises(ValueError, match="from 1 to 4 captions, as many.*captions=5"):
        teach(teacher, "own", out, beam=2, draws=2)
    with pytest.raises(ValueError, match="Received: beam=0"):
        teach(teacher, "own", out, beam=0)
    with pytest.raises(ValueError, match="Received: draws=-1"):
        teach(teacher, "own", out, draws=-1)
    with pytest.raises(ValueError, match="Received: 'nobody'"):
        teach("nobody", "own", out)
    with pytest.raises(ValueError, match="data whose images are files.*scenes"):
        teach(teacher, "scenes", out)
    assert cli.main(["teach", "nobody", "--data", "own", "--out", str(out)]) == 2
    assert "Received: 'nobody'" in capsys.readouterr().err
    assert not out.exists()
