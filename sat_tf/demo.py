"""The main job on the embedded data: train on drawings, evaluate, caption, show."""

import time

import numpy as np

from sat_tf import images
from sat_tf.datasets import load
from sat_tf.evaluation.captions import write_json
from sat_tf.evaluation.evaluate import evaluate
from sat_tf.evaluation.figures import captions_figure, save_figure
from sat_tf.recipes import RECIPES
from sat_tf.runtime.files import on_disk
from sat_tf.training import train

SHOWN = 4
BEAM = 3


def demo(out, *, seed=17, quiet=False):
    """Trains hard attention on `scenes` and shows what it says and where it looks.

    Args:
        out: folder for the run, the scores and the figure; a demo that was
            interrupted resumes.
        seed: of the training.
        quiet: print nothing.

    Returns:
        dict with the scores on `test` and `unseen`, the captions, the figure's path
        and the seconds it took.
    """
    start = time.time()
    out = on_disk(out, "a folder for the run")
    say = (lambda *_: None) if quiet else print
    say("Training hard attention on drawings: some minutes on two cores.")
    verbose = 0 if quiet else "auto"
    run, recipe = out / "run", RECIPES["scenes"]
    captioner, _ = train(recipe, "scenes", run, seed=seed, verbose=verbose)
    report = {"out": str(out)}
    options = captioner.options(decoder="beam", beam=BEAM)
    for split in ("test", "unseen"):
        scores = evaluate(
            captioner,
            load("scenes", split),
            options,
            out / split,
            meteor=False,
            progress=not quiet,
        )
        report[split] = scores
        say(
            f"{split}: the chosen location is right for "
            f"{scores['pointing_accuracy']:.1%} of the content words, "
            f"{scores['caption_accuracy']:.1%} of the captions are wholly true."
        )
    held_out = load("scenes", f"test[:{SHOWN}]")
    encoder = captioner.encoder
    pixels = [
        images.load(contents, encoder.image_size, encoder.resize_mode)
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
