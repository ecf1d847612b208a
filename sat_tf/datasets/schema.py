"""The one feature schema that every data set of the package has."""

import tensorflow_datasets as tfds


def features():
    """Return the `tfds.features.FeaturesDict` of an image with its captions.

    * `image`: uint8 `[H, W, 3]`.
    * `file_name`: names the image in references, predictions and messages.
    * `captions`: a sequence of `text` with its `regions`: per word of
      `sat_tf.vocabulary.tokenise(text)` one bounding box, relative
      `[ymin, xmin, ymax, xmax]` in 0..1. A box of zero area: the word names no region.
      No box at all: regions unknown.
    """
    return tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "file_name": tfds.features.Text(),
            "captions": tfds.features.Sequence(
                {
                    "text": tfds.features.Text(),
                    "regions": tfds.features.Sequence(tfds.features.BBoxFeature()),
                }
            ),
        }
    )
