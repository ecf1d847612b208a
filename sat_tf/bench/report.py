"""Tables (CSV and JSON) and figures (PNG and SVG) of what has been measured."""

import csv
import json
import pathlib

import numpy as np
from matplotlib.figure import Figure

from sat_tf.bench.start import PAPER_NAME, RECOMMENDED
from sat_tf.runtime.files import replacing, whole

LABELS = {
    "pointing_accuracy": "content words pointed right",
    "bleu_4": "BLEU-4",
    "log_likelihood": "log-likelihood per word, nats",
}
LOOKS = ("generated_pointing", "generated_middle", "given_pointing", "given_middle")
_COLOUR, _HIGHLIGHT = "#0072B2", "#D55E00"


def write(out):
    """Writes `gradients`, `learning` and `summary` as tables and draws the figures.

    Args:
        out: folder of a bench, finished or not.

    Returns:
        the rows of the summary.
    """
    out = pathlib.Path(out)
    gradients = gradient_rows(out / "gradients")
    learning = learning_rows(out / "learning")
    summary = summarise(gradients, learning)
    for name, rows in (
        ("gradients", gradients),
        ("learning", learning),
        ("summary", summary),
    ):
        write_table(rows, out / name)
    if any(row["variance_time"] > 0 for row in gradients):  # not soft alone
        save_figure(cost_figure(gradients), out / "variance_time")
    for measure in LABELS:
        if learning and measure in learning[0]:
            save_figure(learning_figure(learning, measure), out / measure)
    return summary


# ------------------------------------------------------------------------- tables


def gradient_rows(folder):
    """One row per estimator and group, see `gradients.measure`.

    `variance_each` is the variance per entry; `noise_to_signal` the variance over the
    squared norm of the mean; `variance_time` the variance times the seconds of a
    gradient: what one of variance 1 costs; `vs_paper` that as a share of the paper's.
    `bias_small` and `bias_real` are distances from the exact gradient of the small
    case and from a long average on the real batch, over the latter's norm, beside what
    chance alone would make of them. The long average is the least noisy one of another
    estimator that is unbiased for the same objective.
    """
    found = _results(folder)
    means = {name: _means(folder / f"{name}.npz") for name in found}
    rows = []
    for name, result in found.items():
        seconds = result["ms"] / 1e3
        for group, moments in result["groups"].items():
            variance, signal = moments["variance"], moments["signal"]
            small = result["small"].get(group, {})
            row = {
                "estimator": name,
                "objective": result["objective"],
                "unbiased": result["unbiased"],
                "group": group,
                "size": moments["size"],
                "variance": variance,
                "variance_each": variance / moments["size"],
                "signal": signal,
                "noise_to_signal": variance / signal if signal else None,
                "ms": result["ms"],
                "memory_mb": result["memory_mb"],
                "variance_time": variance * seconds,
                "vs_paper": None,
                "bias_small": small.get("bias"),
                "bias_small_noise": small.get("noise"),
            }
            rows.append(row | _bias_from_average(name, group, found, means))
    paper = {r["group"]: r["variance_time"] for r in rows if r["estimator"] == "paper"}
    for row in rows:
        if paper.get(row["group"]):
            row["vs_paper"] = row["variance_time"] / paper[row["group"]]
    return rows


def _bias_from_average(name, group, found, means):
    result = {"bias_real": None, "bias_real_noise": None, "bias_real_from": None}

    def noise(other):
        return found[other]["groups"][group]["noise"]

    others = [
        other
        for other in found
        if other != name
        and found[other]["unbiased"]
        and found[other]["objective"] == found[name]["objective"]
    ]
    if not others or group not in means[name]:
        return result
    average = min(others, key=noise)
    norm = np.linalg.norm(means[average][group])
    off = np.linalg.norm(means[name][group] - means[average][group])
    return {
        "bias_real": float(off / norm),
        "bias_real_noise": float(np.sqrt(noise(name) + noise(average)) / norm),
        "bias_real_from": average,
    }


def learning_rows(folder):
    """One row per estimator, seed and evaluation, see `learning.learn`.

    The last one of a run says where it looks: `generated_pointing`, how many of its own
    words for things are said while looking at the thing, and `generated_middle`, how
    many things the middle of the image shows; the same of `given` captions.
    """
    rows = []
    for unit, result in _results(folder).items():
        name, _, seed = unit.rpartition("-")
        about = {
            "estimator": name,
            "seed": int(seed),
            "attention": result["attention"],
            "diverged": result["diverged"],
        }
        rows += [about | point for point in result["curve"]]
        # A bench that was begun before it asked for the looks is resumed all the same.
        for kind, summary in result.get("looks", {}).items():
            if summary["n"]:
                pairs = ((of, summary[of]) for of in ("pointing", "middle"))
                rows[-1] |= {f"{kind}_{of}": value for of, value in pairs}
    return rows


def summarise(gradients, learning):
    """One row per estimator, the best last score first.

    `attention_*` are of the gradient by f_att's weights, `logits_vs_paper` of that by
    the location logits; `final_*` are means over the seeds at the end of the training
    time; `seconds_to_paper` is when the mean curve first is where the paper's ends,
    and `share_of_paper` that as a share of the paper's training time.
    """
    at = {(row["estimator"], row["group"]): row for row in gradients}
    curves = mean_curves(learning, score_of(learning)) if learning else {}
    likelihoods = mean_curves(learning, "log_likelihood") if learning else {}
    rows = []
    for name in dict.fromkeys([*(n for n, _ in at), *curves]):
        attention, logits = (at.get((name, g), {}) for g in ("attention", "logits"))
        row = {
            "estimator": name,
            "ms": attention.get("ms"),
            "memory_mb": attention.get("memory_mb"),
            "attention_variance": attention.get("variance"),
            "attention_variance_time": attention.get("variance_time"),
            "attention_vs_paper": attention.get("vs_paper"),
            "logits_vs_paper": logits.get("vs_paper"),
            "bias_small": attention.get("bias_small"),
            "bias_small_noise": attention.get("bias_small_noise"),
        }
        if name in curves:
            seconds, mean, low, high = curves[name]
            row |= {
                "score": score_of(learning),
                "final_score": mean[-1],
                "final_low": low[-1],
                "final_high": high[-1],
                "final_log_likelihood": likelihoods[name][1][-1],
            }
            row |= _against_paper(seconds, mean, curves.get(PAPER_NAME))
            row |= _final_looks([r for r in learning if r["estimator"] == name])
        rows.append(row)
    if curves:
        rows.sort(key=lambda row: -row.get("final_score", -1.0))
    return rows


def _final_looks(rows):
    """Means over the seeds of what the last rows say of the looks, where they do."""
    names = [n for n in LOOKS if any(n in row for row in rows)]
    found = {name: [row[name] for row in rows if name in row] for name in names}
    return {f"final_{name}": float(np.mean(found[name])) for name in names}


def score_of(learning):
    """The score that learning is compared by."""
    return "pointing_accuracy" if "pointing_accuracy" in learning[0] else "bleu_4"


def _against_paper(seconds, mean, paper):
    if paper is None:
        return {"seconds_to_paper": None, "share_of_paper": None}
    when = first_time(seconds, mean, paper[1][-1])
    share = None if when is None else when / paper[0][-1]
    return {"seconds_to_paper": when, "share_of_paper": share}


def first_time(seconds, values, wanted):
    """When a curve of straight pieces first reaches a value, or `None`."""
    reached = np.flatnonzero(np.asarray(values) >= wanted)
    if not len(reached):
        return None
    i = int(reached[0])
    if i == 0:
        return float(seconds[0])
    share = (wanted - values[i - 1]) / (values[i] - values[i - 1])
    return float(seconds[i - 1] + share * (seconds[i] - seconds[i - 1]))


def mean_curves(learning, measure):
    """Estimator -> seconds, mean, lowest and highest over the seeds, a list each.

    Between two evaluations a curve is straight; after a run that diverged it stays
    where it was. An estimator's time ends where its shortest sound run does.
    """
    runs = {}
    for row in learning:
        curve = runs.setdefault(row["estimator"], {}).setdefault(row["seed"], [])
        curve.append((row["seconds"], row[measure], row["diverged"]))
    curves = {}
    for name, seeds in runs.items():
        sound = [c for c in seeds.values() if not c[0][2]] or list(seeds.values())
        times = np.array([point[0] for point in min(sound, key=lambda c: c[-1][0])])
        values = np.array(
            [np.interp(times, *list(zip(*c, strict=True))[:2]) for c in seeds.values()]
        )
        each = times, values.mean(0), values.min(0), values.max(0)
        curves[name] = tuple(x.tolist() for x in each)
    return curves


def _results(folder):
    """Name -> result of the finished units in a folder."""
    results = {}
    for path in sorted(folder.glob("*.json")):
        with whole(path, "a result as the bench keeps it", "Remove it."):
            results[path.stem] = json.loads(path.read_text())
    return results


def _means(path):
    with np.load(path) as arrays:
        return {name: np.asarray(arrays[name], "float64") for name in arrays.files}


def write_table(rows, path):
    """`path.csv` and `path.json`; what is not known is empty there, null here."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    with replacing(path.with_suffix(".csv")) as beside:
        with open(beside, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(rows)
    with replacing(path.with_suffix(".json")) as beside:
        beside.write_text(json.dumps(rows, indent=1, allow_nan=False) + "\n")


# ------------------------------------------------------------------------ figures


def cost_figure(gradients):
    """Variance times time of the attention's gradient, a bar per estimator."""
    figure = Figure(figsize=(12, 6.5), layout="constrained")
    panels = figure.subplots(1, 2)
    titles = {"logits": "by the location logits", "attention": "by f_att's weights"}
    for panel, (group, title) in zip(panels, titles.items(), strict=True):
        rows = [r for r in gradients if r["group"] == group and r["variance_time"] > 0]
        rows.sort(key=lambda row: row["variance_time"])
        colours = [
            _HIGHLIGHT if r["estimator"] in (PAPER_NAME, RECOMMENDED) else _COLOUR
            for r in rows
        ]
        names = [r["estimator"] + ("" if r["unbiased"] else " (biased)") for r in rows]
        panel.barh(names, [r["variance_time"] for r in rows], color=colours)
        panel.invert_yaxis()
        panel.set_xscale("log")
        panel.set_title(f"gradient {title}", fontsize=15)
        panel.set_xlabel("variance × seconds per gradient", fontsize=13)
        panel.tick_params(labelsize=12)
    return figure


def learning_figure(learning, measure):
    """A measure against training time, a panel per estimator, best at the end first.

    The line is the mean over the seeds, the band goes from the lowest to the highest;
    the paper's mean is in every panel, dashed.
    """
    curves = mean_curves(learning, measure)
    order = sorted(curves, key=lambda name: -curves[name][1][-1])
    columns = min(len(order), 4)
    rows = -(-len(order) // columns)
    size = 3.5 * columns, 3 * rows
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for panel in panels.flat[len(order) :]:
        panel.remove()
    for panel, name in zip(panels.flat, order, strict=False):
        seconds, mean, low, high = curves[name]
        minutes = np.array(seconds) / 60
        if PAPER_NAME in curves:
            paper = curves[PAPER_NAME]
            panel.plot(np.array(paper[0]) / 60, paper[1], "--", color="black")
        colour = _HIGHLIGHT if name in (PAPER_NAME, RECOMMENDED) else _COLOUR
        panel.plot(minutes, mean, color=colour, linewidth=3)
        panel.fill_between(minutes, low, high, color=colour, alpha=0.25, linewidth=0)
        panel.set_title(name, fontsize=14)
        panel.tick_params(labelsize=12)
        panel.grid(alpha=0.3)
    for panel in panels.flat[max(len(order) - columns, 0) : len(order)]:
        panel.tick_params(labelbottom=True)  # there may be no panel below
    figure.supxlabel("minutes of training", fontsize=14)
    figure.supylabel(LABELS[measure], fontsize=14)
    return figure


def save_figure(figure, path):
    """`path.png` and `path.svg`."""
    for kind in ("png", "svg"):
        with replacing(path.with_suffix(f".{kind}")) as beside:
            figure.savefig(beside, format=kind, dpi=110)
