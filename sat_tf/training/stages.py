"""What a training run goes through, one stage after the other.

A stage is a class and one line in `STAGES`; a recipe says which of them, in which
order, and for how long.
"""

from sat_tf.estimators import Soft
from sat_tf.recipes.base import make
from sat_tf.training import strategies
from sat_tf.training.temperature import fit_temperature


class Stage:
    """Some epochs that are trained in the same way, or work to do after the last.

    Args:
        epochs: passes over all captions.
    """

    trains_the_trunk = False
    """Whether the trunk is trained along."""

    def __init__(self, epochs=0):
        whole = isinstance(epochs, int) and not isinstance(epochs, bool)
        if not whole or epochs < 0:
            raise ValueError(
                "Expected a whole number of epochs, 0 or more. Received: "
                f"epochs={epochs!r}. Give 0 to leave the stage out."
            )
        self.epochs = epochs

    def judged(self, estimator):
        """Whether its epochs may give the captioner that the run keeps."""
        del estimator
        return True

    def prepare(self, captioner, inputs, key, captions, *, seed, verbose):
        """Works on a new captioner, before it is compiled.

        Args:
            captioner: a `ShowAttendTell`, its encoder adapted.
            inputs, key: from `cached_inputs`. captions: per image, its captions.

        Returns:
            Whether anything has changed.
        """
        del captioner, inputs, key, captions, seed, verbose
        return False

    def enter(self, captioner, estimator):
        """Prepares a compiled captioner, before the first epoch and on resuming.

        Args:
            captioner: a `ShowAttendTell`.
            estimator: the recipe's.
        """

    def finish(self, captioner, inputs, key, captions, *, seed, verbose):
        """Works on the best captioner after the last epoch.

        Args:
            captioner: a `ShowAttendTell`.
            inputs, key: from `cached_inputs`. captions: per image, its captions.

        Returns:
            Whether anything has changed.
        """
        del captioner, inputs, key, captions, seed, verbose
        return False


class See(Stage):
    """The words of captions are learned from images as wholes, before any sentence.

    The rerankers that locate words learn them.
    """

    def __init__(self):
        super().__init__()

    def prepare(self, captioner, inputs, key, captions, *, seed, verbose):
        """Fits the rerankers that locate words."""
        options = {"seed": seed, "verbose": verbose}
        with strategies.one_device(captioner) as one:
            for reranker in one.rerankers:
                if reranker.locates:
                    reranker.fit(one, inputs, key, captions, **options)
        return any(reranker.locates for reranker in captioner.rerankers)


class WarmUp(Stage):
    """Soft attention, before an estimator that draws takes over."""

    def judged(self, estimator):
        """No captioner of the recipe's estimator is at work yet, unless it is soft."""
        return not estimator.stochastic

    def enter(self, captioner, estimator):
        """Uses expected contexts."""
        if estimator.stochastic and not isinstance(captioner.estimator, Soft):
            captioner.use(Soft())


class Train(Stage):
    """The recipe's estimator, with the trunk as it came."""

    def enter(self, captioner, estimator):
        """Uses the estimator."""
        captioner.use(estimator)


class FineTune(Train):
    """The recipe's estimator, and the trunk is trained too, at `encoder_rate`."""

    trains_the_trunk = True

    def enter(self, captioner, estimator):
        """Uses the estimator, and lets the trunk go."""
        super().enter(captioner, estimator)
        if not captioner.encoder.network.trainable:
            captioner.fine_tune()


class FitRerankers(Stage):
    """Rerankers that learn from where the trained captioner looks."""

    def __init__(self):
        super().__init__()

    def finish(self, captioner, inputs, key, captions, *, seed, verbose):
        """Fits those that have not been fitted yet."""
        waiting = [each for each in captioner.rerankers if not each.fitted]
        for reranker in waiting:
            reranker.fit(captioner, inputs, key, captions, seed=seed, verbose=verbose)
        return bool(waiting)


class FitTemperature(Stage):
    """How sure attention is, see `fit_temperature`, of a captioner that takes the best.

    One that looks at a location drawn from alpha, or at all of them, has learned it.
    """

    def __init__(self):
        super().__init__()

    def finish(self, captioner, inputs, key, captions, *, seed, verbose):
        """Scales f_att; what has been scaled already stays as it is."""
        if captioner.options().attention != "argmax":
            return False
        options = {"seed": seed, "verbose": verbose}
        return fit_temperature(captioner, inputs, key, captions, **options) != 1


STAGES = {
    "see": See,
    "warm_up": WarmUp,
    "train": Train,
    "fine_tune": FineTune,
    "fit_rerankers": FitRerankers,
    "fit_temperature": FitTemperature,
}


class Plan:
    """The stages of a recipe, by epoch.

    Args:
        stages: name in `STAGES` -> arguments of its constructor, in their order.

    Raises:
        ValueError: there is no such stage, or it does not take such an argument.
    """

    def __init__(self, stages):
        self.stages = [
            make(f"stages.{name}", STAGES, {**options, "name": name})
            for name, options in stages.items()
        ]
        self.epochs = sum(stage.epochs for stage in self.stages)

    @property
    def trains_the_trunk(self):
        """Whether a stage does."""
        return any(stage.epochs and stage.trains_the_trunk for stage in self.stages)

    def first_judged(self, estimator):
        """The first epoch that may give the captioner that the run keeps."""
        first = 0
        for stage in self.stages:
            if stage.epochs and stage.judged(estimator):
                return first
            first += stage.epochs
        return self.epochs

    def check(self, estimator):
        """Raises `ValueError` if no epoch would give a captioner."""
        if self.first_judged(estimator) == self.epochs:
            told = ", ".join(
                f"{type(stage).__name__} for {stage.epochs}" for stage in self.stages
            )
            raise ValueError(
                "Expected epochs after the soft warm-up, which gives no captioner. "
                f"Received: {told or 'no stages'}. Set stages.train.epochs, or a "
                "larger --epochs, or stages.warm_up.epochs=0."
            )

    def at(self, epoch):
        """The stage that an epoch, counted from 0, belongs to."""
        for stage in self.stages:
            if epoch < stage.epochs:
                return stage
            epoch -= stage.epochs
        raise IndexError(epoch)

    def until(self, epoch):
        """The stages that begin no later than an epoch, in their order."""
        begun, first = [], 0
        for stage in self.stages:
            if stage.epochs and first <= epoch:
                begun.append(stage)
            first += stage.epochs
        return begun
