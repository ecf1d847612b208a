"""Engines are opened by name, and say what they lack."""

import importlib.util
import sys

import pytest

from sat_tf import cli
from sat_tf.engines import running

needs_beam = pytest.mark.skipif(
    not importlib.util.find_spec("apache_beam"), reason="needs apache-beam"
)


@pytest.mark.parametrize(
    "engine, library", [("beam", "apache_beam"), ("spark", "pyspark")]
)
def test_an_engine_that_is_missing_says_how_to_install_it(engine, library, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.delitem(sys.modules, f"sat_tf.engines.{engine}", raising=False)
    with pytest.raises(ImportError, match=rf"pip install 'sat_tf\[{engine}\]'"):
        running.open_engine(engine, [])


@needs_beam
def test_options_that_nobody_knows_are_refused(capsys):
    with pytest.raises(ValueError, match="--runer. Did you mean --runner?"):
        running.open_engine("beam", ["--runer=FlinkRunner"])
    with pytest.raises(SystemExit, match="2"):
        cli.main(["caption", "a.jpg", "--runner=FlinkRunner"])
    assert "unrecognized arguments: --runner=FlinkRunner" in capsys.readouterr().err
