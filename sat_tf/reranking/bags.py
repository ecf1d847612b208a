"""Images as bags of locations, and the words of their captions, to learn words from."""

import numpy as np

from sat_tf.datasets import pipeline
from sat_tf.datasets.arrays import blocks
from sat_tf.reranking.image_batches import ImageBatches
from sat_tf.vocabulary import PAD

IMAGES = 32  # per batch
CAPTIONS = 2**14  # counted at once


class Bags(ImageBatches):
    """Images, and which share of the captions of each has which word.

    Args:
        captioner, inputs, key, seed: see `ImageBatches`.
        captions: per image, its captions.
    """

    def __init__(self, captioner, inputs, key, captions, seed):
        super().__init__(captioner, inputs, key, IMAGES, seed)
        of, self.tokens = pipeline.flatten(captions, captioner.vocabulary)
        self.starts = np.searchsorted(of, np.arange(len(inputs) + 1))

    def share(self):
        """Share of all captions that have each word, `[V]`."""
        counts = np.zeros(len(self.captioner.vocabulary), np.int64)
        for start, stop in blocks(len(self.tokens), CAPTIONS):
            counts += np.bincount(
                self._words(np.arange(start, stop))[1], minlength=len(counts)
            )
        return counts / len(self.tokens)

    def __getitem__(self, index):
        images = self.chosen(index)
        shares = np.zeros((len(images), len(self.captioner.vocabulary)), "float32")
        starts, stops = self.starts[images], self.starts[images + 1]
        captions = np.concatenate([*map(np.arange, starts, stops)])
        counts = stops - starts
        row = np.repeat(np.arange(len(images)), counts)
        caption, word = self._words(captions)
        each = np.float32(1) / np.maximum(counts, 1).astype("float32")
        np.add.at(shares, (row[caption], word), each[row[caption]])
        return self.annotations(images), shares

    def _words(self, captions):
        """Every word of each of some captions once: which caption, and its id."""
        size, tokens = len(self.captioner.vocabulary), self.tokens.padded(captions)
        caption, place = np.nonzero(tokens != PAD)
        return np.divmod(np.unique(caption * size + tokens[caption, place]), size)
