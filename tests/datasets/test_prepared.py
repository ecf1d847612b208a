"""The images of a split from any one to any other, wherever the split is from."""

import pickle

import own_run
import pytest

from sat_tf import datasets


@pytest.mark.parametrize("name", ["train", "train[3:7]", "validation[1:]+train[:-2]"])
def test_every_slice_is_read_elsewhere(name):
    place = own_run.workplace()
    split = datasets.load(place / "own", name, data_dir=place / "tfds")
    read_files = pickle.loads(pickle.dumps(split.read_files))
    contents, n = list(split.images.as_numpy_iterator()), len(split)
    for start, stop in ((0, n), (0, 1), (n - 1, n), (2, n - 1)):
        files = list(read_files(start, stop).as_numpy_iterator())
        names = tuple(file["file_name"].decode() for file in files)
        assert names == split.file_names[start:stop]
        assert [file["image"] for file in files] == contents[start:stop]
