"""The loop: one word for every beam of every image, until all have ended."""

from typing import NamedTuple

import tensorflow as tf

from sat_tf.decoding.constraints import forbid
from sat_tf.decoding.draws import as_seed, uniforms
from sat_tf.decoding.locations import LOCATION_RULES
from sat_tf.decoding.options import DecodingOptions
from sat_tf.decoding.words import DECODERS, Beams, grow, ranking_score
from sat_tf.vocabulary import PAD


class Decoded(NamedTuple):
    """Captions of B images, K beams each, best first; T = `max_length`.

    After a caption's end every per-word field is 0. A beam that could not be filled
    (fewer captions exist than beams) has length 0 and score -inf.

    Attributes:
        tokens: int32 `[K, B, T]`, <pad> after <eos>.
        score: float32 `[K, B]`, what ranks the beams: log_p, and what the guides added
            to it, over `length ** length_penalty`; or what the rerankers say.
        log_p: float32 `[K, B]`, log-probability of the caption, nats.
        log_p_word: float32 `[K, B, T]`, nats.
        alpha: float32 `[K, B, T, L]`, attention when the word was chosen.
        locations: int32 `[K, B, T]`, the location of the greatest weight.
        beta: float32 `[K, B, T]`, the gate.
        length: int32 `[K, B]`, words with <eos>.
    """

    tokens: tf.Tensor
    score: tf.Tensor
    log_p: tf.Tensor
    log_p_word: tf.Tensor
    alpha: tf.Tensor
    locations: tf.Tensor
    beta: tf.Tensor
    length: tf.Tensor


class _Said(NamedTuple):
    """What each beam has said, `[S, B, T]`, kept in step with the beams."""

    tokens: tf.Tensor
    log_p_word: tf.Tensor
    lineage: tf.Tensor  # the slot in which this caption was when word t was chosen


def decode(
    step, memory, state, options=None, seed=None, *, first=0, guides=(), rerank=()
):
    """Captions for a batch of images, in one `tf.while_loop`.

    Args:
        step: `step(tokens [S, B], state, memory, choose) -> (log_p [S, B, V], state,
            aux)`, with `choose(logits [S, B, L]) -> weights [S, B, L]` (its attribute
            `one_hot` says whether they are) and aux a dict of `alpha` and `weights`,
            `[S, B, L]`, and `beta` `[S, B]`.
        memory: what is known of the images; passed to `step`, never copied per beam.
        state: a nest of tensors `[1, B, ..]`.
        options: `DecodingOptions`; greedy with argmax attention if None.
        seed: number, int32 `[2]` tensor, or None for a fresh one at every call.
        first: index of the first image, where these are some of many. What is drawn
            for an image depends on the seed and its index alone.
        guides: functions of the captions so far and of where each looks for its next
            word, `(tokens [S, B, T], locations [S, B]) -> [S, B, V]` nats. Words are
            chosen by log_p and what these add to it; -inf rules a word out.
        rerank: functions of the search's beams, `Decoded` -> `[K, B]`. The sum of what
            they say ranks the beams; with none of them the search's own score does.

    Returns:
        `Decoded`.

    The loop ends when every beam of every image has ended, and at `max_length`. The
    first word is chosen outside of it, because there all beams are still one.
    """
    options = options or DecodingOptions()
    seed = as_seed(seed)
    pick = DECODERS[options.decoder]
    width, size = options.width, options.max_length
    start = _start(state, size)
    draws = _draws(seed, first, tf.shape(start[0].words)[1], options)

    def one_word(t, beams, said, state, looks):
        number = beams.words.shape[0]
        location, word = (None if x is None else x[t][:number] for x in draws)
        choose = _chooser(location, options)
        log_p, state, aux = step(beams.words, state, memory, choose)
        log_p = tf.ensure_shape(log_p, [beams.words.shape[0], None, None])
        log_p = forbid(tf.cast(log_p, tf.float32), said.tokens, t, options)
        aux = {**aux, "locations": _greatest(aux["weights"])}
        advice = [guide(said.tokens, aux["locations"]) for guide in guides]
        parents, words, gain = pick(tf.add_n([log_p, *advice]), beams, options, word)
        log_p_word = _unguided(log_p, parents, words, gain) if guides else gain
        if width > 1:
            beams, said, state = _follow(parents, (beams, said, state))
        said = _say(t, _Said(words, log_p_word, parents), said)
        looks = {name: looks[name].write(t, _look(name, aux, width)) for name in looks}
        return t + 1, grow(beams, words, gain), said, state, looks

    first = one_word(0, *start)
    _, beams, said, _, looks = tf.while_loop(
        lambda t, beams, *_: (t < size) & ~tf.reduce_all(beams.ended),
        one_word,
        (tf.constant(1), *first[1:]),
    )
    return _finish(beams, said, looks, options, rerank)


def _draws(seed, first, images, options):
    """Chance for the locations and for the words, `[T, K, B]` each, or `None` twice."""
    if not options.stochastic:
        return None, None
    draws = uniforms(seed, first, images, (2, options.max_length, options.width))
    return tf.unstack(tf.transpose(draws, [1, 2, 3, 0]))


def _start(state, size):
    """Beams, words and looks before the first word: one empty caption per image."""
    images = tf.shape(tf.nest.flatten(state)[0])[1]
    empty = tf.zeros([1, images], tf.int32)
    nothing = tf.zeros([1, images, size], tf.int32)
    zero = tf.zeros([1, images])
    beams = Beams(empty + PAD, zero, empty, tf.zeros([1, images], tf.bool))
    said = _Said(nothing + PAD, tf.zeros([1, images, size]), nothing)
    kinds = {"alpha": tf.float32, "locations": tf.int32, "beta": tf.float32}
    looks = {k: tf.TensorArray(kind, size=size) for k, kind in kinds.items()}
    return beams, said, state, looks


def _chooser(location, options):
    """What `step` calls to look somewhere, with the chance `[S, B]` or none."""
    rule = LOCATION_RULES[options.attention]

    def choose(logits):
        return rule(logits, location)

    choose.one_hot = options.attention != "expected"
    return choose


def _say(t, words, said):
    """`said` with its word number t from `words`, `[S, B]`."""
    now = tf.range(tf.shape(said.tokens)[-1]) == t
    return tf.nest.map_structure(
        lambda new, old: tf.where(now, new[..., tf.newaxis], old), words, said
    )


def _follow(parents, tree):
    """Each tensor `[S, B, ..]` of a nest with slot k taken from `parents[k]`."""
    image = tf.broadcast_to(tf.range(tf.shape(parents)[1]), tf.shape(parents))
    index = tf.stack([parents, image], axis=-1)
    return tf.nest.map_structure(lambda x: tf.gather_nd(x, index), tree)


def _greatest(weights):
    """The location that is looked at, or most, `[S, B, L]` -> int32 `[S, B]`."""
    return tf.argmax(weights, axis=-1, output_type=tf.int32)


def _unguided(log_p, parents, words, gain):
    """`log_p` `[S, B, V]` of the words that continue those beams, `[K, B]` each."""
    image = tf.broadcast_to(tf.range(tf.shape(words)[1]), tf.shape(words))
    log_p_word = tf.gather_nd(log_p, tf.stack([parents, image, words], axis=-1))
    # An ended beam goes on at no cost, and a dead one stays dead.
    settled = (words == PAD) | (gain == -float("inf"))
    return tf.where(settled, gain, log_p_word)


def _look(name, aux, width):
    """What to keep of one step, `[K, B, ..]`, in the slots of the parents."""
    value = aux[name] if name == "locations" else tf.cast(aux[name], tf.float32)
    missing = width - value.shape[0]  # the first step has one beam
    return tf.pad(value, [[0, missing], *[[0, 0]] * (value.shape.rank - 1)])


def _finish(beams, said, looks, options, rerank):
    """Follow every caption back through the slots it was in."""
    length = tf.where(beams.gain == -float("inf"), 0, beams.length)
    spoken = tf.sequence_mask(length, options.max_length)
    time = tf.broadcast_to(tf.range(options.max_length), tf.shape(said.lineage))
    image = tf.range(tf.shape(length)[1])[:, tf.newaxis]
    image = tf.broadcast_to(image, tf.shape(said.lineage))
    index = tf.stack([time, said.lineage, image], axis=-1)

    def while_spoken(x):
        mask = tf.reshape(spoken, [*_shape(spoken), *[1] * (x.shape.rank - 3)])
        return tf.where(mask, x, tf.zeros([], x.dtype))

    looks = {name: tf.gather_nd(x.stack(), index) for name, x in looks.items()}
    decoded = Decoded(
        tokens=while_spoken(said.tokens),
        score=ranking_score(beams.gain, length, options.length_penalty),
        log_p=tf.reduce_sum(said.log_p_word, axis=-1),
        log_p_word=while_spoken(said.log_p_word),
        length=length,
        **{name: while_spoken(x) for name, x in looks.items()},
    )
    if not rerank or options.width == 1:
        return decoded
    score = tf.add_n([opinion(decoded) for opinion in rerank])
    # A beam that could not be filled stays last, whatever is said of it.
    score = tf.where(decoded.log_p == -float("inf"), decoded.log_p, score)
    _, best = tf.math.top_k(tf.transpose(score), options.beam)
    return _follow(tf.transpose(best), decoded._replace(score=score))


def _shape(x):
    return tf.unstack(tf.shape(x))
