"""A split as the rest of the package sees it: names, captions, encoded images."""

import collections.abc
import concurrent.futures
import dataclasses
import hashlib
import inspect
import os

import numpy as np
import tensorflow as tf

from sat_tf import vocabulary
from sat_tf.datasets import arrays, prepared, texts
from sat_tf.runtime.caches import default_cache

_LAYOUT = 1  # of the arrays; another number has them written anew
_NAMES = 100_000  # at once
_READERS = 16


@dataclasses.dataclass(frozen=True)
class Split:
    """One split of one data set; what is said of the images, and where they are.

    Names, captions and regions are sequences that are made when asked for: read from
    a data set they lie in files that are mapped, and take no memory of their own.

    Attributes:
        name: of the data set.
        split: of the split, e.g. `train`.
        file_names: one per image.
        captions: per image, a tuple of its captions as written; see `texts.Captions`.
        regions: per image and caption, a tuple with one float32 `[n, 4]` of boxes
            (relative ymin, xmin, ymax, xmax; n = 0: it names no region) for each word
            of `vocabulary.tokenise`; or None where they are unknown.
        read_files: of `start` and `stop`, the files of these images alone, or of all,
            same order: `tf.data.Dataset` of `image`, encoded, and `file_name` (scalar
            strings). Can be sent to another machine.
        image_digests: int64 `[N]`, a hash of each encoded file.
        image_fingerprint: of `images` alone, wherever they lie and whatever is said
            of them.
        fingerprint: changes when the names, the captions or the images change.
        notes: what was decided when the files were read, in sentences.
    """

    name: str
    split: str
    file_names: collections.abc.Sequence
    captions: collections.abc.Sequence
    regions: collections.abc.Sequence
    read_files: collections.abc.Callable = dataclasses.field(repr=False, compare=False)
    image_digests: np.ndarray = dataclasses.field(repr=False, compare=False)
    image_fingerprint: str
    fingerprint: str = ""
    notes: tuple = ()

    def __len__(self):
        return len(self.file_names)

    @property
    def images(self):
        """`tf.data.Dataset` of all encoded files (scalar strings), same order."""
        return self.read_files().map(lambda file: file["image"])


def read_split(builder, name, split, cache_dir=None):
    """Read a split of a prepared TFDS `builder` in its fixed order.

    The first time, all of it is read, and what is said of the images is kept; from then
    on it is mapped.

    Args:
        builder: a `tfds.core.DatasetBuilder` with `schema.features()`.
        name: what to call the data set.
        split: a TFDS split, e.g. `train`, `validation[:10]`, `train+restval`.
        cache_dir: the folder for caches, by default `default_cache()`.

    Raises:
        ValueError: the builder has no such split.
        OSError: nothing can be kept in `cache_dir`.
    """
    files = prepared.files_of(builder, name, split)
    kept, fingerprints = arrays.keep(
        cache_dir or default_cache(),
        f"{os.path.basename(name)}-{split}-captions",
        _origin(builder, files),
        lambda growing: _write(growing, prepared.batches_of(builder, files)),
    )
    captions = texts.Captions(kept)
    words = texts.Boxes(kept["boxes"], kept["box_starts"])
    regions = texts.WordsBoxes(words, kept["region_starts"])
    return Split(
        name=name,
        split=split,
        file_names=texts.Texts(kept["names"], kept["name_starts"]),
        captions=captions,
        regions=texts.Groups(regions, captions.starts),
        read_files=prepared.reader_of(builder, files),
        image_digests=kept["images"][:, 0],
        image_fingerprint=fingerprints["images"],
        fingerprint=fingerprints["all"],
        notes=getattr(builder.builder_config, "notes", ()),
    )


def _origin(builder, files):
    """All that is kept of a split depends on, JSON values.

    Which records of which files, how large these are and when they were written; and
    how captions become words.
    """
    with concurrent.futures.ThreadPoolExecutor(_READERS) as pool:
        stats = list(pool.map(_size_and_time, [file.filename for file in files]))
    return {
        "layout": _LAYOUT,
        "words": hashlib.sha256(inspect.getsource(vocabulary).encode()).hexdigest(),
        "data": os.fspath(builder.data_path),
        "records": [
            [os.path.basename(f.filename), f.skip, f.take, *stat]
            for f, stat in zip(files, stats, strict=True)
        ],
    }


def _size_and_time(path):
    """Bytes of a file, and when it was written, nanoseconds."""
    if "://" not in path:  # TensorFlow's nanoseconds are whole seconds here
        stat = os.stat(path)
        return stat.st_size, stat.st_mtime_ns
    stat = tf.io.gfile.stat(path)
    return stat.length, stat.mtime_nsec


def _write(growing, batches):
    """Appends all that is kept of `prepared.batches_of`; what is said of it in a word.

    Returns:
        number of records and fingerprints, JSON values.
    """
    images = hashlib.sha256()
    for batch in batches.as_numpy_iterator():
        images.update(batch["image"].tobytes())
        growing.append("images", batch["image"])
        texts.append_texts(growing, "names", "name_starts", batch["name"])
        texts.append_texts(growing, "captions", "caption_starts", batch["caption"])
        growing.append_rows("image_starts", batch["captions"])
        unknown = np.zeros(len(batch["caption"]), np.int64)
        words = batch["words"] if len(batch["words"]) else unknown
        growing.append_rows("region_starts", words)
        growing.append_rows("box_starts", batch["boxes"])
        growing.append("boxes", batch["edges"].reshape(-1, 4))
    everything = hashlib.sha256(b"([")
    names = texts.Texts(growing.read("names"), growing.read("name_starts"))
    for start, stop in arrays.blocks(len(names), _NAMES):
        shown = ", ".join(map(repr, names.rows(start, stop)))
        everything.update(b", " * bool(start) + shown.encode())
    everything.update(b"], ")
    texts.append_words(growing, everything)
    everything.update(f", {images.hexdigest()!r})".encode())
    return {
        "n_records": len(names),
        "images": images.hexdigest(),
        "all": everything.hexdigest(),
    }
