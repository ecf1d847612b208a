"""SPICE where its parser is, which is nowhere here: a stand-in answers for Java.

It was written beside the real `spice-1.0.jar`, which without its parser comes as far as
parsing the first caption with this command.
"""

import sys

import pytest

from sat_tf.evaluation import captions, spice

# Says that "a dog" is what one of the references says, and leaves its input behind.
JAVA = """#!{python}
import json, sys
at = sys.argv.index("-jar")
jar, given, out, found, *rest = sys.argv[at + 1 :]
assert jar.endswith("spice-1.0.jar") and (out, rest) == ("-out", ["-subset", "-silent"])
images = json.load(open(given, encoding="utf-8"))
open("{folder}/given.json", "w").write(json.dumps(images))
rows = [
    dict(image_id=i["image_id"], scores=dict(All=dict(f=float(i["test"] in i["refs"]))))
    for i in images
]
json.dump(rows, open(found, "w"))
"""


@pytest.fixture
def parser(tmp_path, monkeypatch):
    """A folder with the parser's jars, and what answers for Java."""
    java = tmp_path / "java"
    java.write_text(JAVA.format(python=sys.executable, folder=tmp_path))
    java.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "lib").mkdir()
    for name in spice._PARSER:
        (tmp_path / "lib" / name).touch()
    return tmp_path


def test_is_the_mean_of_the_images(parser):
    references = [["a dog", "ein Hündchen"], ["a cat"]]
    assert spice.spice_score(["a dog", "a <unk>"], references, folder=parser) == 0.5
    given = (parser / "given.json").read_text()
    assert "H\\u00fcndchen" in given and '"test": "a "' in given


def test_is_there_where_java_and_the_parser_are(parser, monkeypatch):
    assert spice.installed(parser)
    monkeypatch.setenv("PATH", "")
    assert not spice.installed(parser)
    assert not spice.installed(), "nobody has put the parser into the package"


@pytest.mark.parametrize("works", [True, False])
def test_is_a_score_beside_the_others_or_says_why_not(parser, monkeypatch, works):
    if not works:
        (parser / "java").write_text("#!/bin/sh\necho Exception: no memory >&2; exit 1")
    monkeypatch.setattr(spice, "installed", lambda: True)
    predictions = captions.to_predictions(["a dog"])
    references = captions.to_references(["a.jpg"], [["a dog"]])
    scores = captions.score(predictions, references)
    assert scores["spice"] == (100 if works else None)
    assert works or "SPICE's Java program failed: Exception" in scores["spice_note"]
