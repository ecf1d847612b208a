"""Boxes of Flickr30k Entities: read from both forms, on the heads of the phrases."""

import json

import numpy as np
import pictures
import pytest

from sat_tf import datasets
from sat_tf.vocabulary import tokenise

CAPTIONS = (
    "A man in a t - shirt holds two dogs .",
    "Dogs !",
    "The dog's owner , smiling",
)
BOXES = {"man": (0.1, 0.2, 0.5, 0.6), "dogs": (0.5, 0.0, 1.0, 0.25)}
MORE_DOGS = (0.5, 0.75, 1.0, 1.0)


@pytest.fixture(autouse=True)
def prepared(tmp_path, monkeypatch):
    """Keep prepared data out of the home folder."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))


@pytest.fixture
def folder(tmp_path):
    """Flickr's files for an image of each split, beside nothing that has boxes."""
    (tmp_path / "photos").mkdir()
    for kind in ("Flickr_8k", "Flickr_30k"):
        for part, number in (("train", 1), ("dev", 2)):
            (tmp_path / f"{kind}.{part}Images.txt").write_text(f"{number}.jpg")
    names = ("1.jpg", "2.jpg")
    for name in names:
        pixels = pictures.encode(pictures.plain(50 + int(name[0])), "JPEG")
        (tmp_path / "photos" / name).write_bytes(pixels)
    lines = [f"{n}#{i}\t{text}" for n in names for i, text in enumerate(CAPTIONS)]
    for name in ("Flickr8k.token.txt", "results_20130124.token"):
        (tmp_path / name).write_text("\n".join(lines))
    return tmp_path


def phrase(first, length, *boxes, ambiguous=False):
    """Boxes as (ymin, xmin, ymax, xmax), which the file has the other way round."""
    turned = [[x1, y1, x2, y2] for y1, x1, y2, x2 in boxes]
    return {
        "first": first,
        "length": length,
        "ambiguous": ambiguous,
        "boxes": turned,
    }


def entry(**changes):
    """What the JSON says of the first caption, in tokens other than `tokenise`'s."""
    man, dogs = phrase(0, 2, BOXES["man"]), phrase(6, 2, BOXES["dogs"], MORE_DOGS)
    tokens = "a man in a t-shirt holds two dogs .".split()
    caption = {"index": 0, "tokens": tokens, "phrases": [man, dogs]}
    return {"size_confidence": 1.0, "captions": [caption], **changes}


def write_json(folder, **entries):
    content = {f"{name[1:]}.jpg": each for name, each in entries.items()}
    (folder / "entities_dev.json").write_text(json.dumps(content))


def write_published(folder, sentences=None, boxes=None):
    """Pixels count from 1, both ends included, of an image of 100 x 200."""
    for kind in ("Annotations", "Sentences"):
        (folder / kind).mkdir(exist_ok=True)
    text = (
        "[/EN#7/people A man] in [/EN#9/clothing/other a t-shirt] holds "
        "[/EN#8/animals two dogs] .\nDogs !\n[/EN#0/notvisual The dog 's] owner\n"
    )
    (folder / "Sentences" / "2.txt").write_text(sentences or text)
    boxes = boxes or (
        "<object><name>7</name><bndbox><xmin>41</xmin><ymin>11</ymin><xmax>120</xmax>"
        "<ymax>50</ymax></bndbox></object>"
        "<object><name>8</name><bndbox><xmin>1</xmin><ymin>51</ymin><xmax>50</xmax>"
        "<ymax>100</ymax></bndbox></object>"
        "<object><name>5</name><name>8</name><bndbox><xmin>151</xmin><ymin>51</ymin>"
        "<xmax>200</xmax><ymax>100</ymax></bndbox></object>"
        "<object><name>9</name><scene>1</scene><nobndbox>0</nobndbox></object>"
    )
    size = "<size><width>200</width><height>100</height><depth>3</depth></size>"
    (folder / "Annotations" / "2.xml").write_text(
        f"<annotation><filename>2.jpg</filename>{size}{boxes}</annotation>"
    )


def heads(regions, caption=CAPTIONS[0]):
    """The words with boxes, after a look at the form of all."""
    words = tokenise(caption)
    assert len(regions) == len(words)
    assert all(a.dtype == np.float32 and a.shape[1:] == (4,) for a in regions)
    return {w: a.tolist() for w, a in zip(words, regions, strict=True) if len(a)}


def regions_of(data, folder):
    (regions,) = datasets.load(data, "validation", data_dir=folder).regions
    return regions


def check_heads(regions):
    found = heads(regions)
    assert found.keys() == {"man", "dogs"}
    np.testing.assert_allclose(found["man"], [BOXES["man"]], atol=1e-6)
    np.testing.assert_allclose(found["dogs"], [BOXES["dogs"], MORE_DOGS], atol=1e-6)


def test_json_beside_the_photographs(folder):
    write_json(folder, _2=entry())
    first, *others = regions_of("flickr8k", folder)
    check_heads(first)
    assert others == [None, None]
    train = datasets.load("flickr8k", "train", data_dir=folder)
    assert train.regions == ((None,) * 3,)


@pytest.mark.filterwarnings("ignore:Left out the boxes")
def test_published_folders(folder):
    write_published(folder)
    first, second, third = regions_of("flickr30k", folder)
    check_heads(first)
    assert heads(second, CAPTIONS[1]) == {}  # known to name no region
    assert third is None  # "owner" is not "owner, smiling"


def test_sentences_that_are_no_captions_are_counted(folder):
    write_published(folder)
    with pytest.warns(UserWarning, match=r"'validation'. Received: 1 .* \(2.jpg\)"):
        regions_of("flickr30k", folder)


def test_uncertain_sizes_and_ambiguous_phrases_have_no_boxes(folder):
    write_json(folder, _1=entry(size_confidence=0.89), _2=entry())
    assert datasets.load("flickr8k", "train", data_dir=folder).regions == ((None,) * 3,)
    doubtful = entry()
    doubtful["captions"][0]["phrases"][1]["ambiguous"] = True
    write_json(folder, _2=doubtful)
    assert heads(regions_of("flickr8k", folder)[0]).keys() == {"man"}


def test_other_boxes_are_prepared_anew(folder):
    assert regions_of("flickr8k", folder) == (None,) * 3
    write_json(folder, _2=entry())
    check_heads(regions_of("flickr8k", folder)[0])
    write_json(folder, _2=entry(captions=[]))
    assert regions_of("flickr8k", folder) == (None,) * 3
    write_published(folder, "[/EN#7/people A man]", "<object/>")
    with pytest.warns(UserWarning, match="Left out the boxes"):
        regions_of("flickr30k", folder)


@pytest.mark.parametrize(
    "content",
    ["{", "[]", '{"2.jpg": {}}', '{"2.jpg": []}'],
)
def test_a_broken_json_is_named(folder, content):
    (folder / "entities_dev.json").write_text(content)
    with pytest.raises(ValueError, match=r"Received: .*entities_dev\.json, which"):
        regions_of("flickr8k", folder)


@pytest.mark.parametrize(
    "wrong",
    [
        phrase(8, 3, BOXES["man"]),
        phrase(2, 1, (0.5, 0.5, 0.5, 0.6)),
        {"first": 2, "length": 1, "ambiguous": False},
    ],
    ids=["beyond the tokens", "no area", "no boxes"],
)
def test_a_wrong_phrase_is_refused(folder, wrong):
    broken = entry()
    broken["captions"][0]["phrases"] = [wrong]
    write_json(folder, _2=broken)
    with pytest.raises(ValueError, match=r"Received: .*entities_dev\.json, which"):
        regions_of("flickr8k", folder)


def test_broken_published_files_are_named(folder):
    write_published(folder, "fine .\n[/EN#7/people A man is open")
    with pytest.raises(ValueError, match=r"2\.txt, line 2, which"):
        regions_of("flickr30k", folder)
    write_published(folder, boxes="<object><name>7</name><bndbox></object>")
    with pytest.raises(ValueError, match=r"2\.xml, which"):
        regions_of("flickr30k", folder)
    (folder / "Sentences" / "2.txt").unlink()
    with pytest.raises(ValueError, match=r"2\.txt, which .* no such file"):
        regions_of("flickr30k", folder)
