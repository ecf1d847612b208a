"""The work on a part, and the plan, without any engine."""

import errno
import importlib.util
import json
import os
import pathlib

import archived
import pytest
import tensorflow as tf
import toy_savedmodel

from sat_tf import cli
from sat_tf.archive import files, job, models, plan, readers, work
from sat_tf.engines import ENGINES, running

needs_beam = pytest.mark.skipif(
    not importlib.util.find_spec("apache_beam"), reason="needs apache-beam"
)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder of images, a preset, and what it is when it is exported."""
    folder = tmp_path_factory.mktemp("archive")
    archived.write_images(folder / "photos")
    captioner = archived.save(folder / "small")
    model = models.find(str(folder / "small"))
    return folder, captioner, model, models.ready(model, str(folder / "exported"))


@pytest.fixture
def here(place, monkeypatch):
    """The folder, where the process stands."""
    monkeypatch.chdir(place[0])
    return place


def begun(here, pattern, prefix, part_size=4):
    """A plan and its task."""
    folder, _, model, exported = here
    prefix = str(folder / prefix)
    archive = plan.make(pattern, model, part_size)
    plan.write(archive, prefix)
    return archive, work.Task(prefix, exported, 3, archive.identity)


def test_a_part_is_what_the_captioner_says(here):
    folder, captioner, *_ = here
    archive, task = begun(here, "photos/*", "out")
    assert [len(part) for part in archive.parts] == [4, 4, 1]
    counts = [work.caption_part(task, number) for number in (2, 0, 1)]
    assert counts == [(1, 0), (3, 1), (3, 1)]
    names = [f"photos/{i:02}.jpg" for i in range(archived.IMAGES)]
    assert archived.said("out") == archived.expected(captioner, names, folder)
    assert list(archived.said("out")) == [
        n for n in names if n[-6:] not in archived.BAD
    ]
    first, second = archived.rows("out-bad-*.jsonl")
    assert first["image"] == "photos/03.jpg" and second["image"] == "photos/07.jpg"
    assert "Received: image='photos/03.jpg' of 12 bytes" in first["error"]
    assert plan.missing(task.prefix, 3) == []


def test_mended_files_are_no_dead_letters_any_more(here):
    _, task = begun(here, "photos/0[23].jpg", "mended")
    work.caption_part(task, 0)
    dead = plan.bad_path(task.prefix, 0, 1)
    assert os.path.isfile(dead)
    good = pathlib.Path("photos/00.jpg").read_bytes()
    bad = pathlib.Path("photos/03.jpg").read_bytes()
    pathlib.Path("photos/03.jpg").write_bytes(good)
    try:
        assert work.caption_part(task, 0) == (2, 0) and not os.path.isfile(dead)
    finally:
        pathlib.Path("photos/03.jpg").write_bytes(bad)


def test_a_file_that_has_gone_is_a_dead_letter(here):
    pathlib.Path("photos/gone.png").touch()
    _, task = begun(here, "photos/gone.png", "gone")
    os.remove("photos/gone.png")
    assert work.caption_part(task, 0) == (0, 1)
    (row,) = archived.rows("gone-bad-*")
    assert "(No such file or directory)" in row["error"]


def example(**features):
    """A serialised `tf.train.Example`; `__` stands for `/`."""
    as_feature = {
        name.replace("__", "/"): tf.train.Feature(
            bytes_list=tf.train.BytesList(value=[value])
        )
        for name, value in features.items()
    }
    features = tf.train.Features(feature=as_feature)
    return tf.train.Example(features=features).SerializeToString()


def test_records_are_read_as_others_write_them(here):
    folder, captioner, *_ = here
    image = pathlib.Path("photos/00.jpg").read_bytes()
    records = [
        example(image__encoded=image, image__filename=b"a.jpg"),  # object detection
        example(image=image, file_name=b"b.jpg"),  # TFDS
        example(image=image),
        example(label=b"cat"),
        b"no example",
    ]
    with tf.io.TFRecordWriter("some.tfrecord-00000-of-00001") as writer:
        for record in records:
            writer.write(record)
    with tf.io.TFRecordWriter("packed.tfrecord.gz", "GZIP") as writer:
        writer.write(records[0])
    contents = pathlib.Path("some.tfrecord-00000-of-00001").read_bytes()
    pathlib.Path("torn.tfrecord").write_bytes(contents[: len(contents) // 2])
    archive, task = begun(here, "*.tfrecord*", "records")
    assert len(archive.parts) == 3
    some = "some.tfrecord-00000-of-00001"
    counts = {a[0]: work.caption_part(task, i) for i, a in enumerate(archive.parts)}
    packed, torn = "packed.tfrecord.gz", "torn.tfrecord"
    assert counts == {packed: (1, 0), some: (3, 2), torn: (1, 1)}
    found = archived.rows("records-0*-of-*.jsonl")
    names = ["a.jpg", "a.jpg", "b.jpg", f"{some}:2", "a.jpg"]
    assert [row["image"] for row in found] == names
    (caption,) = captioner.generate(["photos/00.jpg"])
    assert {row["caption"] for row in found} == {caption.caption}
    bad = {row["image"]: row["error"] for row in archived.rows("records-bad-*")}
    assert "features ['label']" in bad[f"{some}:3"] and f"{some}:4" in bad
    assert "1 records can be read" in bad["torn.tfrecord:1"]


def test_a_model_that_fails_as_a_whole_costs_its_bad_images_alone(tmp_path):
    """Somebody else's SavedModel knows the errors of our own, but not this one."""
    toy_savedmodel.export(toy_savedmodel.Toy(), tmp_path / "toy" / "1")
    found = models.find(str(tmp_path / "toy"))
    assert found.exported and found.folder.endswith("toy/1")
    captioner = models.load(models.ready(found, str(tmp_path / "out")), found.digest)
    good, broken = toy_savedmodel.picture(), toy_savedmodel.picture()[:300]
    named = {"a.jpg": good, "b.jpg": broken, "c.jpg": good}
    items = [readers.Item(name, contents) for name, contents in named.items()]
    first, second, third = work.caption_items(captioner, items)
    assert first["words"] == ["a", "shape", "on", "a", "red"] == third["words"]
    assert len(first["locations"]) == 5 and "breaks off" in second["error"]


# ---------------------------------------------------------------------------- the plan


def test_another_command_is_refused(here, monkeypatch, capsys):
    folder, *_ = here
    begun(here, "photos/*", "refusing")
    archived.save(folder / "other", seed=3)

    def says(pattern, model, size=4):
        words = ["--model", model, "--out", "refusing", "--part-size", str(size)]
        assert cli.main(["caption-archive", pattern, *words]) == 2
        return capsys.readouterr().err

    monkeypatch.setattr(running, "open_engine", lambda name, options: None)
    pattern = f"Received: PATTERN 'photos/*.png', which was '{folder}/photos/*'"
    assert pattern in says("photos/*.png", f"{folder}/small")
    assert "--model other, which was " in says("photos/*", "other")
    assert "--part-size 5, which was 4" in says("photos/*", f"{folder}/small", 5)
    archived.save(folder / "small", seed=5)
    assert "small, which has changed since" in says("photos/*", f"{folder}/small")


def test_images_that_come_later_move_no_part(here):
    archive, task = begun(here, "photos/*", "later")
    pathlib.Path("photos/000.jpg").touch()
    try:
        assert plan.read(task.prefix) == archive
    finally:
        os.remove("photos/000.jpg")


def test_an_archive_in_the_place_of_another_has_its_own_images(here):
    """In one process, which may remember the plan of the one that was there."""
    for pattern in ("photos/0[01].jpg", "photos/0[56].jpg"):
        archive, task = begun(here, pattern, "again")
        work.caption_part(task, 0)
        assert list(archived.said("again")) == list(archive.parts[0])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "[1]",
        lambda text: '{"format": 1}',
        lambda text: text.replace('"pattern"', '"later"'),
        lambda text: text.replace("{", '{"more": 1,', 1),
    ],
)
def test_a_damaged_plan_is_named(spoil, here, capsys):
    begun(here, "photos/*", "torn")
    path = here[0] / "torn-plan.json"
    path.write_text(spoil(path.read_text()))
    with pytest.raises(ValueError, match=f"Received: {path}, damaged"):
        plan.read(str(here[0] / "torn"))


def test_archives_whose_names_begin_alike_know_their_own_files(here):
    """One called `year` has nothing to do with one called `year-2`."""
    _, other = begun(here, "photos/0[0-3].jpg", "year-2")
    work.caption_part(other, 0)
    _, task = begun(here, "photos/0[4-7].jpg", "year")
    torn = pathlib.Path(f"year-2-00000-of-00001.jsonl.{'0' * 32}.tmp")
    torn.touch()
    assert plan.missing(task.prefix, 1) == [0] and plan.dead(task.prefix, 1) == []
    work.caption_part(task, 0)
    plan.remove_unfinished(task.prefix)
    assert torn.exists() and plan.missing(task.prefix, 1) == []
    pattern = plan.all_captions("year", 1)
    assert [row["image"][7:9] for row in archived.rows(pattern)] == ["04", "05", "06"]
    plan.remove_unfinished(other.prefix)
    assert not torn.exists()


def test_names_sort_by_number_however_many_parts_there_are():
    names = [plan.captions_path("x", n, 123456) for n in (7, 12345, 123455)]
    assert names == sorted(names)
    assert plan.all_captions("x", 123456) == "x-??????-of-123456.jsonl"


@pytest.mark.parametrize(
    "words, expected",
    [
        (["no/*.jpg", "--out", "x"], "Received: 'no/*.jpg'. Check the path"),
        (["photos", "--out", "x"], "It is a folder; say which files in it: 'photos/**"),
        (["photos/*", "--out", "photos"], "Write, for instance, --out photos/captions"),
        (["photos/*", "--out", "photos/00.jpg/x"], "Expected room for the output, and"),
        (["photos/*", "--out", ""], "Write, for instance, --out captions"),
        (["photos/*", "--out", "x-bad"], "Write, for instance, --out x"),
        (["photos/*", "--out", "x", "--model", "no"], "Or name the folder of a SavedM"),
    ],
)
def test_what_cannot_be_is_refused(words, expected, here, monkeypatch, capsys):
    monkeypatch.setattr(running, "open_engine", lambda name, options: None)
    assert cli.main(["caption-archive", *words]) == 2
    assert expected in capsys.readouterr().err
    assert not os.path.exists("x-plan.json")


def test_a_saved_model_that_is_no_captioner_is_refused(tmp_path):
    toy_savedmodel.export(toy_savedmodel.Plain(), tmp_path / "plain")
    found = models.find(str(tmp_path / "plain"))
    with pytest.raises(ValueError, match=r"takes \['x'\] and answers \['y'\]"):
        models.ready(found, str(tmp_path / "out"))


@pytest.mark.parametrize("contents", [b"", b"garbage"])
def test_what_is_refused_has_begun_no_archive(contents, here, monkeypatch, capsys):
    """The command can be repeated with another captioner."""
    folder, *_ = here
    (folder / "wrong").mkdir(exist_ok=True)
    (folder / "wrong" / "saved_model.pb").write_bytes(contents)
    monkeypatch.setattr(running, "open_engine", lambda name, options: None)
    words = ["photos/*", "--model", "wrong", "--out", "mistaken"]
    assert cli.main(["caption-archive", *words]) == 2
    said = f"whose saved_model.pb of {len(contents)} bytes is none"
    assert said in capsys.readouterr().err
    assert plan.read(str(folder / "mistaken")) is None


# -------------------------------------------------------------------------- the engine


def test_an_engine_that_gives_up_keeps_what_is_finished(here, monkeypatch):
    class Failing:
        def __init__(self, options):
            pass

        def run(self, work, parts):
            work(parts[0])
            raise RuntimeError("the cluster burns\nin many lines")

    monkeypatch.setitem(ENGINES._homes, "failing", Failing)
    with pytest.raises(OSError, match="Received: the cluster burns. What is finished"):
        job.caption_archive("photos/*", str(here[3]), "failed", engine="failing")
    assert plan.missing(os.path.abspath("failed"), 1) == []


@needs_beam
def test_what_ends_beam_is_told_once(here, monkeypatch, capsys, caplog):
    """In a sentence: Beam alone would log a traceback first."""

    write = files.write

    def full(path, contents):
        if path.endswith("-plan.json"):
            return write(path, contents)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "write", full)
    words = ["caption-archive", "photos/*", "--model", str(here[3]), "--out", "full"]
    assert cli.main(words) == 2
    error = capsys.readouterr().err
    assert "Received: OSError: [Errno 28] No space left on device" in error
    assert "Traceback" not in error + caplog.text


# -------------------------------------------------------------------------- the stores


@needs_beam
def test_a_store_is_read_and_written_by_beam(here, tmp_path):
    """One like gs://, whose objects are files in a folder."""
    from apache_beam.io import localfilesystem

    class Store(localfilesystem.LocalFileSystem):
        @classmethod
        def scheme(cls):
            return "store"

        def match(self, patterns, limits=None):
            found = super().match([inside(p) for p in patterns], limits)
            for metadata in found[0].metadata_list:
                metadata.path = "store://" + os.path.relpath(metadata.path, tmp_path)
            return found

        def open(self, path, *arguments, **options):
            return super().open(inside(path), *arguments, **options)

        def create(self, path, *arguments, **options):
            return super().create(inside(path), *arguments, **options)

        def exists(self, path):
            return super().exists(inside(path))

        def delete(self, paths):
            for path in paths:
                os.remove(inside(path))

        def rename(self, sources, targets):
            super().rename(*[[inside(p) for p in each] for each in (sources, targets)])

    def inside(path):
        return str(tmp_path / path.removeprefix("store://"))

    _, captioner, _, exported = here
    for path in files.match(f"{exported}/**"):
        files.copy_here(path, inside("store://model" + path[len(exported) :]))
    for name in ("in/a.jpg", "in/b.jpg", "out/none"):
        files.copy_here("photos/00.jpg", tmp_path / name)
    model = models.find("store://model")
    archive = plan.make("store://in/*.jpg", model, 2)
    plan.write(archive, "store://out/c")
    assert json.loads((tmp_path / "out/c-plan.json").read_text())["parts"]
    assert plan.read("store://out/c") == archive
    exported = models.ready(model, "store://out/c")
    task = work.Task("store://out/c", exported, 2, archive.identity)
    for _ in range(2):  # as if two workers had done it
        assert work.caption_part(task, 0) == (2, 0)
    assert plan.missing("store://out/c", 1) == []
    assert list(archived.said(tmp_path / "out/c")) == list(archive.parts[0])
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "c-00000-of-00001.jsonl", "c-plan.json", "none"
    ]  # fmt: skip
