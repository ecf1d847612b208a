"""What `fit` calls while a run trains."""

import math

import keras
import numpy as np

SAVE_EVERY = 200  # updates between checkpoints: about a minute's work at paper size


class CheckpointCallback(keras.callbacks.Callback):
    """Saves a checkpoint every so many updates; stops at a loss that is no number.

    Not at the end of an epoch: `train` does that when the epoch has been judged, or
    a run killed in between would never judge it.

    Args:
        run: a `Run`. progress: its `Progress`, which is moved on.
        schedule: the `Schedule` of the batches. file_names: of all images.
    """

    def __init__(self, run, progress, schedule, file_names):
        super().__init__()
        self.run, self.progress = run, progress
        self.schedule, self.file_names = schedule, file_names

    def on_train_batch_end(self, batch, logs=None):
        """Counts the update that was just made."""
        step = self.progress.step + 1
        ends = step % self.schedule.steps_per_epoch == 0
        saves = step % SAVE_EVERY == 0 and not ends
        for name in ("surrogate", "loss"):
            if not math.isfinite(logs.get(name, 0.0)):
                self._stop(f"{name}={logs[name]}")
        # The loss was taken before the update, which may have been no number itself.
        if (saves or ends) and not self._weights_are_finite():
            self._stop("weights that are not, with a loss that still was,")
        self.progress.step = step
        if saves:
            self.run.save_checkpoint(self.model, self.progress)

    def _weights_are_finite(self):
        weights = self.model.trainable_variables
        return all(np.isfinite(weight.numpy()).all() for weight in weights)

    def _stop(self, received):
        images = np.unique(self.schedule.batch(self.progress.step)[0])
        names = ", ".join(self.file_names[i] for i in images)
        raise FloatingPointError(
            "Expected a finite loss. "
            f"Received: {received} at step {self.progress.step}, in a batch of "
            f"{names}. The last good state is in "
            f"{self.run.folder / 'checkpoint.npz'}; lower optimizer.learning_rate or "
            "set optimizer.clip_norm=5 and choose another --out."
        )
