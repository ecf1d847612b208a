"""Attention health: does the captioner look around, or has its attention collapsed?

Attention fails in silence: captions stay fluent while every word looks everywhere, or
always at the same location. These figures, once per epoch, show it.
"""

import numpy as np

# A fit that kept 5.1 of 5.28 nats learned nothing of where to look; one that did
# learn was at 4.8 after its first epoch, under soft attention.
_UNIFORM = 0.96
_ONE_PLACE = 0.95
_STILL = 0.01


def attention_health(alphas):
    """How the attention of a split's captions was spread, and how it moved.

    Args:
        alphas: per caption, the distributions behind its words: `[T, L]`, or
            `[T, h, w]` as in `Caption.alpha`; T may differ, and be 0.

    Returns:
        dict of floats:
        `entropy`, mean H[alpha_t] in nats, and `entropy_share` of log L;
        `peak`, mean largest alpha;
        `shift`, mean Jensen-Shannon divergence of a word's alpha from that of the
        word before, as a share of its maximum log 2;
        `repeats`, share of words with the same most probable location as the word
        before, among words that have one before;
        `coverage`, share of the L locations that are most probable at some word;
        `top_place`, share of all attention that the favourite location gets.
        Empty when there is not one word.
    """
    alphas = [np.reshape(a, (len(a), -1)).astype("float64") for a in alphas if len(a)]
    if not alphas:
        return {}
    words = np.concatenate(alphas)
    locations = words.shape[1]
    # With one location, or one word, there is nothing to compare; 0 stands for it.
    log_places = np.log(locations) or 1.0
    chosen = words.argmax(-1)
    follows = np.concatenate([np.arange(len(a)) > 0 for a in alphas])[1:]
    before, after = words[:-1][follows], words[1:][follows]
    entropy = _entropy(words).mean()
    return {
        "entropy": float(entropy),
        "entropy_share": float(entropy / log_places),
        "peak": float(words.max(-1).mean()),
        "shift": _mean(jensen_shannon(before, after)) / float(np.log(2)),
        "repeats": _mean((chosen[:-1] == chosen[1:])[follows]),
        "coverage": len(np.unique(chosen)) / locations,
        "top_place": float(words.mean(0).max()),
    }


def jensen_shannon(p, q):
    """Divergence of two distributions `[.., L]`: `[..]` nats, from 0 to log 2."""
    return _entropy((p + q) / 2) - (_entropy(p) + _entropy(q)) / 2


def warning(health):
    """What is wrong, in plain words, or `None`.

    Args:
        health: from `attention_health`.
    """
    if not health:
        return "every caption is empty: its first word is <eos>. Train longer."
    if health["entropy_share"] > _UNIFORM:
        return (
            "the attention has collapsed to uniform: its entropy is "
            f"{health['entropy_share']:.0%} of the largest possible, so every word "
            "looks everywhere at once. Set objective.lambda_ds=0 (and "
            "estimator.lambda_e=0, if the estimator has it), warm up longer "
            "(stages.warm_up.epochs), or raise optimizer.learning_rate."
        )
    if health["top_place"] > _ONE_PLACE:
        return (
            "the attention has collapsed to one cell: one location gets "
            f"{health['top_place']:.0%} of all attention, whatever the image and the "
            "word. Raise estimator.lambda_e or estimator.semi_sampling (if the "
            "estimator has them), warm up longer (stages.warm_up.epochs), or lower "
            "optimizer.learning_rate."
        )
    if health["shift"] < _STILL and health["repeats"] > _ONE_PLACE:
        return (
            "the attention does not move: all words of a caption look at the same "
            "locations (the alphas of successive words differ by "
            f"{health['shift']:.1%}). Warm up longer (stages.warm_up.epochs), or give "
            "it more samples (estimator.samples, if the estimator has them)."
        )
    return None


def _entropy(p):
    """H `[..]` nats of distributions `[.., L]`."""
    return -np.sum(p * np.log(np.maximum(p, 1e-300)), axis=-1)


def _mean(values):
    return float(np.mean(values)) if len(values) else 0.0
