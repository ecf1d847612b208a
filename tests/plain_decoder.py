"""The slow plain twin: one image, one beam, one word at a time, NumPy float64.

Written from the equations and the documentation, not from `sat_tf.decoding`; only the
dice are TensorFlow's, because both have to throw the same.
"""

import collections

import numpy as np
import tensorflow as tf

PAD, EOS, UNK = 0, 1, 2


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def log_softmax(x):
    x = x - x.max()
    return x - np.log(np.exp(x).sum())


def throw(logits, draw):
    """The first index up to which there is more than `draw` of all probability."""
    mass = np.cumsum(np.exp(log_softmax(logits)))
    return int(np.argmax(mass > draw * mass[-1]))


def dice_of(seed, image, options, width):
    """Numbers in 0..1 for the locations and the words of an image, `[2, T, beams]`."""
    size = 2 * options.max_length * width
    table = tf.random.stateless_uniform([image + 1, size + -size % 4], [seed, 0])
    return table[image, :size].numpy().reshape(2, options.max_length, width)


class PlainCaptioner:
    """One step of `ShowAttendTell` for one image and one caption (eq. 1-7)."""

    def __init__(self, captioner):
        decoder, attention = captioner.network.decoder, captioner.network.attention
        self.project = self._dense(attention.project)
        self.query = self._dense(attention.query)
        self.vector = np.asarray(attention.vector, np.float64)
        self.embedding = np.asarray(decoder.embedding.embeddings, np.float64)
        for name in (
            "gates_word gates_hidden gates_context beta "
            "output_hidden output_context output_word"
        ).split():
            setattr(self, name, self._dense(getattr(decoder, name)))
        self.initial_hidden = self._dense(decoder.initial_state.hidden)
        self.initial_cell = self._dense(decoder.initial_state.cell)

    @staticmethod
    def _dense(layer):
        kernel, *bias = (np.asarray(w, np.float64) for w in layer.weights)
        return lambda x: x @ kernel + (bias[0] if bias else 0)

    def start(self, annotations):
        mean = annotations.mean(0)
        return np.tanh(self.initial_hidden(mean)), np.tanh(self.initial_cell(mean))

    def step(self, word, state, annotations, choose):
        hidden, cell = state
        hidden_layer = np.tanh(self.project(annotations) + self.query(hidden))
        logits = hidden_layer @ self.vector
        weights = choose(logits)
        beta = sigmoid(self.beta(hidden))[0]
        context = beta * sum(w * a for w, a in zip(weights, annotations, strict=True))
        embedded = self.embedding[word] if word != PAD else 0 * self.embedding[0]
        gates = self.gates_word(embedded) + self.gates_hidden(hidden)
        i, f, o, g = np.split(gates + self.gates_context(context), 4)
        cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
        hidden = sigmoid(o) * np.tanh(cell)
        summed = embedded + self.output_hidden(hidden) + self.output_context(context)
        log_p = log_softmax(self.output_word(summed))
        look = {
            "alpha": np.exp(log_softmax(logits)),
            "locations": int(np.argmax(weights)),
            "beta": beta,
        }
        return log_p, (hidden, cell), look


class Caption:
    """A caption under way: words, their log-probabilities and looks, the state."""

    def __init__(self, state, words=(), log_p_word=(), looks=(), gains=()):
        self.state, self.words = state, tuple(words)
        self.log_p_word, self.looks = tuple(log_p_word), tuple(looks)
        self.gains = tuple(gains)

    @property
    def ended(self):
        return EOS in self.words

    def score(self, penalty):
        total = sum(self.log_p_word) + sum(self.gains)
        return total / max(1, len(self.words)) ** penalty

    def plus(self, state, word, log_p, look, gain):
        return Caption(
            state,
            self.words + (word,),
            self.log_p_word + (log_p,),
            self.looks + (look,),
            self.gains + (gain,),
        )


def forbidden(words, size, options):
    """The ids that may not follow `words`."""
    never = {PAD, *options.banned} | (set() if options.allow_unknown else {UNK})
    n = options.no_repeat_ngram
    if n:
        grams = {words[i : i + n] for i in range(len(words) - n + 1)}
        start = words[max(0, len(words) - n + 1) :]
        never |= {w for w in range(size) if start + (w,) in grams}
    if len(words) < options.min_length and len(never | {EOS}) < size:
        never |= {EOS}
    return never


def decode_plainly(plain, annotations, image, options, seed, evidence, guiding=0):
    """The captions of one image, best first.

    `evidence` is what each reranker knows of this image, by its name; `guiding` is how
    much the alignment guides the search.
    """
    width = options.beam if options.decoder == "beam" else 1
    dice = dice_of(seed, image, options, width)
    captions = [Caption(plain.start(annotations))]
    for t in range(options.max_length):
        found = []
        for beam, caption in enumerate(captions):
            if caption.ended:
                found.append(caption)
                continue

            def choose(logits, draw=dice[0, t, beam]):
                if options.attention == "expected":
                    return np.exp(log_softmax(logits))
                if options.attention == "argmax":
                    index = int(np.argmax(logits))
                else:
                    index = throw(logits, draw)
                return np.eye(len(logits))[index]

            last = caption.words[-1] if caption.words else PAD
            log_p, state, look = plain.step(last, caption.state, annotations, choose)
            closed = forbidden(caption.words, len(log_p), options)
            words = [w for w in range(len(log_p)) if w not in closed]
            gain = np.zeros(len(log_p))
            if options.decoder != "sample" and dict(options.rerank).get("alignment"):
                known = evidence["alignment"]
                gain = guiding * guidance(caption.words, look["locations"], *known)
            if options.decoder == "greedy":
                words = [max(words, key=lambda w: log_p[w] + gain[w])]
            elif options.decoder == "sample":
                words = [_draw(log_p, words, options, dice[1, t, beam])]
            found += [caption.plus(state, w, log_p[w], look, gain[w]) for w in words]
        found.sort(key=lambda c: -c.score(options.length_penalty))
        captions = found[:width]
    for caption in captions:
        caption.rank = caption.score(options.length_penalty)
    if options.decoder == "beam" and options.rerank:
        captions = agreed(captions, dict(options.rerank), evidence)
    return captions


def guidance(words, location, expected, shown, share):
    """What each word `[V]` gains that is found in the image and where one looks.

    `expected` and `share` are `[V]`, `shown` is `[L, V]`, all of them probabilities.
    """
    gain = np.log(np.sqrt(expected * shown[location]) / share)
    gain[share == 1] = 0
    gain[[PAD, *words]] = 0
    return gain


def agreed(captions, strengths, evidence):
    """By the expected share of n-grams in common with a caption drawn from them all.

    To it are added, as far as they have a strength, the opinions of `OPINIONS`.
    """
    p = np.exp([strengths["consensus"] * sum(c.log_p_word) for c in captions])
    for caption in captions:
        shares = [in_common(caption.words, other.words) for other in captions]
        caption.rank = np.dot(p, shares) / p.sum()
        for name, opinion in OPINIONS.items():
            if strengths.get(name):
                caption.rank += strengths[name] * opinion(caption, *evidence[name])
    return sorted(captions, key=lambda c: -c.rank)


def detection(caption, expected):
    """In common with a caption that says w with p = expected `[V]`: `f_measure`."""
    right = {word: expected[word] for word in caption.words}
    return f_measure(right, expected, np.ones(len(expected)))


def alignment(caption, expected, shown, share):
    """As `detection`, but a word is right as far as it is shown where it is looked for.

    And it is worth the information that it gives. `shown` is `[L, V]`. Said twice, a
    word is looked for where it is said first.
    """
    right = {}
    for word, look in zip(caption.words, caption.looks, strict=True):
        seen = expected[word] if word == EOS else shown[look["locations"], word]
        right.setdefault(word, np.sqrt(expected[word] * seen))
    return f_measure(right, expected, np.log(1 / share))


def f_measure(right, expected, worth):
    """How right the words are that are said, recall counting twice."""
    found = sum(worth[word] * p for word, p in right.items())
    if not found:
        return 0
    precision = found / sum(worth[word] for word in right)
    recall = found / sum(worth * expected)
    return 3 / (1 / precision + 2 / recall)


def grounding(caption, evidence):
    """The mean evidence, `[L, V]`, of the words at the locations looked at for them."""
    said = [
        evidence[look["locations"], word]
        for look, word in zip(caption.looks, caption.words, strict=True)
        if word != EOS
    ]
    return np.mean(said) if said else 0


OPINIONS = {"detection": detection, "alignment": alignment, "grounding": grounding}


def in_common(a, b):
    """The F measure of n-grams, mean of n = 1 to 4."""
    shares = []
    for n in range(1, 5):
        both = [
            collections.Counter(x[i : i + n] for i in range(len(x) - n + 1))
            for x in (a, b)
        ]
        total = sum(both[0].values()) + sum(both[1].values())
        found = sum((both[0] & both[1]).values())
        shares.append(2 * found / max(1, total))
    return np.mean(shares)


def _draw(log_p, words, options, draw):
    logits = np.full(len(log_p), -np.inf)
    logits[words] = log_p[words] / options.temperature
    if not (options.top_k or options.top_p):
        return throw(logits, draw)
    order = np.argsort(-logits, kind="stable")[: options.top_k]
    kept = logits[order]
    if options.top_p:
        p = np.exp(log_softmax(kept))
        kept = np.where(np.cumsum(p) - p < options.top_p, kept, -np.inf)
    return int(order[throw(kept, draw)])
