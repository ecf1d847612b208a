"""From images to captions a person can read, and where it looked for each word."""

import dataclasses
import io
import itertools
import numbers
import os

import numpy as np
import PIL.Image
import PIL.ImageOps
import tensorflow as tf

from sat_tf import images as image_files
from sat_tf.decoding import decode
from sat_tf.vocabulary import detokenise


@dataclasses.dataclass(frozen=True, kw_only=True)
class Caption:
    """One caption and how it came about; T words, `<eos>` not among them.

    Attributes:
        caption: the words as they are written, see `vocabulary.detokenise`.
        words: the T words.
        score: what beams are ranked by, see `DecodingOptions`.
        log_p: nats, `<eos>` included.
        log_p_word: `[T]` nats.
        locations: int `[T]`, the chosen location, row * w + column.
        alpha: `[T, h, w]`, the distribution it was chosen from.
        beta: `[T]`, the gate on what was seen.
        beams: all captions of a beam search, best first, this one included.
    """

    caption: str
    words: tuple
    score: float
    log_p: float
    log_p_word: np.ndarray = dataclasses.field(repr=False)
    locations: np.ndarray = dataclasses.field(repr=False)
    alpha: np.ndarray = dataclasses.field(repr=False)
    beta: np.ndarray = dataclasses.field(repr=False)
    beams: tuple = dataclasses.field(default=(), repr=False)


def generate(captioner, images, options, *, seed=None, batch_size=32):
    """Captions of images, in order.

    Args:
        captioner: a `ShowAttendTell`.
        images: one image or any number of them, in a list, an array, a generator:
            paths, the bytes of files, Pillow images, or arrays `[H, W, 3]` in 0..255.
            Arrays of the captioner's size are taken as they are, the others resized as
            files are. Or a `tf.data.Dataset` of such, in batches or not, alone, first
            in a tuple, or as `"image"` (or `"annotations"`) of a dictionary.
        options: `DecodingOptions`.
        seed: for the `sample` decoder and rule, which draw for an image by this seed
            and its index, whatever the batch; `None` draws anew at every call.
        batch_size: images decoded at once.

    Returns:
        list of `Caption`, empty for no images.
    """
    if not (isinstance(batch_size, numbers.Integral) and batch_size >= 1):
        raise ValueError(
            "Expected batch_size to be a whole number >= 1. "
            f"Received: batch_size={batch_size!r}. Lower it where memory is short."
        )
    seed, captions = as_seed(seed), []
    for features in features_of_images(captioner, images, batch_size):
        captions += caption_features(
            captioner, features, options, seed=seed, first=len(captions)
        )
    return captions


def caption_features(captioner, features, options, *, seed=None, first=0):
    """Captions of features `[B, L, D]`, from `captioner.encode`: list of `Caption`.

    Those of a longer list begin with its image number `first`, see `decode`.
    """
    decoded = _graph(captioner, options)(
        tf.cast(features, tf.float32),
        tf.constant(as_seed(seed)),
        tf.constant(first, tf.int32),
    )
    decoded = type(decoded)(*(x.numpy() for x in decoded))
    for b in np.flatnonzero(~np.isfinite(decoded.log_p).any(axis=0)):
        raise ValueError(
            "Expected images, or annotations, of finite numbers. Received: nan or "
            f"infinity in image {first + b}. Leave it out, or mend it."
        )
    images = decoded.tokens.shape[1]
    return [_caption(captioner, decoded, b) for b in range(images)]


def as_seed(seed):
    """int32 `[2]`; a new one for `None`."""
    if seed is None:
        seed = np.random.default_rng().integers(2**31, size=2)
    numbers = np.asarray(seed)
    if numbers.dtype.kind not in "iu" or numbers.shape not in ((), (2,)):
        raise ValueError(
            "Expected seed to be a whole number of 64 bits at most, or two, or None. "
            f"Received: seed={seed!r}. Pass e.g. seed=17."
        )
    return np.broadcast_to(numbers.astype("int32"), 2)


def encode(captioner, images):
    """`captioner.encode`, traced: 0.3 GB for 32 photographs where eager takes 2.2."""
    if (graph := captioner.graphs.get("encode")) is None:
        traced = tf.function(captioner.encode, autograph=False, reduce_retracing=True)
        # Threads that come here together must trace one and the same.
        graph = captioner.graphs.setdefault("encode", traced)
    return graph(tf.cast(images, tf.float32))


def _graph(captioner, options):
    """The traced decoder of one set of options, kept on the captioner."""
    graphs = captioner.graphs
    if options not in graphs:

        @tf.function(autograph=False, reduce_retracing=True)
        def graph(features, seed, first):
            memory, state = captioner.network.start(features, words=options.words)
            return decode(
                captioner.network.step,
                memory,
                state,
                options,
                seed,
                first=first,
                **captioner.opinions(features, options),
            )

        graphs.setdefault(options, graph)
    return graphs[options]


def _caption(captioner, decoded, b):
    beams = [_one(captioner, decoded, k, b) for k in range(len(decoded.tokens))]
    beams = tuple(x for x in beams if np.isfinite(x.log_p))
    return dataclasses.replace(beams[0], beams=beams)


def _one(captioner, decoded, k, b):
    words = tuple(captioner.vocabulary.to_words(decoded.tokens[k, b]))
    spoken = slice(0, len(words))
    return Caption(
        caption=detokenise(words),
        words=words,
        score=float(decoded.score[k, b]),
        log_p=float(decoded.log_p[k, b]),
        log_p_word=decoded.log_p_word[k, b, spoken],
        locations=decoded.locations[k, b, spoken],
        alpha=decoded.alpha[k, b, spoken].reshape(-1, *captioner.grid),
        beta=decoded.beta[k, b, spoken],
    )


def features_of_images(captioner, images, batch_size):
    """Batches of features `[B, L, D]` of whatever `generate` is brought."""
    if isinstance(images, tf.data.Dataset):
        spec = _first(images.element_spec)
        if isinstance(spec, dict) and "annotations" in spec:
            for element in images:
                yield captioner.network.features_of(_first(element))
            return
    pixels = (
        _pixels(captioner, i, image) for i, image in enumerate(_one_by_one(images))
    )
    while batch := list(itertools.islice(pixels, batch_size)):
        yield encode(captioner, np.stack(batch))


def _first(element):
    """What a data set has of the images: of a tuple (image, ..) the image."""
    return _first(element[0]) if isinstance(element, tuple) else element


def _one_by_one(images):
    """Every image of what may be nested: a path, bytes, a Pillow image or an array."""
    if isinstance(images, tf.data.Dataset):
        for element in map(_first, images):
            if isinstance(element, dict):
                element = element.get("image", element)
            yield from _one_by_one(element)
        return
    if hasattr(images, "__array__"):
        images = np.asarray(images)[()]  # a scalar, where it is one
    if (
        not np.iterable(images)
        or isinstance(images, str | bytes | dict)
        or _is_one(images)
    ):
        yield images
    else:
        for image in images:
            yield from _one_by_one(image)


def _is_one(images):
    """Whether these numbers are one image; two axes are one that will be refused."""
    if not isinstance(images, np.ndarray):
        return False
    return np.issubdtype(images.dtype, np.number) and images.ndim in (2, 3)


def _pixels(captioner, index, image):
    """float32 `[H, W, 3]` in 0..255, of the captioner's size."""
    size, mode = captioner.encoder.image_size, captioner.encoder.resize_mode
    if isinstance(image, PIL.Image.Image):
        image = _as_file(image)
    if isinstance(image, str | bytes | os.PathLike):
        return image_files.load(image, size, mode)
    shape = np.shape(image)
    if len(shape) != 3 or shape[-1] != 3 or 0 in shape:
        kind = f"shape={shape}" if shape else f"type={type(image).__name__}"
        raise ValueError(
            "Expected a path, the bytes of an image file, a Pillow image or an array "
            f"[H, W, 3] in 0..255. Received: image {index} with {kind}. "
            "Convert it, say by convert('RGB') of Pillow."
        )
    image = np.asarray(image)
    if image.dtype.kind == "f" and 0 < image.max() <= 1:
        raise ValueError(
            "Expected an array [H, W, 3] in 0..255. Received: image "
            f"{index}, with nothing above {image.max():.3g}. Multiply it by 255."
        )
    if shape[:2] == size:
        return np.asarray(image, "float32")
    if mode == "none":
        raise ValueError(
            f"Expected images of size {size}, as resize mode 'none' does. "
            f"Received: image {index} of size {shape[:2]}. "
            "Resize it with sat_tf.images.resize."
        )
    return image_files.resize(image, size, mode).numpy()


def _as_file(image):
    """A Pillow image as the bytes of one, for the same rules to apply as to files."""
    image = PIL.ImageOps.exif_transpose(image)
    if image.mode[0] not in "IF":  # Those hold more than 8 bits.
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    file = io.BytesIO()
    image.save(file, "TIFF")
    return file.getvalue()
