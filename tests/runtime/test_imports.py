"""Keras without what it does not need, in a process that has not imported it yet."""

import subprocess
import sys


def test_figures_are_drawn_by_what_keras_did_without(tmp_path):
    program = """
import sys
from sat_tf.runtime.imports import import_keras
import_keras()
assert "keras" in sys.modules
assert not {"matplotlib", "IPython", "tensorflow_datasets"} & sys.modules.keys()
from sat_tf.evaluation.figures import save_figure
import matplotlib.pyplot as plt
save_figure(plt.figure(), sys.argv[1])
"""
    subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "figure.png")], check=True
    )
