"""A small trunk for drawings, trained from scratch."""

import keras
import numpy as np
import tensorflow as tf


def convnet(image_size):
    """A small network for drawings, stride 16: 7 x 7 locations of 112 x 112 pixels.

    Even kernels keep each location's view centred on it, 78 pixels across: with 3 x 3
    it drifts by half a cell towards the lower right, and words that look at "their"
    object look beside it. Coordinates are part of a location's features (Liu et al.
    2018): to say "left of", a decoder that sees one location at a time has to know
    where that is.
    """
    # Of the whole batch, wherever its shares are.
    several = tf.distribute.get_strategy().num_replicas_in_sync > 1
    images = keras.Input((*image_size, 3))
    x = keras.layers.Rescaling(1 / 127.5, offset=-1.0)(images)
    layers = ((24, 4, 2), (48, 4, 2), (96, 4, 2), (128, 4, 2), (128, 3, 1))
    for i, (filters, kernel, stride) in enumerate(layers):
        x = keras.layers.Conv2D(
            filters, kernel, strides=stride, padding="same", use_bias=False
        )(x)
        x = keras.layers.BatchNormalization(momentum=0.9, synchronized=several)(x)
        if i < len(layers) - 1:  # the last stays standardised, see `Encoder`
            x = keras.layers.ReLU()(x)
    return keras.Model(images, Coordinates()(x), name="convnet")


@keras.saving.register_keras_serializable("sat_tf")
class Coordinates(keras.layers.Layer):
    """Appends each location's row and column, both in -1..1: `[B, h, w, D + 2]`."""

    def call(self, maps):
        """`[B, h, w, D] -> [B, h, w, D + 2]`."""
        h, w = maps.shape[1:3]
        row, column = np.meshgrid(
            np.linspace(-1, 1, h), np.linspace(-1, 1, w), indexing="ij"
        )
        location = tf.constant(np.stack([row, column], -1)[None], maps.dtype)
        location = tf.broadcast_to(location, tf.concat([tf.shape(maps)[:3], [2]], 0))
        return tf.concat([maps, location], axis=-1)

    def compute_output_shape(self, shape):
        """Two channels more."""
        return (*shape[:-1], shape[-1] + 2)
