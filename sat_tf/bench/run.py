"""The bench as one command that can be stopped and resumes."""

import json
import pathlib

from sat_tf.bench import gradients, learning, report, start
from sat_tf.bench.units import Unit, work_off
from sat_tf.datasets import load
from sat_tf.presets import storage
from sat_tf.runtime.files import alone, replacing, whole


def bench(plan, names=None, seeds=3, *, quiet=False):
    """Compares estimators; what `out` has already is not measured again.

    Args:
        plan: a `Plan`. More estimators and more seeds may be asked for later.
        names: keys of `variants`; all of them by default.
        seeds: learning runs per estimator, 0 for none.
        quiet: show no bar.

    Returns:
        the summary, see `report.summarise`. Tables and figures are in `out`.

    Raises:
        ValueError: an unknown estimator, model or data set, or `out` is of another
            plan or in use by another process.
    """
    known = start.variants(plan.recipe)
    names = list(names or known)
    for name in names:
        if name not in known:
            raise ValueError(
                f"Expected estimators among {', '.join(known)}. "
                f"Received: {name!r}. Choose some of them."
            )
    # Here, not in the first unit: a slip of the pen must not become `out`'s plan.
    if plan.model is not None:
        storage.find(plan.model)
    load(plan.data, "train", data_dir=plan.data_dir, cache_dir=plan.cache_dir)
    with alone(plan.out):
        _open(plan)
        work_off(_units(plan, names, seeds), quiet=quiet)
        return report.write(plan.out)


def _units(plan, names, seeds):
    units = []
    if plan.model is None:
        units.append(Unit(plan.out / "start.json", start.train_start, (plan,)))
    folder = plan.out / "gradients"
    units += [Unit(folder / f"{n}.json", gradients.measure, (plan, n)) for n in names]
    folder = plan.out / "learning"
    units += [
        Unit(folder / f"{name}-{seed}.json", learning.learn, (plan, name, seed))
        for seed in range(seeds)
        for name in names
    ]
    return units


def _open(plan):
    """Notes the plan in `out`, or checks that it is what `out` was begun with."""
    path = pathlib.Path(plan.out) / "plan.json"
    settings = json.loads(json.dumps(plan.settings()))
    if path.is_file():
        with whole(path, "the settings of a bench", "Choose another --out."):
            old = dict(json.loads(path.read_text()))
        changed = [k for k in settings if old.get(k) != settings[k]]
        if changed:
            raise ValueError(
                "Expected the settings this bench was begun with, to resume it. "
                f"Received: out={str(plan.out)!r}, which differs in "
                f"{', '.join(changed)}. Choose another --out, or the same settings."
            )
        return
    with replacing(path) as beside:
        beside.write_text(json.dumps(settings, indent=1) + "\n")
