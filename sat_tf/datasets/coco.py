"""COCO captions through TFDS's own builder, in the package's schema."""

import tensorflow as tf
import tensorflow_datasets as tfds


class CocoCaptions(tfds.object_detection.CocoCaptions, skip_registration=True):
    """TFDS `coco_captions`: Karpathy's splits, plus `restval`.

    It reads what `tfds build coco_captions` has prepared (and prepares it the first
    time: a download of 38 GB), and only renames the features on the way out. The
    common training set of 113,287 images is the split `train+restval`.
    """

    # TFDS calls the validation split "val" in this data set alone.
    AS_PREPARED = {"file_name": "image/filename", "validation": "val"}

    def as_dataset(self, split=None, **options):
        """The split with the features of `schema.features()`."""
        split = split.replace("validation", self.AS_PREPARED["validation"])
        return super().as_dataset(split=split, **options).map(_to_schema)


def _to_schema(example):
    text = example["captions"]["text"]
    unknown = tf.RaggedTensor.from_nested_row_lengths(
        tf.zeros([0, 4]), [tf.zeros_like(text, tf.int64), tf.zeros([0], tf.int64)]
    )
    return {
        "image": example["image"],
        "file_name": example["image/filename"],
        "captions": {"text": text, "regions": unknown},
    }
