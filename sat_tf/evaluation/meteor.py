"""METEOR 1.5 through the Java program that pycocoevalcap ships.

pycocoevalcap's own `Meteor` class speaks the same protocol, but on any failure
it keeps a lock that its `__del__` then waits for, for ever; it never closes
its pipes, and it hangs when Java stops answering. Hence this small client of
the same jar, with the same options and, checked, the same scores.
"""

import pathlib
import shutil
import subprocess
import tempfile
import threading

import pycocoevalcap.meteor.meteor

from sat_tf.vocabulary import SPECIAL, UNK

_JAR = pathlib.Path(pycocoevalcap.meteor.meteor.__file__).with_name("meteor-1.5.jar")
# Fixed encoding and locale: the jar reads and prints in the machine's otherwise.
_COMMAND = (
    *("-Dfile.encoding=UTF-8", "-Duser.language=en", "-Xmx2G"),
    *("-jar", str(_JAR), "-", "-", "-stdio", "-l", "en", "-norm"),
)


class MeteorError(RuntimeError):
    """The Java program is missing, failed, or gave no answer in time."""


def meteor_score(hypotheses, references, *, timeout=None):
    """METEOR of a corpus, a fraction of 1.

    Args:
        hypotheses: list of strings, words separated by spaces. `<unk>` matches
            no word, no stem, no synonym. An empty one counts as one such word.
        references: a list of non-empty strings for each hypothesis.
        timeout: seconds for the whole corpus, loading (10 s) included; by
            default 300 and 0.2 for each reference.

    Raises:
        MeteorError: with the reason in one line.
    """
    java = shutil.which("java")
    if java is None:
        raise MeteorError("METEOR needs Java, and there is no `java` on the PATH.")
    if timeout is None:
        timeout = 300 + 0.2 * sum(len(group) for group in references)
    nothing = _word_not_in(references)
    hypotheses = [
        _field(text.replace(SPECIAL[UNK], nothing)) or nothing for text in hypotheses
    ]
    lines = [
        " ||| ".join(["SCORE", *map(_field, group), hypothesis])
        for group, hypothesis in zip(references, hypotheses, strict=True)
    ]
    return _ask([java, *_COMMAND], lines, timeout)


def _ask(command, lines, timeout):
    """Starts Java, gives it the SCORE lines, returns the corpus score."""
    expired = threading.Event()
    with tempfile.TemporaryFile("w+") as errors:
        try:
            with subprocess.Popen(
                command,
                cwd=_JAR.parent,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                encoding="utf-8",
            ) as process:
                watchdog = threading.Timer(
                    timeout, lambda: (expired.set(), process.kill())
                )
                watchdog.start()
                try:
                    return _converse(process, lines)
                finally:
                    watchdog.cancel()
                    process.kill()
        except (OSError, ValueError) as error:
            errors.seek(0)
            why = [str(error), *errors.read().split("\n")]
            last = [line.strip() for line in why if line.strip()][-1]
            if expired.is_set():
                last = f"no answer within {timeout:g} s"
            raise MeteorError(f"METEOR's Java program failed: {last}") from error


def _converse(process, lines):
    """One line of statistics for each SCORE line, then EVAL for all of them."""

    def answer(line):
        process.stdin.write(line + "\n")
        process.stdin.flush()
        return process.stdout.readline().strip()

    score = _number(answer(" ||| ".join(["EVAL", *[answer(line) for line in lines]])))
    # This jar answers EVAL by a score for each line, then the corpus's
    # (tylin/coco-caption issue 34: other builds give the corpus's alone).
    for _ in lines:
        score = _number(process.stdout.readline().strip())
    return score


def _number(reply):
    try:
        return float(reply)
    except ValueError as error:
        raise ValueError(f"it answered {reply!r}") from error


def _field(text):
    """A caption that cannot break the line protocol: no `|||`, no line end."""
    return " ".join(text.replace("|", " ").split())


def _word_not_in(references):
    """A word that no reference contains, not even as a stem."""
    word = "qzunkzq"
    while any(word in text for group in references for text in group):
        word += "q"
    return word
