"""A trunk that learns the words of captions, from images as wholes, before training.

What a trunk that comes trained can tell apart are ImageNet's thousand things: hardly
any of them is somebody, or what somebody does. So the words of captions are taught to
the trunk as well as to the alignment that stands on it, and what comes of it is a file
of weights, which `train` takes like any other. The training loop knows nothing of it.
"""

import hashlib
import json
import shutil

import keras
import tensorflow as tf

from sat_tf import datasets
from sat_tf.evaluation.evaluate import cached_inputs
from sat_tf.reranking.alignment import cross_entropy
from sat_tf.reranking.bags import Bags
from sat_tf.runtime import files
from sat_tf.runtime.caches import default_cache
from sat_tf.runtime.memory import keep_freed_memory
from sat_tf.training import building
from sat_tf.trunks import save_weights, weights_name

PASSES = 4
RATE = 1e-4  # of Adam; it rises in the first twentieth, then falls on a cosine
SMALLEST = 0.75  # side of what is cut out of an image, as a share of its own
CONTRAST = 0.2  # by which an image's may be more or less
COLOUR = 12.0  # of 255, by which each colour of an image may be brighter or darker


def tune_trunk(
    recipe,
    data,
    out,
    *,
    data_dir=None,
    encoder_weights=None,
    seed=17,
    cache_dir=None,
    verbose="auto",
):
    """Writes the weights of a recipe's trunk, tuned to the words of captions.

    A call that was interrupted goes on behind the last whole pass when it is repeated.

    Args:
        recipe: a `Recipe`, of which a reranker locates words.
        data, data_dir: see `datasets.load`.
        out: the file, `*.weights.h5`.
        encoder_weights: where the trunk begins, over the recipe's.
        seed: of the alignment, the order of the images and what is cut out of them.
        cache_dir: for features and pixels, by default `default_cache()`.
        verbose: as in `fit`.

    Returns:
        the binary cross-entropy of the words that the last pass had, nats an image;
        None if a call that was interrupted had made it.

    Raises:
        ValueError: the recipe has no such reranker or no trunk to tune, the name of the
            file is another, the data do not fit, or another process is at work on it.
    """
    keep_freed_memory()
    out = files.file_on_disk(out, "the file of weights")
    building.check(recipe)
    _check(recipe, out)
    cache_dir = cache_dir or default_cache()
    split = datasets.load(data, "train", data_dir=data_dir, cache_dir=cache_dir)
    vocabulary = building.vocabulary_of(recipe, split.captions)
    keras.utils.set_random_seed(seed)
    captioner = building.make_captioner(recipe, vocabulary, encoder_weights)
    session = _Session(captioner, split, recipe.data.mirrored, cache_dir, seed, verbose)
    weights = weights_name(encoder_weights or recipe.model.encoder_weights)
    asked = [recipe.to_dict(), split.fingerprint, weights, seed]
    digest = hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:12]
    begun = out.with_name(f"{out.name}.{digest}")
    with files.alone(begun):
        loss = session.fit(begun)
        with files.replacing(out) as path:
            named = path.with_name(f"{path.name}.weights.h5")  # as Keras wants it
            save_weights(captioner.encoder.network, named)
            named.replace(path)
        shutil.rmtree(begun, ignore_errors=True)
    return loss


def _check(recipe, out):
    if not out.name.endswith(".weights.h5"):
        raise ValueError(
            "Expected a file of weights, *.weights.h5. "
            f"Received: out={str(out)!r}. Give it such a name."
        )
    if recipe.model.trunk in ("convnet", "none"):
        raise ValueError(
            "Expected a trunk that comes trained. Received: "
            f"model.trunk={recipe.model.trunk!r}. Choose one, say "
            "model.trunk=efficientnet_lite1; convnet is trained with the captioner."
        )
    if not any(each.locates for each in building.make_rerankers(recipe)):
        raise ValueError(
            "Expected a reranker that locates words, to stand on the trunk. "
            f"Received: model.rerankers={', '.join(recipe.model.rerankers) or 'none'}. "
            "Take the recipe flickr, or set model.rerankers.alignment={} and "
            "stages.see={}."
        )


class _Session:
    """A captioner, of which trunk and alignment are trained, and what they learn."""

    def __init__(self, captioner, split, mirrored, cache_dir, seed, verbose):
        self.captioner, self.encoder = captioner, captioner.encoder
        self.head = next(each for each in captioner.rerankers if each.locates)
        self.split, self.mirrored, self.cache_dir = split, mirrored, cache_dir
        self.seed, self.verbose = seed, verbose

    def _inputs(self, mirrored=False):
        return cached_inputs(
            self.captioner, self.split, self.cache_dir, mirrored=mirrored
        )

    def fit(self, begun):
        """Goes on where the folder `begun` says; the last pass's loss."""
        if not any(begun.glob("*.h5")):
            self.fit_head()
        return self.fit_both(begun)

    def fit_head(self):
        """The alignment, on the trunk as it came."""
        inputs, key = self._inputs(self.mirrored)
        building.standardise(self.encoder, inputs, self.seed)
        options = {"seed": self.seed, "verbose": self.verbose}
        self.head.fit(self.captioner, inputs, key, self.split.captions, **options)

    def fit_both(self, begun):
        """Both together, on parts of the images."""
        self.encoder.network.trainable = True
        self.head.learn(True)
        inputs, key = self._inputs()
        images = _Pixels(self.captioner, inputs, key, self.split.captions, self.seed)
        words = _Words(self.encoder, self.head, self.mirrored)
        words(tf.zeros([1, *self.encoder.image_size, 3]))  # which makes its weights
        steps = PASSES * len(images)
        rise = max(1, steps // 20)
        rate = keras.optimizers.schedules.CosineDecay(
            0.0, steps - rise, 0.02, warmup_target=RATE, warmup_steps=rise
        )
        optimizer = keras.optimizers.Adam(rate)
        words.compile(optimizer=optimizer, loss=cross_entropy, jit_compile=False)
        history = words.fit(
            images,
            epochs=PASSES,
            shuffle=False,
            verbose=self.verbose,
            callbacks=[
                keras.callbacks.BackupAndRestore(
                    begun, double_checkpoint=True, delete_checkpoint=False
                )
            ],
        )
        losses = history.history.get("loss")
        return losses[-1] if losses else None


class _Pixels(Bags):
    """Images as they are, and which share of the captions of each has which word."""

    def annotations(self, images):
        """Pixels `[B, H, W, 3]` in 0..255, of which they are made."""
        return self.inputs.read(images)


class _Words(keras.Model):
    """Images `[B, H, W, 3]` in 0..255 -> logits `[B, V]`: captions have a word."""

    def __init__(self, encoder, head, mirrored):
        super().__init__(name="words")
        self.encoder, self.head, self.mirrored = encoder, head, mirrored

    def call(self, images, training=False):
        """In training, of a part of each image, in other light."""
        images = tf.cast(images, tf.float32)
        if training:
            images = _part(images, self.mirrored)
        features = self.encoder.features(images)
        return self.head(self.encoder(features), training=training)


def _part(images, mirrored):
    """A part of each image, as large as the image was, some of them `mirrored`."""
    number, height, width, _ = tf.unstack(tf.shape(images))
    side = tf.random.uniform([number, 2], SMALLEST, 1.0)
    start = tf.random.uniform([number, 2]) * (1.0 - side)
    top, left = tf.unstack(start, axis=1)
    bottom, right = tf.unstack(start + side, axis=1)
    if mirrored:
        turned = tf.random.uniform([number]) < 0.5
        left, right = tf.where(turned, right, left), tf.where(turned, left, right)
    boxes = tf.stack([top, left, bottom, right], axis=1)
    parts = tf.image.crop_and_resize(images, boxes, tf.range(number), [height, width])
    middle = 255.0 / 2
    contrast = tf.random.uniform([number, 1, 1, 1], 1.0 - CONTRAST, 1.0 + CONTRAST)
    colour = tf.random.uniform([number, 1, 1, 3], -COLOUR, COLOUR)
    return tf.clip_by_value((parts - middle) * contrast + middle + colour, 0.0, 255.0)
