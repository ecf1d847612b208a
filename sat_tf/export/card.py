"""The model card that lies beside an exported captioner."""

import json

from sat_tf.reranking import RERANKERS, name_of

_MEANING = {
    "caption": "the words, joined by spaces; empty where there is an `error`",
    "score": "log-probability in nats, `<eos>` included{added}{penalty}",
    "words": 'the words, `""` after the end',
    "length": "how many words",
    "locations": "where it looked for each word: row * {w} + column",
    "alpha": "the distribution over locations that the location was chosen from",
    "log_p_word": "log-probability of each word, nats; `<eos>` is one of them",
    "error": 'what is wrong with the image and what to do; `""` if nothing is',
    "beam_captions": "all beams, best first",
    "beam_scores": "their scores",
}

_EXPLAINED = {
    "words": 'the words of the `caption` that was sent, `""` after the end',
    "length": "how many words",
    "known": "whether the vocabulary has the word",
    "locations": "where it finds the word: row * {w} + column",
    "evidence": "the distribution over locations that the word is found by",
    "support": "how much more probable the image makes the word than images in "
    "general do, nats; below 0 the image speaks against it",
    "log_p_word": "log-probability of each word after those before it, nats",
    "error": "what is wrong with the image or the caption and what to do",
}

_CARD = """\
# {name}

Captions images and says where it looked for each word: Show, Attend and Tell (Xu et
al. 2015) in TensorFlow, exported by `sat_tf`. Serve it with TensorFlow Serving or
`sat-tf serve`; nothing but TensorFlow is needed.

## What goes in, what comes out

{inputs}

Every output has the batch as its first axis.

| output | type | shape | |
|---|---|---|---|
{outputs}
{explained}
## How it was made

| | |
|---|---|
{facts}

{training}

## What it is for

It knows {n_words} words and what its training data showed; of anything else it will
speak just as fluently and be wrong. Where it looked says what a word was based on, not
that the word is right. Do not use it to describe people, or where a mistake can harm
somebody.
"""


def model_card(name, captioner, signatures, options, *, dtype, metadata):
    """Markdown for whoever finds the model.

    Args:
        name: of the model.
        captioner: a `ShowAttendTell`.
        signatures: {signature name: `tf.ConcreteFunction`}.
        options: the fields of the `DecodingOptions` it was exported with.
        dtype: how its weight matrices are stored, or None.
        metadata: what was saved beside the captioner: `recipe`, scores.
    """
    encoder = captioner.encoder
    n_weights = sum(v.numpy().size for v in captioner.weights)
    facts = {
        "encoder": f"{encoder.trunk}, {encoder.locations} locations "
        f"({encoder.grid[0]} x {encoder.grid[1]}) of {encoder.size} features",
        "image size": " x ".join(map(str, encoder.image_size)),
        "resizing": captioner.encoder.resize_mode,
        "weights": f"{n_weights:,}; matrices stored as {dtype or 'float32'}",
        "decoding": ", ".join(f"{k} {v}" for k, v in _told(options).items()),
    }
    if encoder.network is None:
        del facts["image size"], facts["resizing"]
    recipe = metadata.get("recipe", {})
    scores = {k: v for k, v in metadata.items() if isinstance(v, (int, float))}
    # Recipes were flat once, and `data` was its name.
    if dataset := recipe.get("dataset", recipe.get("data")):
        facts["data"] = dataset
    facts |= {k: f"{v:.4g}" for k, v in scores.items()}
    training = "The recipe is not known."
    if recipe:
        training = f"The recipe:\n\n```json\n{json.dumps(recipe, indent=1)}\n```"
    return _CARD.format(
        name=name,
        inputs="\n".join(_inputs(signatures)),
        outputs="\n".join(_outputs(signatures["beam"], captioner, options)),
        explained=_explained(signatures, captioner.grid),
        facts=_rows(facts),
        training=training,
        n_words=f"{len(captioner.vocabulary):,}",
    )


def _told(options):
    """The options that say something."""
    always = ("decoder", "beam", "attention", "max_length", "length_penalty")
    off = (None, 0, (), False, 1.0)
    told = {k: v for k, v in options.items() if k in always or v not in off}
    told.pop("rerank", None)
    return told | {f"reranker {name}": x for name, x in options["rerank"]}


def _inputs(signatures):
    yield "| signature | input | type | shape |"
    yield "|---|---|---|---|"
    for name in sorted(signatures):
        for spec in signatures[name].structured_input_signature[0]:
            yield f"| `{name}` | `{spec.name}` | {spec.dtype.name} | {_shape(spec)} |"


def _outputs(function, captioner, options):
    penalty = options["length_penalty"]
    penalty = f", over length to the power of {penalty}" if penalty else ""
    outputs = function.structured_outputs
    for name, meaning in _MEANING.items():
        if name in ("score", "beam_scores") and options["rerank"]:
            meaning = _ranked(options, _MEANING["score"])
        added = _added(captioner, options)
        meaning = meaning.format(added=added, penalty=penalty, w=captioner.grid[1])
        spec = outputs[name]
        only = " (`beam` only)" if name.startswith("beam") else ""
        yield (f"| `{name}`{only} | {spec.dtype.name} | {_shape(spec)} | {meaning} |")


def _ranked(options, unranked):
    """What the score of a beam is, and that of a caption that nothing ranks."""
    said = "; ".join(
        f"`{name}` (strength {strength}), {RERANKERS[name].summary()}"
        for name, strength in options["rerank"]
    )
    alone = f"Of one caption, by `greedy`: {unranked}"
    return f"of several beams, the sum of what the rerankers say: {said}. {alone}"


def _added(captioner, options):
    """What a guided search adds to the log-probability it goes by."""
    strengths = dict(options["rerank"])
    guides = [x for x in captioner.rerankers if x.guides and name_of(x) in strengths]
    names = " and ".join(f"`{name_of(each)}`" for each in guides)
    return f", and what {names} added to guide the search" if guides else ""


def _explained(signatures, grid):
    """What `explain` answers, for models that see images."""
    if "explain" not in signatures:
        return ""
    specs = signatures["explain"].structured_outputs
    rows = (
        f"| `{name}` | {specs[name].dtype.name} | {_shape(specs[name])} | "
        f"{meaning.format(w=grid[1])} |"
        for name, meaning in _EXPLAINED.items()
    )
    return "\n".join(
        ["", "`explain` answers otherwise:", "", "| output | type | shape | |"]
        + ["|---|---|---|---|", *rows, ""]
    )


def _shape(spec):
    sizes = ["B" if i == 0 else size or "any" for i, size in enumerate(spec.shape)]
    return f"[{', '.join(map(str, sizes))}]"


def _rows(facts):
    return "\n".join(f"| {name} | {value} |" for name, value in facts.items())
