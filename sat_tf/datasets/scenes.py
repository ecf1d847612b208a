"""`scenes`: rendered images of simple objects with captions that know where they look.

Image `i` of a split is a pure function of the split's name and `i`: nothing but a file
name is needed to recover its objects, so a predicted caption can be judged (is it true?
did each word look at what it speaks of?) without any stored annotation.
"""

import dataclasses
import io
import itertools
import re

import numpy as np
import tensorflow_datasets as tfds

from sat_tf.datasets import schema
from sat_tf.datasets.regions import holds_middles
from sat_tf.datasets.scenes_drawing import SIDE, draw, jpeg
from sat_tf.datasets.scenes_grammar import (
    COLOURS,
    SHAPES,
    SIZES,
    is_true,
    pointing_regions,
    write_captions,
)
from sat_tf.vocabulary import tokenise

SEED = 17
SPLITS = ("train", "validation", "test", "unseen")
# Combinations that occur in `unseen` only, one per colour; all pairs of their
# attributes occur in training.
HELD_OUT = (
    ("large", "white", "square"),
    ("small", "yellow", "ring"),
    ("large", "green", "triangle"),
    ("small", "red", "cross"),
    ("large", "purple", "ring"),
    ("small", "blue", "triangle"),
)
# Pixels. The smallest still contains the centre of a cell on a 7x7 grid (16 px cells);
# at 18 px a small network told the shapes of only 85 % after five passes, now 99 %.
SIDES = {"small": (24, 28), "large": (38, 44)}
_GAP = 4
_KINDS = tuple(itertools.product(SIZES, COLOURS, SHAPES))
_SEEN = tuple(kind for kind in _KINDS if kind not in HELD_OUT)


@dataclasses.dataclass(frozen=True)
class Object:
    """One object of a scene: `side` pixels wide and high, from pixel (top, left)."""

    size: str
    colour: str
    shape: str
    top: int
    left: int
    side: int

    @property
    def box(self):
        """Relative `(ymin, xmin, ymax, xmax)`."""
        ends = (self.top, self.left, self.top + self.side, self.left + self.side)
        return tuple(end / SIDE for end in ends)

    @property
    def centre(self):
        """Relative `(y, x)`."""
        half = self.side / 2
        return (self.top + half) / SIDE, (self.left + half) / SIDE


@dataclasses.dataclass(frozen=True)
class Scene:
    """The objects of image `index` of a split."""

    split: str
    index: int
    objects: tuple[Object, ...]

    @property
    def file_name(self):
        """The name that `objects_of` understands."""
        return f"{self.split}_{self.index:05d}.jpg"


def scene(split, index):
    """Return the `Scene` with this index: a pure function of its arguments.

    Two or three objects that do not overlap; no two of the same size, colour and shape.
    """
    rng = _rng(split, index, "objects")
    kinds = _kinds(split, int(rng.integers(2, 4)), rng)
    while (objects := _place(kinds, rng)) is None:
        pass
    return Scene(split, index, objects)


def objects_of(file_name):
    """Return the objects of the image with this name, e.g. `test_00012.jpg`.

    Raises:
        ValueError: if `scenes` gives no image that name.
    """
    found = re.fullmatch(rf"({'|'.join(SPLITS)})_(\d{{5,}})\.jpg", file_name)
    if not found:
        raise ValueError(
            "Expected a file name of the data set `scenes`, like test_00012.jpg. "
            f"Received: file_name={file_name!r}. Judge captions of other images by "
            "their references (`sat_tf.evaluation.captions.score`)."
        )
    return scene(found[1], int(found[2])).objects


def render(scene):
    """Return the image of a scene, uint8 `[112, 112, 3]`; see `scenes_drawing`."""
    return draw(scene.objects, _rng(scene.split, scene.index, "pixels"))


def captions_of(scene):
    """Return five (text, regions) of a scene; see `scenes_grammar.write_captions`.

    In the split `unseen` every caption mentions a held-out combination.
    """
    about = [o for o in scene.objects if (o.size, o.colour, o.shape) in HELD_OUT]
    return write_captions(
        scene.objects, _rng(scene.split, scene.index, "captions"), about
    )


def caption_accuracy(captions, file_names):
    """Share (0..1) of captions that parse and are wholly true of their image.

    Args:
        captions: one string per image.
        file_names: the images' names, as in the data set.
    """
    pairs = zip(captions, file_names, strict=True)
    return float(np.mean([is_true(c, objects_of(name)) for c, name in pairs]))


def pointing_accuracy(captions, locations, grid, file_names):
    """Share (0..1) of content words whose chosen location lies in a right region.

    A location is right if the centre of its cell lies in a region that
    `scenes_grammar.pointing_regions` accepts. All captions' content words count alike.

    Args:
        captions: one string per image.
        locations: per caption one location per word, index = row * w + column.
        grid: (h, w), the rows and columns of the locations.
        file_names: the images' names, as in the data set.

    Returns:
        The share; 0 if no caption has a content word.

    Raises:
        ValueError: if a caption has not one location per word.
    """
    right = total = 0
    for caption, places, name in zip(captions, locations, file_names, strict=True):
        words = tokenise(caption)
        if len(words) != len(places):
            raise ValueError(
                f"Expected one location per word of {caption!r} ({len(words)} words). "
                f"Received: locations={len(places)} for {name}. Leave out <eos>."
            )
        regions = pointing_regions(words, objects_of(name))
        for boxes, place in zip(regions, places, strict=True):
            if boxes is not None:
                total += 1
                right += bool(holds_middles(boxes, grid).flat[int(place)])
    return right / max(total, 1)


@dataclasses.dataclass
class ScenesConfig(tfds.core.BuilderConfig):
    """Numbers of images per split; image `i` is the same whatever the numbers."""

    name: str = "default"
    train: int = 5000
    validation: int = 500
    test: int = 500
    unseen: int = 500


class Scenes(tfds.core.GeneratorBasedBuilder):
    """Rendered scenes of simple objects, with captions and a region per word."""

    VERSION = tfds.core.Version("2.0.0")
    RELEASE_NOTES = {"1.0.0": "First release.", "2.0.0": "A word may have many boxes."}
    BUILDER_CONFIGS = [ScenesConfig(description="5000 training images.")]

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            description=__doc__,
            features=schema.features(),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        counts = {split: getattr(self.builder_config, split) for split in SPLITS}
        return {s: self._generate_examples(s, n) for s, n in counts.items()}

    def _generate_examples(self, split, count):
        for index in range(count):
            this = scene(split, index)
            captions = [
                {"text": text, "regions": schema.regions(regions)}
                for text, regions in captions_of(this)
            ]
            yield (
                index,
                {
                    "image": io.BytesIO(jpeg(render(this))),
                    "file_name": this.file_name,
                    "captions": captions,
                },
            )


def _rng(split, index, purpose):
    """A generator of its own for each image and purpose."""
    purposes = ("objects", "pixels", "captions")
    key = (SEED, SPLITS.index(split), index, purposes.index(purpose))
    return np.random.default_rng(key)


def _kinds(split, count, rng):
    """`count` different (size, colour, shape); in `unseen` the first is held out."""
    unseen = split == "unseen"
    kinds = {}
    while len(kinds) < count:
        pool = (_KINDS if kinds else HELD_OUT) if unseen else _SEEN
        kinds[pool[rng.integers(len(pool))]] = None
    return list(kinds)


def _place(kinds, rng, tries=30):
    """Objects at free places, or None if one found no room."""
    objects = []
    for size, colour, shape in kinds:
        side = int(rng.integers(*SIDES[size], endpoint=True))
        for _ in range(tries):
            top, left = rng.integers(1, SIDE - side, 2).tolist()
            new = Object(size, colour, shape, top, left, side)
            if not any(_touch(new, old) for old in objects):
                objects.append(new)
                break
        else:
            return None
    return tuple(objects)


def _touch(one, other):
    """Whether less than the gap lies between two objects."""
    return (
        one.top < other.top + other.side + _GAP
        and other.top < one.top + one.side + _GAP
        and one.left < other.left + other.side + _GAP
        and other.left < one.left + one.side + _GAP
    )
