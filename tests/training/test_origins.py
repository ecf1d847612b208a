"""Words and data of a run: it resumes with the same, or not at all."""

import hashlib
import json
import re
import shutil

import own_run
import pytest
from quick_run import HARD, loaded

from sat_tf import cli, datasets
from sat_tf.training import loop


def own_copy(folder):
    """The own data in a folder of their own, and the command that trains on them."""
    shutil.copytree(own_run.workplace() / "own", folder / "photos")
    command = own_run.train_arguments(folder / "run")
    command[command.index("--data") + 1] = str(folder / "photos")
    return folder / "photos" / "captions.csv", command


def replaced(old, new, *, times=-1):
    return lambda file: file.write_text(file.read_text().replace(old, new, times))


def edit_all_else(file):
    """Captions, images and pixels; the words stay the same, and as frequent."""
    images, rows = file.parent / "images", file.read_text().splitlines(True)
    of = {i: [row for row in rows if row.startswith(f"train{i}.png")] for i in (3, 5)}
    rows = [row for row in rows if row not in of[5]]
    rows += [row.replace("train5", "more") for row in of[5]]
    text = "".join(rows).replace(of[3][0], of[3][0].replace("A ", "a "))
    file.write_text(text.replace("validation1.png,A ", "validation1.png,one "))
    shutil.copy(images / "train5.png", images / "more.png")
    shutil.copy(images / "test0.png", images / "train0.png")


EDITS = {
    # As many words as before, which is how it once went unnoticed.
    replaced("red", "crimson"): [
        "words added: crimson; words removed: red;",
        "[0-9]+ images with other captions, e.g. train[0-9]+.png, in train",
    ],
    edit_all_else: [
        "but 1 image added, e.g. more.png, in train",
        "1 image removed, e.g. train5.png, in train",
        "1 image with other captions, e.g. train3.png, in train",
        "1 image with other pixels, e.g. train0.png, in train",
        "1 image with other captions, e.g. validation1.png, in validation",
    ],
}


def test_a_run_does_not_resume_with_other_words_or_data(
    quick, tmp_path, capsys, monkeypatch
):
    """It says which, touches nothing, and resumes once they are back."""
    monkeypatch.setattr(loop, "load", datasets.load)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    monkeypatch.setenv("SAT_TF_CACHE", str(tmp_path / "cache"))
    file, command = own_copy(tmp_path)
    assert cli.main(command) == 0
    checkpoint = tmp_path / "run" / "checkpoint.npz"
    before, rows = checkpoint.read_bytes(), file.read_text()
    pixels = (file.parent / "images" / "train0.png").read_bytes()
    quick.used.clear()
    for edit, said in EDITS.items():
        edit(file)
        shutil.rmtree(tmp_path / "cache", ignore_errors=True)  # as was once told
        capsys.readouterr()
        assert cli.main(command) == 2
        errors = capsys.readouterr().err
        for what in said:
            assert re.search(what, errors), errors
        assert "another --out" in errors and "put the data back" in errors
        file.write_text(rows)
        (file.parent / "images" / "train0.png").write_bytes(pixels)
    assert not quick.used and checkpoint.read_bytes() == before
    replaced("test0.png,A ", "test0.png,one ")(file)  # of which it knows nothing
    assert cli.main(command) == 0


def test_a_run_of_an_older_version_says_that_it_cannot_tell(quick, tmp_path, capsys):
    quick.train(tmp_path, HARD)
    (tmp_path / "origins.json").unlink()
    quick.train(tmp_path, HARD)
    assert "did not note its words and data" in capsys.readouterr().err
    quick.train(tmp_path, HARD)  # now it did
    assert not capsys.readouterr().err


def test_the_same_words_with_other_ids(quick, tmp_path):
    """What another count of them makes of a vocabulary."""
    quick.train(tmp_path)
    path = tmp_path / "origins.json"
    note = json.loads(path.read_text())
    note["words"][3:5] = reversed(note["words"][3:5])
    path.write_text(json.dumps(note))
    with pytest.raises(ValueError, match="but words with other ids: .*, "):
        quick.train(tmp_path)


def noted_before(split):
    """What earlier versions noted of each image."""
    return {
        name: [hashlib.sha256(repr(texts).encode()).hexdigest()[:16], f"{file:016x}"]
        for name, texts, file in zip(
            split.file_names, split.captions, split.image_digests, strict=True
        )
    }


def test_a_run_of_an_earlier_version_resumes(quick, tmp_path, capsys):
    """Whose note has all images in it; and if they are others, it says so."""
    quick.train(tmp_path, HARD)
    path = tmp_path / "origins.json"
    note = json.loads(path.read_text())
    note["images"] = {
        name: noted_before(loaded("own", name)) for name in ("train", "validation")
    }
    path.write_text(json.dumps(note))
    (tmp_path / "origins.npz").unlink()
    quick.train(tmp_path, HARD)
    assert not capsys.readouterr().err
    note["images"]["train"]["train2.png"][0] = "0" * 16
    path.write_text(json.dumps(note))
    with pytest.raises(
        ValueError, match="but 1 image with other captions, e.g. train2"
    ):
        quick.train(tmp_path, HARD)
