"""Batches of images for what learns apart from the captioner."""

import keras
import numpy as np


class ImageBatches(keras.utils.PyDataset):
    """Every image once an epoch, in a new order each time.

    A subclass implements `__getitem__`, by `chosen` and `annotations`.

    Args:
        captioner: a `ShowAttendTell`.
        inputs, key: from `cached_inputs`.
        size: images in a batch.
        seed: of the order.

    Raises:
        ValueError: the captioner has several replicas.
    """

    def __init__(self, captioner, inputs, key, size, seed):
        super().__init__()
        number = captioner.strategy.num_replicas_in_sync
        if number > 1:
            raise ValueError(
                "Expected a captioner on one device to fit a reranker to. "
                f"Received: num_replicas_in_sync={number}. Save the captioner, load it "
                "outside the strategy's scope, and fit the reranker that it has there."
            )
        self.captioner, self.inputs, self.key = captioner, inputs, key
        self.size = size
        self.random = np.random.default_rng(seed)
        self.on_epoch_begin()

    def on_epoch_begin(self):
        """Draws an order."""
        self.order = self.random.permutation(len(self.inputs))

    def __len__(self):
        return -(-len(self.order) // self.size)

    def chosen(self, index):
        """The images of a batch, ascending."""
        return np.sort(self.order[index * self.size : (index + 1) * self.size])

    def annotations(self, images):
        """Their annotations, `[B, L, D]`."""
        records = {self.key: self.inputs.read(images)}
        return self.captioner.encoder(self.captioner.network.features_of(records))
