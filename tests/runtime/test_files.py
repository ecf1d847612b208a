"""Where results may be written."""

import pytest
from toy import toy

from sat_tf import cli
from sat_tf.evaluation.evaluate import evaluate

TO_CAPTION = ["--data", "scenes", "--preset", "scenes"]


@pytest.mark.parametrize(
    "words",
    [
        ["demo", "--out", "gs://b/x"],
        ["caption", "a.jpg", "--figure", "gs://b/x.png"],
        ["explain", "a.jpg", "--caption", "a dog", "--figure", "gs://b/x.png"],
        ["teach", "flickr8k_hard", "--data", "scenes", "--out", "gs://b/x.json"],
        ["bench-estimators", *TO_CAPTION, "--out", "gs://b/x"],
        ["train", *TO_CAPTION, "--out", "gs://b/x"],
        ["tune-trunk", *TO_CAPTION, "--out", "gs://b/x.weights.h5"],
    ],
    ids=lambda words: words[0],
)
def test_results_go_to_no_address(words, tmp_path, monkeypatch, capsys):
    """A path would make folders of it, with the name `gs:`."""
    monkeypatch.chdir(tmp_path)
    assert cli.main(words) == 2
    assert "on a disk of this machine" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "words",
    [
        ["caption", "a.jpg", "--figure"],
        ["explain", "a.jpg", "--caption", "a dog", "--figure"],
        ["teach", "nobody", "--data", "scenes", "--out"],
        ["tune-trunk", *TO_CAPTION, "--out"],
    ],
    ids=lambda words: words[0],
)
@pytest.mark.parametrize(
    "name, reason",
    [("folder", "which is a folder"), ("file/x", "file' is not a folder")],
)
def test_a_file_is_not_written_where_none_can_be(
    words, name, reason, tmp_path, monkeypatch, capsys
):
    """Which is said before the work: nobody's captioner is asked for."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    assert cli.main([*words, name]) == 2
    said = capsys.readouterr().err
    assert f"Received: '{name}'" in said and reason in said
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["file", "folder"]


def test_nor_do_those_of_a_captioner_that_is_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    captioner = toy("soft")
    for write in (
        captioner.export,
        captioner.save_to_preset,
        lambda out: evaluate(captioner, None, captioner.options(), out),
    ):
        with pytest.raises(ValueError, match="on a disk of this machine, or on one"):
            write("gs://b/x")
    assert not list(tmp_path.iterdir())
