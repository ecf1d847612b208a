"""The folder of a run: it can be killed at any moment and resumed."""

import contextlib
import dataclasses
import errno
import json
import os
import sys

import numpy as np
import tensorflow as tf

from sat_tf.presets import storage
from sat_tf.runtime.files import alone, on_disk, replacing, whole
from sat_tf.training import origins


@dataclasses.dataclass
class Progress:
    """Where a run stands; kept in its checkpoint."""

    step: int = 0
    best: float = -1.0
    best_epoch: int = -1
    history: list = dataclasses.field(default_factory=list)


class Run:
    """The folder of a run.

    `preset.json` is the resolved recipe, `origins.json` and `origins.npz` tell the
    words and data it learns from, `model/` the best captioner so far, `checkpoint.npz`
    everything needed to resume, `history.json` one row per epoch, and the same in
    `tensorboard/`.
    """

    def __init__(self, folder):
        self.folder = on_disk(folder, "a folder for the run")
        if self.folder.is_file():
            raise ValueError(
                f"Expected a folder for the run. Received: out={str(folder)!r}, which "
                "is a file. Choose another --out."
            )
        self.model = self.folder / "model"
        self._writer = None

    @property
    def begun(self):
        """Whether there is a checkpoint to resume from."""
        return (self.folder / "checkpoint.npz").is_file()

    @contextlib.contextmanager
    def alone(self):
        """Keeps other processes out, see `files.alone`."""
        with contextlib.ExitStack() as stack:
            with self._explained():
                stack.enter_context(alone(self.folder))
            yield self

    def open(self, settings):
        """Makes the folder, or checks that it holds a run of the same settings."""
        path = self.folder / "preset.json"
        text = json.dumps(settings, indent=1) + "\n"
        if path.is_file() and self.begun:
            with self._whole(path):
                old, new = dict(json.loads(path.read_text())), json.loads(text)
            if origins.noted(self.folder):  # they know the data, wherever they are now
                old["dataset"] = new["dataset"]
            if differing := ", ".join(_differing(old, new)):
                raise ValueError(
                    "Expected the recipe this run was started with, to resume it. "
                    f"Received: out={str(self.folder)!r}, which differs in "
                    f"{differing}. Choose another --out, or the same settings."
                )
        with self._explained(), replacing(path) as beside:
            beside.write_text(text)
        for left in self.folder.glob(".checkpoint.npz.*.tmp"):  # of a killed process
            left.unlink()

    def learn_from(self, vocabulary, splits):
        """Notes words and data, or checks that a run under way has learned from these.

        Validation counts: the best captioner so far was chosen by it.
        """
        if self.begun and origins.noted(self.folder):
            found = origins.differences(self.folder, vocabulary, splits)
            if found:
                raise ValueError(
                    "Expected the words and data this run was begun with, as its "
                    "weights and its best score are of those. "
                    f"Received: out={str(self.folder)!r}, but {'; '.join(found)}. "
                    "Choose another --out to train anew, or put the data back."
                )
            return
        if self.begun:
            print(
                f"Warning: {self.folder} was begun by a version of sat_tf that did not "
                "note its words and data. It resumes with those of today, which may "
                "not be what it has learned from.",
                file=sys.stderr,
            )
        with self._explained():
            origins.note(self.folder, vocabulary, splits)

    def progress(self):
        """The `Progress` of the checkpoint; a fresh one if there is none."""
        if not self.begun:
            return Progress()
        with self._checkpoint() as arrays:
            return Progress(**json.loads(str(arrays["progress"])))

    @contextlib.contextmanager
    def _checkpoint(self):
        path = self.folder / "checkpoint.npz"
        with self._whole(path), open(path, "rb") as file, np.load(file) as arrays:
            yield arrays

    def _whole(self, path):
        fix = "Copy it again, or choose another --out to train anew."
        return whole(path, f"{path.name} as a run writes it", fix)

    def restore(self, captioner):
        """Puts the checkpoint, if there is one, into a compiled captioner.

        The stages that the run has been through must have been entered before: a trunk
        that is trained has more to restore.
        """
        if not self.begun:
            return
        variables = _all_variables(captioner)
        with self._checkpoint() as arrays:
            values = [arrays[n] for n in sorted(arrays.files) if n != "progress"]
        if [v.shape for v in values] != [tuple(v.shape) for v in variables]:
            raise ValueError(
                "Expected the checkpoint to fit the captioner. Received: out="
                f"{str(self.folder)!r}, whose checkpoint another version of sat_tf "
                "wrote. Resume with that version, or choose another --out."
            )
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        captioner.encoder.standardise.finalize_state()

    def save_checkpoint(self, captioner, progress):
        """Every variable that is trained and the progress, in one file, at once."""
        variables = _all_variables(captioner)
        arrays = {f"{i:05d}": v.numpy() for i, v in enumerate(variables)}
        state = json.dumps(dataclasses.asdict(progress))
        with self._explained(), replacing(self.folder / "checkpoint.npz") as path:
            with open(path, "wb") as file:
                np.savez(file, progress=np.array(state), **arrays)
                file.flush()
                os.fsync(file.fileno())

    def save_best(self, captioner, metadata):
        """The captioner to be used after the run."""
        with self._explained():
            storage.save(captioner, self.model, metadata=metadata)

    def save_history(self, history):
        """One row per epoch, for people to read; the checkpoint has its own."""
        with self._explained(), replacing(self.folder / "history.json") as path:
            path.write_text(json.dumps(history, indent=1) + "\n")

    def log(self, row):
        """An epoch's figures, for TensorBoard."""
        with self._explained():
            if self._writer is None:
                folder = str(self.folder / "tensorboard")
                self._writer = tf.summary.create_file_writer(folder)
            with self._writer.as_default(step=row["epoch"]):
                for name, value in row.items():
                    tf.summary.scalar(name, value)
            self._writer.flush()

    @contextlib.contextmanager
    def _explained(self):
        try:
            yield
        except (OSError, tf.errors.OpError) as error:
            reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
            raise OSError(
                getattr(error, "errno", errno.EIO),
                "Expected room in the folder of the run, and the right to write. "
                f"Received: {reason}. Make room and repeat the command: it resumes "
                "from the last checkpoint, which is whole",
                str(self.folder),
            ) from error


def _differing(old, new, inside=""):
    """What differs in two nested dicts: dotted names, then and now."""
    for name in {**old, **new}:
        ours, theirs = old.get(name), new.get(name)
        if isinstance(ours, dict) and isinstance(theirs, dict):
            yield from _differing(ours, theirs, f"{inside}{name}.")
        elif ours != theirs:
            yield f"{inside}{name} ({ours!r} then, {theirs!r} now)"


def _all_variables(captioner):
    """All that changes in training: a frozen trunk's weights are where they were."""
    network = captioner.encoder.network
    frozen = set() if network.trainable else {id(v) for v in network.variables}
    optimizers = [captioner.optimizer, captioner.encoder_optimizer]
    owned = [v for o in optimizers if o is not None for v in o.variables]
    return [*(v for v in captioner.variables if id(v) not in frozen), *owned]
