"""What a pattern of files matches."""

import glob
import os

import pytest

from sat_tf.archive import files


@pytest.mark.skipif(os.name == "nt", reason="Windows asks for a right to make links")
def test_links_are_followed_but_not_in_a_circle(tmp_path):
    """With a link to itself a folder would have its images 40 times, with two 2^40."""
    inside, elsewhere = tmp_path / "in" / "deep", tmp_path / "elsewhere"
    for folder in (inside, elsewhere):
        folder.mkdir(parents=True)
        (folder / "a.jpg").touch()
    (inside / "up").symlink_to("..")
    (inside / "itself.jpg").symlink_to(inside)
    (tmp_path / "in" / "nowhere").symlink_to("nowhere")
    (tmp_path / "in" / "linked").symlink_to(elsewhere)
    (tmp_path / "in" / "again").symlink_to(elsewhere)
    wanted = ["again/a.jpg", "deep/a.jpg", "linked/a.jpg"]
    found = files.match(f"{tmp_path}/in/**/*.jpg")
    assert found == [f"{tmp_path}/in/{name}" for name in wanted]
    # A folder that is reached through links alone is no circle.
    (tmp_path / "way").symlink_to(tmp_path / "in" / "linked")
    assert files.match(f"{tmp_path}/way/**/*.jpg") == [f"{tmp_path}/way/a.jpg"]


def test_it_finds_what_glob_does(tmp_path, monkeypatch):
    for name in (
        "a.jpg",
        "b/c.jpg",
        "b/d/e.jpg",
        ".f/g.jpg",
        "b/[h]/i.jpg",
        "b/.j.jpg",
    ):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    for pattern in ("**", "**/*.jpg", "**/d/*", "*/**", "b/**/e.*", "**/b/**", "**/k"):
        pattern = f"{tmp_path}/in/{pattern}"
        found = glob.glob(pattern, recursive=True)
        wanted = sorted({path for path in found if os.path.isfile(path)})
        assert files.match(pattern) == wanted
    monkeypatch.chdir(tmp_path / "in")
    assert files.match("**/d/*") == ["./b/d/e.jpg"]
