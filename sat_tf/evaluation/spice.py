"""SPICE (Anderson et al. 2016) through the Java program that pycocoevalcap ships.

Captions are compared as graphs of things, attributes and relations. The parser,
Stanford CoreNLP 3.6.0, is not in that package: there is a score only where its two jars
lie in `pycocoevalcap/spice/lib`, where `pycocoevalcap.spice.get_stanford_models` puts
them (400 MB). pycocoevalcap's own `Spice` would fetch them unasked, and keeps a cache
inside the installed package.
"""

import json
import pathlib
import shutil
import subprocess
import tempfile

import pycocoevalcap.spice

from sat_tf.vocabulary import SPECIAL, UNK

_FOLDER = pathlib.Path(pycocoevalcap.spice.__file__).parent
_PARSER = ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")
_OPTIONS = ("-Dfile.encoding=UTF-8", "-Xmx8G")


class SpiceError(RuntimeError):
    """The Java program failed."""


def installed(folder=_FOLDER):
    """Whether Java and the parser are there."""
    jars = (folder / "lib" / name for name in _PARSER)
    return shutil.which("java") is not None and all(jar.is_file() for jar in jars)


def spice_score(hypotheses, references, *, folder=_FOLDER):
    """Mean F measure over the images, a fraction of 1.

    Args:
        hypotheses: list of strings. `<unk>` is left out: it names no thing.
        references: a list of non-empty strings for each.
        folder: where `spice-1.0.jar` is.

    Raises:
        SpiceError: with the reason in one line.
    """
    images = [
        {"image_id": i, "test": text.replace(SPECIAL[UNK], ""), "refs": list(group)}
        for i, (text, group) in enumerate(zip(hypotheses, references, strict=True))
    ]
    with tempfile.TemporaryDirectory() as work:
        given, found = (
            pathlib.Path(work, "given.json"),
            pathlib.Path(work, "found.json"),
        )
        given.write_text(json.dumps(images), "utf-8")
        jar = str(folder / "spice-1.0.jar")
        command = ["java", *_OPTIONS, "-jar", jar, str(given), "-out", str(found)]
        done = subprocess.run(
            [*command, "-subset", "-silent"],
            cwd=work,
            capture_output=True,
            text=True,
            encoding="utf-8",
        )
        if done.returncode or not found.is_file():
            said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
            raise SpiceError(
                f"SPICE's Java program failed: {said[0] if said else 'without a word'}"
            )
        each = [
            row["scores"]["All"]["f"] for row in json.loads(found.read_text("utf-8"))
        ]
    return sum(each) / len(each)
