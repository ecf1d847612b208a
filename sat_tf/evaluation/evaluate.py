"""From a captioner and a split to predictions, references and scores on disk."""

import functools
import hashlib

import numpy as np
from tqdm import tqdm

from sat_tf import images, reranking
from sat_tf.datasets import cache, scenes
from sat_tf.datasets.pipeline import Mirrored
from sat_tf.decoding.explain import explain_features
from sat_tf.decoding.generate import caption_features, encode
from sat_tf.evaluation import captions as metrics
from sat_tf.evaluation import figures, looks
from sat_tf.runtime.caches import default_cache
from sat_tf.runtime.files import folder_on_disk
from sat_tf.runtime.memory import keep_freed_memory


def cached_inputs(captioner, split, cache_dir, *, mirrored=False):
    """What the captioner reads of a split: features of a frozen trunk, or pixels.

    Args:
        captioner: a `ShowAttendTell`.
        split: a `datasets.Split`.
        cache_dir: the folder for caches, where it is kept between runs under what it
            was made from.
        mirrored: whether about half of the images of each batch are to be mirrored.

    Returns:
        an `ArrayCache` and the key `fit` knows it by: `annotations` or `image`.
    """
    encoder = captioner.encoder
    kinds = kinds_of(encoder, functools.partial(encode, captioner), mirrored=mirrored)
    plain, *others = [cache.keep(split, kind, cache_dir) for kind in kinds]
    key = "image" if encoder.network.trainable else "annotations"
    if not mirrored:
        return plain, key
    flipped = others[0].read if others else lambda rows: plain.read(rows)[:, :, ::-1]
    return Mirrored(plain, flipped), key


def kinds_of(encoder, encode, *, mirrored=False):
    """What is cached of images for an encoder to be trained with, or behind.

    Args:
        encoder: an `Encoder`.
        encode: what it computes, traced: images `[b, H, W, 3]` to features `[b, L, D]`.
        mirrored: whether images are to be mirrored too.

    Returns:
        list of `cache.Kind`.
    """
    size, mode = encoder.image_size, encoder.resize_mode
    if encoder.network.trainable:
        return [cache.pixels(size, mode)]
    features = functools.partial(
        cache.features,
        record_shape=(encoder.locations, encoder.size),
        size=size,
        mode=mode,
    )
    made_by = weights_fingerprint(encoder)
    kinds = [features(encode, made_by=made_by)]
    if mirrored:
        made_by = f"{made_by} mirrored"
        kinds.append(features(lambda x: encode(x[:, :, ::-1]), made_by=made_by))
    return kinds


def weights_fingerprint(encoder):
    """Of the trunk, how exactly it computes, and every weight in it."""
    how = f"{encoder.trunk} {encoder.compute_dtype}"
    return fingerprint(how, encoder.network.weights)


def fingerprint(text, weights):
    """Of a text and every value of some weights, as hexadecimal digits."""
    digest = hashlib.sha256(text.encode())
    for variable in weights:
        digest.update(np.ascontiguousarray(variable.numpy()))
    return digest.hexdigest()


def predict(captioner, inputs, key, options, *, seed=17, batch_size=64, progress=None):
    """Captions of every record of a cache, in order.

    Args:
        captioner: a `ShowAttendTell`.
        inputs, key: from `cached_inputs`.
        options: `DecodingOptions`.
        seed: of the `sample` rule and decoder.
        progress: label of a progress bar, or `None`.

    Returns:
        list of `Caption`.
    """
    captions = []
    starts = range(0, len(inputs), batch_size)
    for at in tqdm(starts, desc=progress, disable=progress is None):
        rows = np.arange(at, min(at + batch_size, len(inputs)))
        features = captioner.network.features_of({key: inputs.read(rows)})
        captions += caption_features(captioner, features, options, seed=seed, first=at)
    return captions


def evaluate(
    captioner,
    split,
    options,
    out,
    *,
    cache_dir=None,
    seed=17,
    meteor=True,
    progress=True,
):
    """Writes predictions.json, references.json and scores.json; returns the scores.

    The scores are computed from the two files, so anyone can do it again. Where the
    split has regions they hold `looks`, see `looks.summary`, of the words of
    `all_looks`, and the best and the worst are drawn in looks.png. On `scenes` they
    hold `pointing_accuracy` and `caption_accuracy`.

    Args:
        captioner: a `ShowAttendTell`.
        split: a `datasets.Split`.
        options: `DecodingOptions`.
        out: folder for the files, made if need be.
        cache_dir: see `cached_inputs`, by default `default_cache()`.
        seed: see `predict`.
        meteor: whether METEOR is wanted, which takes Java and half a minute.
        progress: whether to show a bar.
    """
    keep_freed_memory()
    out = folder_on_disk(out, "a folder for the scores")
    inputs, key = cached_inputs(captioner, split, cache_dir or default_cache())
    label = f"caption {split.split}" if progress else None
    captions = predict(captioner, inputs, key, options, seed=seed, progress=label)
    texts = [c.caption for c in captions]
    pairs = reranking.with_a_say(captioner.rerankers, options)
    paths = out / "predictions.json", out / "references.json"
    metrics.write_json(metrics.to_predictions(texts), paths[0])
    metrics.write_json(
        metrics.to_references(split.file_names, split.captions), paths[1]
    )
    scores = {
        "data": split.name,
        "split": split.split,
        "decoder": options.decoder,
        "beam": options.width,
        "attention": options.attention,
        "length_penalty": options.length_penalty,
        "rerank": {reranking.name_of(one): strength for one, strength in pairs},
        **metrics.score_files(*paths, meteor=meteor),
    }
    seen = all_looks(captioner, split, inputs, key, captions, options, seed=seed)
    if seen:
        scores["looks"] = {name: looks.summary(each) for name, each in seen.items()}
        draw_looks(seen["generated"], split, captioner.encoder, out / "looks.png")
    if split.name == "scenes":
        scores |= scene_scores(captions, split, captioner.grid)
    metrics.write_json(scores, out / "scores.json")
    return scores


def all_looks(captioner, split, inputs, key, captions, options, *, seed=17):
    """Where a captioner looks at the words whose regions are known.

    Args:
        captions: from `predict`, with these `inputs`, `key`, `options` and `seed`.

    Returns:
        dict of lists of `looks.Look`: `generated`, of the captioner's own words;
        `given`, of the words of the captions in the split, where attention looked
        before it knew them; `explained`, of the same, where `explain` finds them.
        Empty where the split has no regions.
    """
    encoder = captioner.encoder
    known = looks.known_captions(split, encoder.image_size, encoder.resize_mode)
    if not known:
        return {}
    rule = options.attention
    where = looks.go_over(captioner, inputs, key, known, rule, seed=seed)
    return {
        "generated": looks.spoken(captions, known),
        "given": looks.given(known, *where),
        "explained": looks.given(known, _evidence(captioner, inputs, key, known)),
    }


def _evidence(captioner, inputs, key, known, batch_size=64):
    """Of each known caption `[T, h, w]`, where its words are found."""
    found = []
    for at in range(0, len(known), batch_size):
        some = known[at : at + batch_size]
        records = inputs.read([caption.image for caption in some])
        features = captioner.network.features_of({key: records})
        found += explain_features(captioner, features, [each.text for each in some])
    return [explanation.evidence for explanation in found]


def draw_looks(seen, split, encoder, path):
    """Draws the best and the worst of some looks at a split, if there are any."""
    best, worst = looks.best_and_worst(seen)
    if not best:
        return
    wanted = {look.image for look, _ in best + worst}
    pictures = {
        i: images.load(contents, encoder.image_size, encoder.resize_mode)
        for i, contents in enumerate(split.images.as_numpy_iterator())
        if i in wanted
    }
    rows = {
        title: [
            (
                pictures[look.image],
                *look[1:3],
                *(look.location, look.alpha.shape),
                f"{m['correctness']:.0%} of alpha\non {m['area']:.0%} of the image",
            )
            for look, m in chosen
        ]
        for title, chosen in (
            ("Most of alpha in the boxes", best),
            ("Least of alpha in the boxes", worst),
        )
    }
    figures.save_figure(figures.looks_figure(rows), path)


def scene_scores(captions, split, grid):
    """`pointing_accuracy` and `caption_accuracy` (shares) of captions of `scenes`."""
    texts = [c.caption for c in captions]
    locations = [c.locations for c in captions]
    return {
        "pointing_accuracy": scenes.pointing_accuracy(
            texts, locations, grid, split.file_names
        ),
        "caption_accuracy": scenes.caption_accuracy(texts, split.file_names),
    }
