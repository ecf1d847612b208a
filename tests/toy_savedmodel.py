"""A tiny SavedModel with the signatures of an exported captioner."""

import io
import pathlib
import sys

import numpy as np
import tensorflow as tf
from PIL import Image

N_WORDS, GRID, N_FEATURES, N_BEAMS = 6, 4, 3, 3
WORDS = tf.constant(["a", "shape", "on", "red", "green", "blue"])


class Toy(tf.Module):
    """Captions an image by its brightest channel; looks at its brightest cells."""

    def __init__(self, tag="a", n_beams=N_BEAMS):
        super().__init__()
        self.tag, self.n_beams = tf.Variable(tag), n_beams

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "image_bytes")])
    def from_bytes(self, image_bytes):
        pixels, error = decode(image_bytes)
        return self.caption(self.look(pixels), error)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "image_bytes")])
    def beam(self, image_bytes):
        outputs = self.from_bytes(image_bytes)
        others = [outputs["caption"] + f" {i}" for i in range(1, self.n_beams)]
        outputs["beam_captions"] = tf.stack([outputs["caption"], *others], 1)
        drop = tf.range(self.n_beams, dtype=tf.float32)
        outputs["beam_scores"] = outputs["score"][:, tf.newaxis] - drop
        return outputs

    @tf.function(
        input_signature=[tf.TensorSpec([None, None, None, 3], tf.float32, "images")]
    )
    def from_pixels(self, images):
        return self.caption(self.look(images))

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, GRID**2, N_FEATURES], tf.float32, "annotations")
        ]
    )
    def from_annotations(self, annotations):
        return self.caption(annotations)

    def look(self, pixels):
        cells = tf.image.resize(pixels / 255, [GRID, GRID], "area")
        return tf.reshape(cells, [-1, GRID**2, N_FEATURES])

    def caption(self, annotations, error=None):
        n_images = tf.shape(annotations)[0]
        error = tf.fill([n_images], "") if error is None else error
        fine = tf.equal(error, "")
        channel = tf.argmax(tf.reduce_mean(annotations, 1), -1, tf.int32)
        start = tf.repeat(
            [[self.tag, WORDS[1], WORDS[2], self.tag, ""]], n_images, axis=0
        )
        words = tf.concat([start[:, :4], tf.gather(WORDS, channel + 3)[:, None]], 1)
        words = tf.concat([words, start[:, 4:]], 1)
        words = tf.where(fine[:, tf.newaxis], words, "")
        sharpness = tf.range(N_WORDS, dtype=tf.float32)[:, tf.newaxis] + 1
        logits = tf.reduce_sum(annotations, -1)[:, tf.newaxis] * sharpness * 4
        alpha = tf.nn.softmax(logits)
        joined = tf.strings.strip(tf.strings.reduce_join(words, 1, separator=" "))
        return {
            "caption": joined,
            "score": tf.where(fine, -tf.reduce_mean(annotations, [1, 2]), 0.0),
            "words": words,
            "length": tf.where(fine, N_WORDS - 1, 0),
            "locations": tf.argmax(alpha, -1, tf.int32),
            "alpha": tf.reshape(alpha, [-1, N_WORDS, GRID, GRID]),
            "log_p_word": tf.fill([n_images, N_WORDS], -0.5),
            "error": error,
        }

    def signatures(self):
        return {
            "serving_default": self.from_bytes,
            "greedy": self.from_bytes,
            "beam": self.beam,
            "images": self.from_pixels,
            "annotations": self.from_annotations,
        }


class Explaining(Toy):
    """Finds the shape in its brightest cells, and a colour if it is the image's."""

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.string, "image_bytes"),
            tf.TensorSpec([None], tf.string, "caption"),
        ]
    )
    def explain(self, image_bytes, caption):
        pixels, error = decode(image_bytes)
        annotations = self.look(pixels)
        split = tf.strings.split(tf.strings.lower(caption))
        words, number = split.to_tensor(""), tf.cast(split.row_lengths(), tf.int32)
        error = tf.where((error == "") & (number == 0), "Say more.", error)
        channel = tf.argmax(tf.reduce_mean(annotations, 1), -1, tf.int32)
        colour = tf.gather(WORDS, channel + 3)[:, None]
        is_colour = tf.reduce_any(words[..., None] == WORDS[3:], -1)
        logits = 20 * tf.reduce_sum(annotations, -1)[:, None]
        evidence = tf.nn.softmax(tf.repeat(logits, tf.shape(words)[1], axis=1))
        shape = tf.concat([tf.shape(words), [GRID, GRID]], 0)
        return {
            "words": words,
            "length": number,
            "known": tf.reduce_any(words[..., None] == WORDS, -1),
            "locations": tf.argmax(evidence, -1, tf.int32),
            "evidence": tf.reshape(evidence, shape),
            # No picture has much to do with words such as "a".
            "support": tf.where(is_colour & (words != colour), -3.0, -0.1),
            "log_p_word": tf.fill(tf.shape(words), -0.5),
            "error": error,
        }

    def signatures(self):
        return {**super().signatures(), "explain": self.explain}


def decode(image_bytes):
    """Pixels `[B, 32, 32, 3]` and errors `[B]`; a broken image fails the whole run."""

    def one(contents):
        start = tf.strings.substr(contents, 0, 2)
        known = tf.reduce_any(tf.equal(start, [b"\xff\xd8", b"\x89P", b"GI", b"BM"]))
        image = tf.cond(
            known,
            lambda: tf.io.decode_image(contents, 3, expand_animations=False),
            lambda: tf.zeros([1, 1, 3], tf.uint8),
        )
        image = tf.image.resize(tf.ensure_shape(image, [None, None, 3]), [32, 32])
        return image, tf.where(known, "", "This is no image. Send a JPEG.")

    signature = (tf.float32, tf.string)
    return tf.map_fn(one, image_bytes, fn_output_signature=signature)


class Plain(tf.Module):
    """Signatures no captioner has, for the corners of the protocol."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    def divide(self, x):
        return {"y": x / 0.0 + 0.1}

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.int32, "number"),
            tf.TensorSpec([None], tf.string, "text"),
        ]
    )
    def echo(self, number, text):
        batch = tf.fill(tf.shape(number), tf.shape(number)[0])
        return {"number": number, "text": text, "text_bytes": text, "batch": batch}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    def total(self, x):
        return {"total": tf.reduce_sum(x), "x": x}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    def positive(self, x):
        tf.debugging.assert_positive(x, "x must be positive")
        return {"x": x, "batch": tf.fill(tf.shape(x), tf.shape(x)[0])}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32, "turns")])
    def slow(self, turns):
        square = tf.fill([500, 500], 0.001)
        for _ in tf.range(tf.reduce_max(turns)):
            square = tf.nn.relu(square @ square)
        return {"turns": turns, "sum": tf.fill(tf.shape(turns), tf.reduce_sum(square))}

    def signatures(self):
        return {
            "serving_default": self.divide,
            "slow": self.slow,
            "echo": self.echo,
            "total": self.total,
            "positive": self.positive,
        }


def export(module, folder):
    """Save a module as the SavedModel in `folder` (`<name>/<version>`)."""
    tf.saved_model.save(module, str(folder), signatures=module.signatures())


def picture(format="JPEG", mode="RGB", size=(64, 48), colour=(200, 30, 30), **options):
    """Encode a picture with one bright square as bytes."""
    pixels = np.full((size[1], size[0], 3), colour, np.uint8)
    pixels[size[1] // 8 : size[1] // 3, size[0] // 4 : size[0] // 2] = (255, 90, 90)
    file = io.BytesIO()
    image = Image.fromarray(pixels)
    if mode == "I;16":
        image = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    elif mode != "RGB":
        image = image.convert(mode)
    image.save(file, format, **options)
    return file.getvalue()


if __name__ == "__main__":
    export(Toy(), pathlib.Path(sys.argv[1]) / "toy" / "1")
    export(Plain(), pathlib.Path(sys.argv[1]) / "plain" / "3")
