"""What a server sees of a captioner: named functions with named outputs.

Stock TensorFlow operations only, batch first, no look-up tables. Weights are plain
variables of the SavedModel; Keras reads them while the functions are traced and is not
needed afterwards.
"""

import dataclasses
import functools

import keras
import tensorflow as tf

from sat_tf import images as image_files
from sat_tf.decoding import SAMPLING, decode
from sat_tf.decoding.explain import explain
from sat_tf.export import words_in_graph
from sat_tf.presets.storage import named_weights
from sat_tf.vocabulary import EOS, PAD, UNK, seams


def build(captioner, options, dtype=None):
    """The functions of an exported captioner.

    Args:
        captioner: a `ShowAttendTell`.
        options: `DecodingOptions` of `serving_default`, `images` and `annotations`.
        dtype: how weight matrices are stored; as they are by default.

    Returns:
        a `tf.Module` that holds the weights, and {signature name: `tf.function`}.
    """
    module = tf.Module()
    module.weights = _stored(captioner, dtype)
    scope = functools.partial(_scope, captioner, module.weights)
    say = {
        name: _speaker(captioner, scope, each)
        for name, each in _decoders(options).items()
    }
    default = say[options.decoder]
    signatures = {"annotations": _from_annotations(captioner, default)}
    if captioner.encoder.network is None:
        named = {k: _from_annotations(captioner, each) for k, each in say.items()}
    else:
        look = _looker(captioner, scope)
        signatures["images"] = _from_images(captioner, look, default)
        read = _reader(captioner, look)
        signatures["explain"] = _explainer(captioner, scope, read)
        named = {k: _from_bytes(read, each) for k, each in say.items()}
    signatures |= {**named, "serving_default": named[options.decoder]}
    return module, signatures


def _decoders(options):
    """Decoders that have a signature of their name: greedy, beam and the default."""
    greedy = dataclasses.replace(options, decoder="greedy", **SAMPLING)
    beam = dataclasses.replace(greedy, decoder="beam")
    return {"greedy": greedy, "beam": beam, options.decoder: options}


# ------------------------------------------------------------------------- weights


def _stored(captioner, dtype):
    """{name: `tf.Variable`} of what inference reads."""
    weights = {
        name: variable
        for name, variable in named_weights(captioner).items()
        if not name.startswith(("estimator/", "standardise/"))
    }
    stored = {}
    for name, variable in weights.items():
        value = tf.convert_to_tensor(variable)
        # Vectors are small, and a batch normalisation's variance may be above 65504.
        if dtype is not None and value.shape.rank > 1:
            value = tf.cast(value, dtype)
        stored[name] = tf.Variable(value, trainable=False, name=name)
    return stored


def _scope(captioner, stored):
    """Inside it the captioner's layers compute with the stored weights."""
    variables = named_weights(captioner)
    return keras.StatelessScope(
        [
            (variables[name], tf.cast(x, variables[name].dtype))
            for name, x in stored.items()
        ]
    )


# ----------------------------------------------------------------- the shared parts


def _looker(captioner, scope):
    """Pixels float32 `[B, H, W, 3]` -> features `[B, L, D]`."""

    @tf.function(autograph=False)
    def look(pixels):
        with scope():
            return captioner.encode(pixels)

    return look


def _reader(captioner, look):
    """Files, string `[B]` -> features `[B, L, D]` and errors `[B]`."""
    size, mode = captioner.encoder.image_size, captioner.encoder.resize_mode

    @tf.function(autograph=False)
    def read(image_bytes):
        pixels, error = image_files.decode_batch(image_bytes, size, mode)
        return look(pixels), error

    return read


def _speaker(captioner, scope, options):
    """Features `[B, L, D]` and errors `[B]` -> the outputs of a signature."""
    words = ["", "", *captioner.vocabulary.words[EOS + 1 :]]
    write = _writer(words)

    @tf.function(autograph=False)
    def say(features, error):
        with scope():
            memory, state = captioner.network.start(features, words=options.words)
            opinions = captioner.opinions(features, options)
            step = captioner.network.step
            decoded = decode(step, memory, state, options, **opinions)
        outputs = {
            "caption": write(decoded.tokens[0]),
            **_outputs(decoded, tf.constant(words), captioner.grid),
        }
        if options.decoder == "beam":
            outputs["beam_captions"] = tf.transpose(write(decoded.tokens))
            # Beams that could not be filled have -inf, which JSON does not know.
            outputs["beam_scores"] = tf.maximum(
                tf.transpose(decoded.score), tf.float32.min
            )
        fine = tf.equal(error, "")
        outputs = {k: _where(fine, x) for k, x in outputs.items()}
        return {**outputs, "error": error}

    return say


def _explainer(captioner, scope, read):
    """Files and captions, string `[B]` each -> where each word is found."""
    words = ["", "", "", *captioner.vocabulary.words[UNK + 1 :]]
    spec = functools.partial(tf.TensorSpec, [None], tf.string)

    @tf.function(
        input_signature=[spec("image_bytes"), spec("caption")], autograph=False
    )
    def from_bytes(image_bytes, caption):
        features, error = read(image_bytes)
        tokens, said, number = words_in_graph.ids(caption, words)
        error = tf.where(error == "", _not_a_caption(number), error)
        with scope():
            explained = explain(captioner, features, tokens)
        evidence = explained.evidence
        shape = tf.concat([tf.shape(tokens), captioner.grid], axis=0)
        outputs = {
            "words": said,
            "length": tf.reduce_sum(tf.cast(tokens != PAD, tf.int32), axis=-1),
            "known": (tokens != UNK) & (tokens != PAD),
            "locations": tf.argmax(evidence, axis=-1, output_type=tf.int32),
            "evidence": tf.reshape(evidence, shape),
            "support": explained.support,
            "log_p_word": explained.log_p_word,
        }
        fine = tf.equal(error, "")
        return {**{k: _where(fine, x) for k, x in outputs.items()}, "error": error}

    return from_bytes


def _not_a_caption(number):
    """What is wrong with captions of so many words, string `[B]`."""
    most = words_in_graph.MAX_WORDS
    start = f"Expected a caption of 1 to {most} words. Received: "
    advice = ". Write what the image is said to show."
    wrong = tf.strings.join([start, tf.strings.as_string(number), advice])
    return tf.where((number > 0) & (number <= most), "", wrong)


def _outputs(decoded, vocabulary, grid):
    """The best beam of a `Decoded`, batch first; T = `max_length`."""
    tokens = decoded.tokens[0]
    alpha = decoded.alpha[0]
    return {
        "score": decoded.score[0],
        "words": tf.gather(vocabulary, tokens),
        "length": tf.reduce_sum(tf.cast(tokens > EOS, tf.int32), axis=-1),
        "locations": decoded.locations[0],
        "alpha": tf.reshape(alpha, [-1, alpha.shape[1], *grid]),
        "log_p_word": decoded.log_p_word[0],
    }


def _writer(words):
    """What `vocabulary.detokenise` does, of ids `[.., T]`: strings `[..]`."""
    begins, ends = zip(*map(seams, words), strict=True)

    def write(tokens):
        begin, end = tf.gather(begins, tokens), tf.gather(ends, tokens)[..., :-1]
        meet = (begin[..., 1:] == end) & (end > 0)
        spaces = tf.where(meet, "", " ")
        spaces = tf.concat([tf.fill(tf.shape(tokens[..., :1]), ""), spaces], axis=-1)
        text = tf.strings.join([spaces, tf.gather(words, tokens)])
        text = tf.strings.reduce_join(text, axis=-1)
        return tf.strings.strip(text)

    return write


def _not_finite(x):
    """What is wrong with numbers `[B, ..]`, string `[B]`."""
    fine = tf.reduce_all(tf.math.is_finite(x), axis=range(1, x.shape.rank))
    wrong = "Expected finite numbers. Received: nan or infinity. Mend the image."
    return tf.where(fine, "", wrong)


def _where(fine, x):
    """`x` `[B, ..]` where an image is fine, else zeros or empty strings."""
    fine = tf.reshape(fine, [-1, *[1] * (x.shape.rank - 1)])
    return tf.where(fine, x, tf.zeros([], x.dtype) if x.dtype != tf.string else "")


# ------------------------------------------------------------- one per kind of input


def _from_bytes(read, say):
    spec = tf.TensorSpec([None], tf.string, "image_bytes")

    @tf.function(input_signature=[spec], autograph=False)
    def from_bytes(image_bytes):
        return say(*read(image_bytes))

    return from_bytes


def _from_images(captioner, look, say):
    """Numbers in 0..255; of any size, unless the captioner resizes nothing."""
    size, mode = captioner.encoder.image_size, captioner.encoder.resize_mode
    open_size = size if mode == "none" else (None, None)
    spec = tf.TensorSpec([None, *open_size, 3], tf.float32, "images")

    @tf.function(input_signature=[spec], autograph=False)
    def from_images(images):
        pixels = tf.cond(  # as `generate` has it: those of the right size stay
            tf.reduce_all(tf.shape(images)[1:3] == size),
            lambda: images,
            lambda: tf.map_fn(lambda x: image_files.resize(x, size, mode), images),
        )
        return say(look(tf.ensure_shape(pixels, [None, *size, 3])), _not_finite(images))

    return from_images


def _from_annotations(captioner, say):
    """Features as `captioner.encode` gives them."""
    shape = [None, captioner.encoder.locations, captioner.encoder.size]
    spec = tf.TensorSpec(shape, tf.float32, "annotations")

    @tf.function(input_signature=[spec], autograph=False)
    def from_annotations(annotations):
        return say(annotations, _not_finite(annotations))

    return from_annotations
