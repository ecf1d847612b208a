"""Data sets on disk: every layout read, and what is wrong with them said."""

import csv
import hashlib
import json
import os
import pathlib
import shutil
import tempfile
import uuid
import warnings

import numpy as np
import own_run
import pictures
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from etils.epath import backend, gpath, register
from tensorflow_datasets.scripts.cli import build, cli_utils

from sat_tf import datasets, images
from sat_tf.datasets import (
    check,
    grouping,
    image_index,
    own,
    schema,
    split_names,
)
from sat_tf.datasets.rows import Row
from sat_tf.evaluation.captions import to_references

CAPTIONS = ("A dog runs .", "The dog is running !")
NAMES = {"train": ["a.jpg", "b.jpg"], "dev": ["c.jpg"], "test": ["d.jpg"]}


@pytest.fixture(autouse=True)
def prepared(tmp_path, monkeypatch):
    """Keep prepared data out of the home folder."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    return tmp_path / "tfds"


def write_image(path, value=50, kind=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = kind or {".jpg": "JPEG"}.get(path.suffix, path.suffix[1:].upper())
    path.write_bytes(pictures.encode(pictures.plain(value), kind))


def flickr(folder, images_folder="Flicker8k_Dataset", parts=("train", "dev", "test")):
    lines = []
    for part, names in NAMES.items():
        for name in names:
            if part in parts:
                write_image(folder / images_folder / name, ord(name[0]))
            lines += [f"{name}#{i}\t{text}" for i, text in enumerate(CAPTIONS)]
        if part in parts:
            (folder / f"Flickr_8k.{part}Images.txt").write_text("\n".join(names))
    (folder / "Flickr8k.token.txt").write_text("\n".join(lines) + "\n")
    return folder


def karpathy(folder, name="dataset_flickr8k.json", **extra):
    entries = [
        {
            "filename": image,
            "split": {"dev": "val"}.get(part, part),
            "imgid": 0,
            "sentences": [{"raw": text, "tokens": [], "imgid": 0} for text in CAPTIONS],
            **extra,
        }
        for part, names in NAMES.items()
        for image in names
    ]
    content = {"images": entries, "dataset": "flickr8k"}
    (folder / name).write_text(json.dumps(content))


def write_csv(path, rows, header=("image", "caption")):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def load(data, data_dir=None):
    """All three splits as {split: {name: captions}}."""
    return {
        name: dict(zip(split.file_names, split.captions, strict=True))
        for name in ("train", "validation", "test")
        for split in [datasets.load(data, name, data_dir=data_dir)]
    }


EXPECTED = {
    "train": {"a.jpg": CAPTIONS, "b.jpg": CAPTIONS},
    "validation": {"c.jpg": CAPTIONS},
    "test": {"d.jpg": CAPTIONS},
}


@pytest.mark.parametrize("images_folder", ["images", "Flicker8k_Dataset", "."])
def test_flickr8k_as_published(tmp_path, images_folder):
    assert load("flickr8k", flickr(tmp_path, images_folder)) == EXPECTED


def test_flickr_with_karpathys_json(tmp_path):
    flickr(tmp_path)
    for name in ("Flickr8k.token.txt", "Flickr_8k.trainImages.txt"):
        (tmp_path / name).unlink()
    karpathy(tmp_path)
    assert load("flickr8k", tmp_path) == load("flickr30k", tmp_path) == EXPECTED


def test_flickr30k_as_published(tmp_path):
    flickr(tmp_path, "flickr30k-images")
    (tmp_path / "Flickr8k.token.txt").rename(tmp_path / "results_20130124.token")
    found = datasets.BUILDERS["flickr30k"].read_records(tmp_path)
    assert {record.name for record in found} == {"a.jpg", "b.jpg", "c.jpg", "d.jpg"}
    assert {record.split for record in found} == {"train", "validation", "test"}
    for part in NAMES:
        old = tmp_path / f"Flickr_8k.{part}Images.txt"
        old.rename(tmp_path / f"Flickr_30k.{part}Images.txt")
    assert load("flickr30k", tmp_path) == EXPECTED


def test_some_of_the_splits_are_enough(tmp_path):
    flickr(tmp_path, parts=("train", "dev"))
    split = datasets.load("flickr8k", "validation", data_dir=tmp_path)
    assert split.file_names == ("c.jpg",) and split.captions == (CAPTIONS,)
    with pytest.raises(ValueError, match=r"train, validation.*split='test'"):
        datasets.load("flickr8k", "test", data_dir=tmp_path)


def test_split_is_in_one_order(tmp_path):
    split = datasets.load("flickr8k", "train", data_dir=flickr(tmp_path))
    again = datasets.load("flickr8k", "train", data_dir=tmp_path)
    assert len(split) == 2 and split.name == "flickr8k" and split.split == "train"
    assert split.file_names == again.file_names
    assert split.fingerprint == again.fingerprint
    assert split.regions == ((None, None), (None, None))
    for name, contents in zip(split.file_names, split.images, strict=True):
        assert contents.dtype == tf.string
        assert images.decode(contents).numpy().mean() == ord(name[0])
        # The very bytes of the file: nothing is lost by encoding once more.
        assert contents == (tmp_path / "Flicker8k_Dataset" / name).read_bytes()


@pytest.mark.parametrize("missing", ["Flickr8k.token.txt", "Flickr_8k.trainImages.txt"])
def test_missing_caption_files_are_named(tmp_path, missing):
    flickr(tmp_path, parts=("train",))
    (tmp_path / missing).unlink()
    with pytest.raises(ValueError, match=missing):
        datasets.load("flickr8k", "train", data_dir=tmp_path)


def test_flickr_without_files_says_what_to_put_where(tmp_path):
    with pytest.raises(ValueError, match=r"data_dir=None.*\n*.*Put these"):
        datasets.load("flickr8k", "train")


def test_broken_token_file_names_the_line(tmp_path):
    flickr(tmp_path)
    with (tmp_path / "Flickr8k.token.txt").open("a") as file:
        file.write("no tabulator here")
    with pytest.raises(ValueError, match="line 9: 'no tab"):
        datasets.load("flickr8k", "train", data_dir=tmp_path)


def test_one_image_in_two_splits_is_an_error(tmp_path):
    flickr(tmp_path)
    (tmp_path / "Flickr_8k.devImages.txt").write_text("b.jpg\nc.jpg")
    with pytest.raises(ValueError, match="'b.jpg' in 'train' and 'validation'"):
        datasets.load("flickr8k", "train", data_dir=tmp_path)


def test_unusable_images_are_one_counted_warning(tmp_path):
    flickr(tmp_path)
    folder = tmp_path / "Flicker8k_Dataset"
    names = [f"x{i}.jpg" for i in range(6)]
    (folder / "x0.jpg").write_bytes(b"no image")
    (folder / "x1.jpg").write_bytes((folder / "a.jpg").read_bytes()[:-20])
    write_image(folder / "x2.jpg")  # without captions
    with (tmp_path / "Flickr_8k.trainImages.txt").open("a") as file:
        file.write("\n" + "\n".join(names))
    with (tmp_path / "Flickr8k.token.txt").open("a") as file:
        file.writelines(f"{name}#0\tA dog .\n" for name in names if name != "x2.jpg")
    message = (
        r"2 of 8; 3 missing \(x3.jpg, x4.jpg, x5.jpg\); 2 undecodable "
        r"\(x0.jpg, x1.jpg\); 1 without captions \(x2.jpg\)"
    )
    with pytest.warns(UserWarning, match=message) as caught:
        split = datasets.load("flickr8k", "train", data_dir=tmp_path)
    assert len(caught) == 1 and sorted(split.file_names) == ["a.jpg", "b.jpg"]


def test_nothing_left_is_an_error(tmp_path):
    flickr(tmp_path)
    for path in (tmp_path / "Flicker8k_Dataset").iterdir():
        path.unlink()
    with pytest.raises(ValueError, match="0 of 2; 2 missing .*image folder beside"):
        datasets.load("flickr8k", "train", data_dir=tmp_path)


def own_rows():
    return [
        (name, text) for names in NAMES.values() for name in names for text in CAPTIONS
    ]


def own_images(folder, subfolder="images"):
    for names in NAMES.values():
        for name in names:
            write_image(folder / subfolder / name, ord(name[0]))


@pytest.mark.parametrize("as_folder", [True, False])
def test_csv(tmp_path, as_folder):
    own_images(tmp_path)
    rows = [
        (name, text, part)
        for part, names in NAMES.items()
        for name in names
        for text in CAPTIONS
    ]
    path = write_csv(tmp_path / "c.csv", rows, ("Image", " caption", "split"))
    assert load(tmp_path if as_folder else path) == EXPECTED


def test_captions_txt_with_commas_and_a_byte_order_mark(tmp_path):
    own_images(tmp_path, "Images")
    (tmp_path / "notes.txt").write_text("nothing to read")
    (tmp_path / "captions.txt").write_text(
        'image,caption\na.jpg,"A dog, running ."\n', encoding="utf-8-sig"
    )
    found = own.OwnData.read_records(tmp_path)
    assert [record.captions for record in found] == [("A dog, running .",)]


def test_neuraltalk2_json(tmp_path):
    own_images(tmp_path)
    entries = [
        {"file_path": f"images/{name}", "captions": list(CAPTIONS), "split": part}
        for part, names in NAMES.items()
        for name in names
    ]
    (tmp_path / "captions.json").write_text(json.dumps(entries))
    assert {
        split: {os.path.basename(name): texts for name, texts in found.items()}
        for split, found in load(tmp_path / "captions.json").items()
    } == EXPECTED


@pytest.mark.parametrize("annotations", [".", "annotations"])
def test_coco_json_in_its_folders(tmp_path, annotations):
    (tmp_path / annotations).mkdir(exist_ok=True)
    for part, names in NAMES.items():
        part = {"dev": "val"}.get(part, part)
        content = {"images": [], "annotations": []}
        for i, name in enumerate(names):
            write_image(tmp_path / f"{part}2014" / name)
            content["images"].append({"id": i, "file_name": name})
            content["annotations"] += [
                {"id": 9, "image_id": i, "caption": text} for text in CAPTIONS
            ]
        path = tmp_path / annotations / f"captions_{part}2014.json"
        path.write_text(json.dumps(content))
    assert load(tmp_path / annotations) == EXPECTED


def test_karpathy_json_of_ones_own(tmp_path):
    own_images(tmp_path, "photos")
    karpathy(tmp_path, "mine.json", filepath="photos")
    split = datasets.load(tmp_path / "mine.json", "validation")
    assert split.file_names == ("photos/c.jpg",) and split.captions == (CAPTIONS,)


def test_other_formats_are_kept_as_png(tmp_path):
    write_image(tmp_path / "a.webp", 90)
    path = write_csv(
        tmp_path / "c.csv", [("a.webp", "x", "test")], ["image", "caption", "split"]
    )
    (contents,) = datasets.load(path, "test").images
    assert contents.numpy().startswith(b"\x89PNG")
    assert abs(images.decode(contents).numpy().astype(int) - 90).max() <= 2


def test_an_edited_file_is_picked_up(tmp_path, prepared):
    own_images(tmp_path)
    path = write_csv(tmp_path / "c.csv", own_rows())
    options = {"data_dir": tmp_path / "elsewhere"}
    first = datasets.load(path, "train", **options)
    write_csv(path, [("a.jpg", "Something new .")])
    second = datasets.load(path, "train", **options)
    assert second.captions == (("Something new .",),)
    write_image(tmp_path / "images" / "a.jpg", 200)
    third = datasets.load(path, "train", **options)
    (contents,) = third.images
    assert images.decode(contents).numpy().mean() == 200
    assert len({first.fingerprint, second.fingerprint, third.fingerprint}) == 3
    assert not prepared.exists()


def test_hashed_splits_are_steady_and_leak_nothing():
    names = [f"{i}.jpg" for i in range(20_000)]
    splits = {name: split_names.hashed_split(name) for name in names}
    shares = [list(splits.values()).count(s) / 20_000 for s in ("train", "test")]
    np.testing.assert_allclose(shares, [0.9, 0.05], atol=0.01)
    rows = [Row(name, text, None) for text in CAPTIONS for name in names[:100]]
    found = grouping.group(rows, image_index.ImageIndex("nowhere"))
    assert len(found) == 100 and all(len(r.captions) == 2 for r in found)
    assert all(record.split == splits[record.name] for record in found)
    assert split_names.hashed_split("1000268201_693b08cb0e.jpg") == "train"


@pytest.mark.parametrize(
    ("name", "content", "received"),
    [
        ("c.csv", "id,label\na,b\n", "line 1: 'id,label', which names no column"),
        ("c.csv", "", "which is empty"),
        ("c.json", "{}", "no entry has an image with captions"),
        ("c.json", "[1, 2]", "no entry has an image with captions"),
        ("c.json", '[{"captions": ["x"]}]', "no entry has an image with captions"),
        ("c.json", '{"images": [], "annotations": [{"image_id": 3}]}', "no `caption`"),
    ],
)
def test_other_files_are_told_from_captions(tmp_path, name, content, received):
    (tmp_path / name).write_text(content)
    for data in (tmp_path, tmp_path / name):
        with pytest.raises(ValueError, match=received) as caught:
            datasets.load(data, "train")
        assert name in str(caught.value) and "image,caption" in str(caught.value)


@pytest.mark.parametrize("data", ["flickr9k", "/no/such/place"])
def test_unknown_data_lists_the_known(data):
    with pytest.raises(ValueError, match=rf"scenes, flickr8k.*data='{data}'"):
        datasets.load(data, "train")


def test_folder_without_captions(tmp_path):
    own_images(tmp_path)
    with pytest.raises(ValueError, match="which has none. Write a CSV"):
        datasets.load(tmp_path, "train")


def test_check_finds_what_is_wrong(tmp_path):
    own_images(tmp_path)
    images_folder = tmp_path / "images"
    (images_folder / "bad.jpg").write_bytes(b"?")
    (images_folder / "copy.jpg").write_bytes((images_folder / "a.jpg").read_bytes())
    rows = [
        ("a.jpg", "A dog runs .", "train"),
        ("a.jpg", "A dog runs .", "train"),
        ("b.jpg", "A cat .", "train"),
        ("b.jpg", " ", "train"),
        ("b.jpg", "A cat .", "val"),
        ("bad.jpg", "A dog .", "train"),
        ("gone.jpg", "A dog .", "train"),
        ("copy.jpg", "A dog zooms .", "test"),
    ]
    path = write_csv(tmp_path / "c.csv", rows, ("image", "caption", "split"))
    report = check.check(path)
    found = report.to_dict()
    (refused,) = found.pop("errors")
    empty, unusable_preset = found.pop("warnings")
    assert f"1 without, left out: {path}, line 5" in empty
    assert "recipe flickr" in unusable_preset
    assert found == {
        "ok": False,
        "notes": [],
        "ambiguous": [],
        "data": str(path),
        "splits": {
            "train": {"images": 2, "captions": 3},
            "validation": {"images": 1, "captions": 1},
            "test": {"images": 1, "captions": 1},
        },
        "in_two_splits": ["b.jpg"],
        "same_content": [("a.jpg", "copy.jpg")],
        "missing": ["gone.jpg"],
        "undecodable": ["bad.jpg"],
        "without_captions": [],
        "empty_captions": ["b.jpg"],
        "duplicate_captions": ["a.jpg"],
        "vocabulary_size": 7,
        "coverage": {"train": 1, "validation": 1, "test": pytest.approx(2 / 3)},
    }
    text = "\n".join(report.lines())
    assert "cannot be trained on" in text and f"ERROR: {refused}" in text
    with (
        pytest.warns(UserWarning, match="1 without"),
        pytest.raises(
            ValueError, match="'b.jpg' in 'train' and 'validation'"
        ) as caught,
    ):
        datasets.load(path, "train")
    assert str(caught.value) == refused


def test_check_of_good_data_prepares_nothing(tmp_path, prepared):
    report = check.check("flickr8k", flickr(tmp_path))
    assert report.ok and not prepared.exists()
    assert report.splits["train"] == {"images": 2, "captions": 4}
    assert list(report.lines())[0] == "flickr8k: ok"


def test_check_of_prepared_data(tmp_path):
    build.Args(
        positional_datasets=["flickr8k"],
        paths=cli_utils.PathOptions(
            data_dir=tmp_path / "data", manual_dir=flickr(tmp_path / "published")
        ),
        generation=cli_utils.GenerationOptions(imports="sat_tf.datasets"),
    ).execute()
    report = check.check("flickr8k", tmp_path / "data")
    assert report.ok and report.splits["test"] == {"images": 1, "captions": 2}


def test_one_file_under_two_names_is_a_leak(tmp_path):
    own_images(tmp_path)
    rows = [("a.jpg", "A dog .", "train"), ("images/a.jpg", "A dog .", "test")]
    path = write_csv(tmp_path / "c.csv", rows, ("image", "caption", "split"))
    assert check.check(path).in_two_splits == ["a.jpg", "images/a.jpg"]


def test_coco_through_tfds(tmp_path):
    """TFDS's own builder and splits; only its data are made up."""
    builder = datasets.BUILDERS["coco_captions"](data_dir=tmp_path)
    examples = {
        split: {
            "image": pictures.encode(pictures.plain(60), "JPEG"),
            "image/filename": f"{split}.jpg",
            "image/id": 1,
            "objects": [],
            "captions": [{"text": text, "id": 3} for text in CAPTIONS],
        }
        for split in ("train", "restval", "val")
    }
    pathlib.Path(builder.data_dir).mkdir(parents=True)
    writer = tfds.core.SequentialWriter(builder.info, max_examples_per_shard=9)
    writer.initialize_splits(list(examples))
    writer.add_examples({split: [each] for split, each in examples.items()})
    writer.close_all()
    split = datasets.load("coco_captions", "validation", data_dir=tmp_path)
    both = datasets.load("coco_captions", "train+restval", data_dir=tmp_path)
    assert split.captions == (CAPTIONS,) and split.regions == ((None, None),)
    assert split.file_names == ("val.jpg",)
    assert both.file_names == ("train.jpg", "restval.jpg")
    (contents,) = split.images
    assert images.decode(contents).shape == (8, 8, 3)


@pytest.mark.parametrize("name", datasets.BUILDERS)
def test_every_builder_has_the_schema(name, tmp_path):
    options = {"split": "train", "decoders": {"image": tfds.decode.SkipDecoding()}}
    with tfds.testing.mock_data(num_examples=1):
        builder = datasets.BUILDERS[name](data_dir=str(tmp_path))
        spec = builder.as_dataset(**options).element_spec
    expected = schema.features()
    assert spec.keys() == expected.keys()
    assert spec["captions"].keys() == expected["captions"].keys()
    assert spec["captions"]["regions"].shape.as_list() == [None, None, None, 4]


def test_tfds_build(tmp_path):
    """What `tfds build` runs, and `load` on what it prepared.

    The command itself needs Apache Beam and mlcroissant, whatever it builds.
    """
    source = flickr(tmp_path / "published")
    build.Args(
        positional_datasets=["flickr8k"],
        paths=cli_utils.PathOptions(data_dir=tmp_path / "data", manual_dir=source),
        generation=cli_utils.GenerationOptions(imports="sat_tf.datasets"),
    ).execute()
    split = datasets.load("flickr8k", "validation", data_dir=tmp_path / "data")
    assert split.file_names == ("c.jpg",)


def test_tfds_build_with_beam_makes_the_same_records(tmp_path):
    """What cannot be read is left out by both."""
    pytest.importorskip("apache_beam")
    source = flickr(tmp_path / "published")
    more = [f"{i}.jpg" for i in range(20)]
    for name in more:
        write_image(source / "Flicker8k_Dataset" / name, 10 * int(name[:-4]))
    (source / "Flicker8k_Dataset" / "b.jpg").write_bytes(b"no image")
    for file, line in (
        ("Flickr8k.token.txt", "{}#0\tA dog ."),
        ("Flickr_8k.trainImages.txt", "{}"),
    ):
        with (source / file).open("a") as lines:
            lines.write("".join(f"\n{line.format(name)}" for name in more))
    read = {}
    for options in (None, "runner=DirectRunner,direct_num_workers=1"):
        folder = tmp_path / str(options)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            build.Args(
                positional_datasets=["flickr8k"],
                paths=cli_utils.PathOptions(data_dir=folder, manual_dir=source),
                generation=cli_utils.GenerationOptions(
                    imports="sat_tf.datasets", beam_pipeline_options=options
                ),
            ).execute()
        told = [str(w.message) for w in caught if "Left out" in str(w.message)]
        assert len(told) == 1 and "'train'. Received: 21 of 22" in told[0]
        read[options] = datasets.load("flickr8k", ("train", "test"), data_dir=folder)
    for plain, by_beam in zip(*read.values(), strict=True):
        assert by_beam.file_names == plain.file_names
        assert len(plain) == {"train": 21, "test": 1}[plain.split]
        assert by_beam.fingerprint == plain.fingerprint


class Flickr8kTest(tfds.testing.DatasetBuilderTestCase):
    """TFDS's own checks of a builder, on made-up files."""

    DATASET_CLASS = datasets.BUILDERS["flickr8k"]
    SPLITS = {"train": 2, "validation": 1, "test": 1}
    EXAMPLE_DIR = tempfile.mkdtemp()

    @classmethod
    def setUpClass(cls):
        flickr(pathlib.Path(cls.EXAMPLE_DIR))
        super().setUpClass()

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        shutil.rmtree(cls.EXAMPLE_DIR)


def test_two_processes_prepare_the_same_data(tmp_path, monkeypatch, prepared):
    """Who comes second takes what is there."""
    own_images(tmp_path / "own")
    rows = [(*row, "train") for row in own_rows()]
    write_csv(tmp_path / "own" / "c.csv", rows, ("image", "caption", "split"))
    generate, meanwhile = own.OwnData._generate_examples, []

    def slowly(self, *arguments):
        if not meanwhile:
            meanwhile.append(None)
            datasets.prepare(tmp_path / "own")
        return generate(self, *arguments)

    monkeypatch.setattr(own.OwnData, "_generate_examples", slowly)
    split = datasets.load(tmp_path / "own", "train")
    assert len(split) and meanwhile and len(list(prepared.glob("*/*/2.0.0"))) == 1


def test_several_splits_are_read_as_each(tmp_path):
    folder = str(flickr(tmp_path))
    several = datasets.load("flickr8k", ("train", "test"), data_dir=folder)
    assert [split.split for split in several] == ["train", "test"]
    for split in several:
        alone = datasets.load("flickr8k", split.split, data_dir=folder)
        assert split.captions == alone.captions
        assert split.fingerprint == alone.fingerprint
        assert len(set(split.image_digests)) == len(split) == len(NAMES[split.split])


def test_what_is_said_of_images_is_read_once(tmp_path, monkeypatch):
    """A slice and a sum of splits are kept as well, each by itself."""
    folder = str(flickr(tmp_path))
    asked = ("train", "train[:1]", "train[1:]", "train+test")
    first = datasets.load("flickr8k", asked, data_dir=folder)
    monkeypatch.setattr("sat_tf.datasets.prepared.batches_of", None)
    again = datasets.load("flickr8k", asked, data_dir=folder)
    for old, new in zip(first, again, strict=True):
        assert old.file_names == new.file_names and old.captions == new.captions
        assert old.fingerprint == new.fingerprint
        assert len(list(new.images)) == len(new) == len(new.regions)
    train, head, tail, both = again
    assert [*head.file_names, *tail.file_names] == train.file_names
    assert both.file_names[:2] == train.file_names[:] and len(both) == 3
    assert len({split.fingerprint for split in again}) == 4


def test_fingerprints_are_those_of_earlier_versions(tmp_path):
    """Caches and runs are named after them."""
    split = datasets.load("flickr8k", "train", data_dir=str(flickr(tmp_path)))
    files = [[digest, len(file)] for digest, file in digests_of(split.images)]
    images = hashlib.sha256(np.array(files, np.int64).tobytes()).hexdigest()
    assert split.image_fingerprint == images
    told = repr((list(split.file_names), list(split.captions), images))
    assert split.fingerprint == hashlib.sha256(told.encode()).hexdigest()


def digests_of(files):
    for file in files.as_numpy_iterator():
        yield tf.strings.to_hash_bucket_fast(file, 2**63 - 1).numpy(), file


def test_other_data_under_the_same_path(tmp_path):
    """What was kept of the data before is not served."""
    folder = datasets.prepare(write_own(tmp_path, "A dog .")).data_dir
    first = datasets.load(folder, "train")
    assert first.captions == (("A dog .",),)
    other = datasets.prepare(write_own(tmp_path / "other", "A cat .")).data_dir
    for file in pathlib.Path(other).iterdir():
        shutil.copyfile(file, pathlib.Path(folder, file.name))
    assert datasets.load(folder, "train").captions == (("A cat .",),)


def write_own(folder, caption):
    write_image(folder / "photos" / "a.jpg")
    rows = [("a.jpg", caption, "train")]
    return write_csv(folder / "photos" / "c.csv", rows, ("image", "caption", "split"))


def test_a_folder_that_tfds_has_prepared(tmp_path):
    data = write_own(tmp_path, "A dog .")
    folder = datasets.prepare(data).data_dir
    split, own_data = datasets.load(folder, "train"), datasets.load(data, "train")
    assert split.fingerprint == own_data.fingerprint
    assert check.check(folder).splits["train"] == {"images": 1, "captions": 1}
    with pytest.raises(ValueError, match="Expected a split of .*: train. Received"):
        datasets.load(folder, "validation")
    other = {"image": tfds.features.Image(), "label": tfds.features.Text()}
    tfds.features.FeaturesDict(other).save_config(folder)
    with pytest.raises(ValueError, match="features image, label. Prepare them by"):
        datasets.load(folder, "train")


@pytest.fixture
def bucket(monkeypatch):
    """An address of a file system of TensorFlow's that is on no disk."""
    monkeypatch.setattr(gpath, "_URI_SCHEMES", gpath._URI_SCHEMES | {"ram"})
    monkeypatch.setattr(gpath, "_URI_PREFIXES", (*gpath._URI_PREFIXES, "ram://"))
    monkeypatch.setitem(gpath._URI_MAP_ROOT, "ram://", "/ram/")
    monkeypatch.setitem(gpath._PREFIX_TO_BACKEND, "ram", backend.tf_backend)
    monkeypatch.setitem(register._URI_PREFIXES_TO_CLS, "ram://", gpath.PosixGPath)
    return f"ram://bucket-{uuid.uuid4()}"


def test_prepared_data_in_a_bucket(tmp_path, bucket):
    folder = datasets.prepare(write_own(tmp_path, "A dog .")).data_dir
    tf.io.gfile.makedirs(bucket)
    for file in pathlib.Path(folder).iterdir():
        tf.io.gfile.copy(str(file), f"{bucket}/{file.name}")
    here, there = (datasets.load(data, "train") for data in (folder, bucket))
    assert there.fingerprint == here.fingerprint and there.captions == here.captions
    assert list(there.images.as_numpy_iterator()) == list(
        here.images.as_numpy_iterator()
    )


def test_what_has_to_be_on_a_disk(tmp_path, bucket):
    for data, data_dir in ((bucket, None), ("flickr8k", bucket)):
        with pytest.raises(ValueError, match=f"Received: '{bucket}'.*mount the rest"):
            datasets.load(data, "train", data_dir=data_dir)
    with pytest.raises(OSError, match="scheme 'nowhere' not implemented.*Check it"):
        datasets.load("nowhere://bucket/data", "train")


def test_scores_in_the_folder_are_nobodys_captions(tmp_path):
    """References are written in a form that captions are read from."""
    own_run.write_own(tmp_path / "own")
    before = datasets.load(str(tmp_path / "own"), "train")
    texts = [list(each) for each in before.captions]
    for folder in ("own", "own/scores"):
        references = to_references(before.file_names, before.captions)
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "references.json").write_text(json.dumps(references))
        for name in ("predictions.json", "scores.json"):
            (tmp_path / folder / name).write_text("[]")
    after = datasets.load(str(tmp_path / "own"), "train")
    assert [list(each) for each in after.captions] == texts


def test_images_may_lie_behind_a_link(tmp_path):
    """And one that leads back leads nowhere."""
    own_run.write_own(tmp_path / "own")
    (tmp_path / "own" / "images").rename(tmp_path / "elsewhere")
    (tmp_path / "own" / "images").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "own")
    split = datasets.load(str(tmp_path / "own"), "train")
    assert len(split.file_names) == own_run.IMAGES["train"]


def test_a_part_of_a_split_without_images_is_refused(tmp_path):
    own_run.write_own(tmp_path / "own")
    with pytest.raises(ValueError, match="Expected a split with images.*train.:0"):
        datasets.load(str(tmp_path / "own"), "train[:0]")
