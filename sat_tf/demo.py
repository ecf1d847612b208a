"""The main job on the embedded data: train on drawings, evaluate, caption, show."""

import pathlib
import time

import numpy as np

from sat_tf import images
from sat_tf.caches import default_cache
from sat_tf.datasets import load
from sat_tf.evaluation import evaluate
from sat_tf.metrics import write_json
from sat_tf.presets import SCENES
from sat_tf.training import train
from sat_tf.visualisation import captions_figure, save_figure

SHOWN = 4
BEAM = 3


def demo(out, *, seed=17, quiet=False):
    """Trains hard attention on `scenes` and shows what it says and where it looks.

    Args:
        out: folder for the run, the scores and the figure; a demo that was
            interrupted goes on.
        seed: of the training.
        quiet: print nothing.

    Returns:
        dict with the scores on `test` and `unseen`, the captions, the figure's path
        and the seconds it took.
    """
    start = time.time()
    out = pathlib.Path(out)
    say = (lambda *_: None) if quiet else print
    say("Training hard attention on drawings: some minutes on two cores.")
    captioner, _ = train(
        SCENES, "scenes", out / "run", seed=seed, verbose=0 if quiet else "auto"
    )
    report = {"out": str(out)}
    options = captioner.options(decoder="beam", beam=BEAM)
    for split in ("test", "unseen"):
        scores = evaluate(
            captioner,
            load("scenes", split),
            options,
            out / split,
            cache_dir=default_cache(),
            meteor=False,
            progress=not quiet,
        )
        report[split] = scores
        say(
            f"{split}: the chosen place is right for {scores['pointing_accuracy']:.1%} "
            f"of the content words, {scores['caption_accuracy']:.1%} of the captions "
            "are wholly true."
        )
    held_out = load("scenes", f"test[:{SHOWN}]")
    pixels = [
        images.load(contents, captioner.encoder.image_size, captioner.resize_mode)
        for contents in held_out.images.as_numpy_iterator()
    ]
    captions = captioner.generate(np.stack(pixels), decoder="beam", beam=BEAM)
    report["captions"] = [c.caption for c in captions]
    report["figure"] = str(out / "attention.png")
    save_figure(captions_figure(pixels, captions), report["figure"])
    report["seconds"] = time.time() - start
    write_json(report, out / "demo.json")
    for name, caption in zip(held_out.file_names, captions, strict=True):
        say(f"{name}: {caption.caption}")
    say(f"Where it looked, word by word: {report['figure']}")
    say(f"That took {report['seconds']:.0f} s. Next, your own photographs:")
    say("  sat-tf train --data FOLDER --preset flickr --out run")
    say("  sat-tf caption photo.jpg --model run --figure look.png")
    return report
