"""Data sets with one schema, each a TFDS builder, and the reading of their splits."""

import os
import pathlib

import tensorflow as tf

from sat_tf.datasets.coco import CocoCaptions
from sat_tf.datasets.flickr8k import Flickr8k
from sat_tf.datasets.flickr30k import Flickr30k
from sat_tf.datasets.folder import FolderBuilder, quiet
from sat_tf.datasets.own import OwnData
from sat_tf.datasets.prepared import is_prepared, open_prepared
from sat_tf.datasets.scenes import Scenes
from sat_tf.datasets.split import Split, read_split
from sat_tf.runtime.files import on_disk

BUILDERS = {
    "scenes": Scenes,
    "flickr8k": Flickr8k,
    "flickr30k": Flickr30k,
    "coco_captions": CocoCaptions,
}

__all__ = ["BUILDERS", "Split", "load", "open_builder"]


def load(data, split, *, data_dir=None, cache_dir=None):
    """Read splits of a data set, preparing it the first time.

    Args:
        data: a name in `BUILDERS`, or the path of the user's own data: a folder or
            caption file as `OwnData` reads them; or the folder of data that TFDS has
            prepared, with its `dataset_info.json`, which may lie in a bucket.
        split: `train`, `validation`, `test`; `unseen` too for scenes, `restval` for
            COCO; slices and sums as TFDS has them (`train[:100]`). Or several of
            them, in a tuple or list.
        data_dir: for `flickr8k` and `flickr30k` the folder of the published files;
            else where TFDS keeps prepared data (its default: `TFDS_DATA_DIR` or
            `~/tensorflow_datasets`).
        cache_dir: where what is said of the images is kept, by default
            `default_cache()`.

    Returns:
        A `Split`, or a list of them.

    Raises:
        ValueError: no such data or split, a missing file, an image in two splits.
        OSError: nothing can be kept in `cache_dir`.
    """
    builder = prepare(data, data_dir)
    if isinstance(split, str):
        return read_split(builder, str(data), split, cache_dir)
    return [read_split(builder, str(data), each, cache_dir) for each in split]


def prepare(data, data_dir=None):
    """The TFDS builder of `data`, prepared; arguments and errors as for `load`."""
    builder = open_builder(data, data_dir)
    try:
        with quiet():
            builder.download_and_prepare()
    except FileExistsError:  # another process was faster
        return open_builder(data, data_dir)
    except AssertionError as error:  # TFDS, of its manual folder
        raise ValueError(
            f"Expected the files of {data}. Received: data_dir={data_dir!r} and "
            f"nothing prepared before. {builder.MANUAL_DOWNLOAD_INSTRUCTIONS}"
        ) from error
    return builder


def open_builder(data, data_dir=None):
    """The TFDS builder of `data`; arguments as for `load`."""
    if data not in BUILDERS and is_prepared(data):
        return open_prepared(data)
    prepared = os.environ.get("TFDS_DATA_DIR")
    if (source := source_of(data, data_dir)) is None:
        return BUILDERS[data](data_dir=_absolute(data_dir or prepared))
    builder, path = source
    if builder is OwnData:
        prepared = data_dir or prepared
    return builder.from_source(path, _absolute(prepared))


def _absolute(folder):
    """The same folder, wherever the reader stands; None stays None."""
    if folder is None or "://" in str(folder):
        return folder
    return os.path.abspath(os.path.expanduser(folder))


def source_of(data, data_dir=None):
    """The builder class and the path of the files that `data` is read from.

    None where it comes out of TFDS's folder: generated, downloaded or built before.
    """
    if data in BUILDERS:
        # Where TFDS has built a data set, there is a folder of its name.
        built = not data_dir or tf.io.gfile.isdir(os.path.join(data_dir, data))
        if built or not issubclass(BUILDERS[data], FolderBuilder):
            return None
        return BUILDERS[data], on_disk(data_dir, "published files")
    if is_prepared(data):
        return None
    if not str(data) or not on_disk(data, "your own data").exists():
        raise ValueError(
            f"Expected a data set ({', '.join(BUILDERS)}) or the path of your own "
            f"data. Received: data={str(data)!r}. Check the name or the path."
        )
    return OwnData, pathlib.Path(data).resolve()
