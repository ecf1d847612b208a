"""A start for a trunk trained from scratch: which words does an image deserve?"""

import keras
import numpy as np
import tensorflow as tf


def learn_words(captioner, batches, steps, learning_rate, verbose=0):
    """Teaches the trunk to tell, somewhere in the image, each word of its captions.

    Multiple-instance learning as in Fang et al. 2015, section 3.1: a word is in the
    image if the place that speaks most for it says so. It uses captions alone, no
    regions. Without it attention and features wait for each other: soft attention
    over features that tell nothing stays diffuse, and through diffuse attention the
    features learn next to nothing.

    Args:
        captioner: a `ShowAttendTell` with a trainable trunk.
        batches: data set of `{"image", "rows", "tokens"}`, as `training_batches`.
        steps: updates. learning_rate: of Adam; falls to zero on a cosine.
        verbose: as in `fit`.
    """
    size = len(captioner.vocabulary)
    images = captioner.encoder.network.input
    scores = keras.layers.Dense(size, bias_initializer=_rare)(
        captioner.encoder.network.output
    )
    best = keras.layers.GlobalMaxPooling2D()(scores)
    detector = keras.Model(images, best)
    rate = keras.optimizers.schedules.CosineDecay(learning_rate, steps)
    detector.compile(
        optimizer=keras.optimizers.Adam(rate),
        loss=keras.losses.BinaryCrossentropy(from_logits=True),
        jit_compile=False,
    )

    def words(batch):
        number = tf.shape(batch["image"])[0]
        said = tf.reduce_max(tf.one_hot(batch["tokens"], size), axis=1)
        label = tf.math.unsorted_segment_max(said, batch["rows"], number)
        return tf.cast(batch["image"], tf.float32), label

    detector.fit(
        batches.map(words), steps_per_epoch=steps, shuffle=False, verbose=verbose
    )


def _rare(shape, dtype=None):
    return np.full(shape, -2.0, dtype or "float32")
