"""The one feature schema that every data set of the package has."""

import tensorflow_datasets as tfds


def features():
    """Return the `tfds.features.FeaturesDict` of an image with its captions.

    * `image`: uint8 `[H, W, 3]`.
    * `file_name`: names the image in references, predictions and messages.
    * `captions`: a sequence of `text` with its `regions`: per word of
      `sat_tf.vocabulary.tokenise(text)` a sequence of bounding boxes, relative
      `[ymin, xmin, ymax, xmax]` in 0..1. No box: the word names no region. No sequence
      at all: regions unknown.
    """
    return tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "file_name": tfds.features.Text(),
            "captions": tfds.features.Sequence(
                {
                    "text": tfds.features.Text(),
                    "regions": tfds.features.Sequence(
                        tfds.features.Sequence(tfds.features.BBoxFeature())
                    ),
                }
            ),
        }
    )


def regions(words):
    """The feature `regions` of a caption: for each word a list of boxes of four."""
    return [[tfds.features.BBox(*box) for box in boxes] for boxes in words]
