"""The folder of a run: whole at every moment, and of one run alone."""

import errno
import json
import os
import re
import types

import numpy as np
import own_run
import pytest
from own_run import STEPS
from quick_run import HARD, vector_of

from sat_tf import cli
from sat_tf.runtime import files
from sat_tf.training.run import Run


@pytest.mark.parametrize(
    "write", ["save_checkpoint", "save_best", "save_history", "log"]
)
def test_stopped_between_any_two_writes(write, quick, whole, tmp_path, monkeypatch):
    """Of an epoch's end, where there are four: it is judged once, and whole."""
    real, calls = getattr(Run, write), []

    def dies(self, *args):
        calls.append(write)
        # The checkpoint that ends the epoch, not those on the way.
        if len(calls) == (STEPS if write == "save_checkpoint" else 1):
            raise KeyboardInterrupt
        real(self, *args)

    monkeypatch.setattr(Run, write, dies)
    with pytest.raises(KeyboardInterrupt):
        quick.train(tmp_path / "stopped", HARD)
    found, history = quick.train(tmp_path / "stopped", HARD)
    np.testing.assert_array_equal(vector_of(found), whole[0])
    assert history == whole[1]
    written = json.loads((tmp_path / "stopped" / "history.json").read_text())
    assert written == history


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
@pytest.mark.parametrize("file", ["checkpoint.npz", "model/weights.npz"])
def test_a_full_disk_leaves_the_last_checkpoint(
    file, quick, whole, tmp_path, monkeypatch
):
    """A real one: what the end of the first epoch writes goes to /dev/full."""
    save = Run.save_checkpoint

    def fills(self, captioner, progress):
        save(self, captioner, progress)
        if progress.step == STEPS - 1:
            beside = self.folder / file
            beside.parent.mkdir(exist_ok=True)
            beside = beside.with_name(f".{beside.name}.4711.tmp")
            beside.symlink_to("/dev/full")

    monkeypatch.setattr(Run, "save_checkpoint", fills)
    named = types.SimpleNamespace(hex="4711")
    monkeypatch.setattr(files, "uuid", types.SimpleNamespace(uuid4=lambda: named))
    with pytest.raises(OSError, match="Expected room in the folder") as error:
        quick.train(tmp_path / "full", HARD)
    assert error.value.errno == errno.ENOSPC
    assert error.value.filename == str(tmp_path / "full")
    assert "No space left on device" in str(error.value)
    with np.load(tmp_path / "full" / "checkpoint.npz") as arrays:
        assert json.loads(str(arrays["progress"]))["step"] == STEPS - 1
    assert not list((tmp_path / "full").rglob(".*.tmp"))

    monkeypatch.setattr(Run, "save_checkpoint", save)
    found, _ = quick.train(tmp_path / "full", HARD)
    np.testing.assert_array_equal(vector_of(found), whole[0])


def test_a_folder_that_cannot_be_written(quick, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OSError, match="the right to write.*Make room"):
        quick.train(tmp_path / "file" / "run")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "tensorboard").write_text("not a folder")
    with pytest.raises(OSError, match="the right to write.*Make room"):
        quick.train(tmp_path / "run", HARD)


def test_leftovers_of_a_killed_process_are_removed(quick, tmp_path):
    tmp_path.joinpath(".checkpoint.npz.4711.tmp").write_text("half")
    quick.train(tmp_path)
    assert not list(tmp_path.glob(".*.tmp"))


def test_another_recipe_is_refused(quick, tmp_path):
    quick.train(tmp_path)
    said = r"differs in model\.dropout \(.* now\), estimator\.samples.*another --out"
    before = (tmp_path / "checkpoint.npz").read_bytes()
    with pytest.raises(ValueError, match=r"differs in data.batch_size"):
        quick.train(tmp_path, {"data.batch_size": 9})
    with pytest.raises(ValueError, match=said):
        quick.train(tmp_path, {"estimator.samples": 3, "model.dropout": 0.5})
    assert (tmp_path / "checkpoint.npz").read_bytes() == before


@pytest.mark.parametrize("name", ["preset.json", "origins.json", "checkpoint.npz"])
@pytest.mark.parametrize("size", [0, 60])
def test_a_damaged_file_is_named(name, size, quick, tmp_path):
    quick.train(tmp_path, HARD)
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[:size])
    said = f"Expected {name} as a run writes it. Received: {path}, damaged"
    with pytest.raises(ValueError, match=re.escape(said)):
        quick.train(tmp_path, HARD)


def test_a_file_is_no_folder_for_a_run(tmp_path, capsys):
    (tmp_path / "run").write_text("mine")
    given = own_run.train_arguments(str(tmp_path / "run"))
    assert cli.main(given) == 2
    assert "which is a file. Choose another --out." in capsys.readouterr().err
    assert (tmp_path / "run").read_text() == "mine"


def test_data_may_move_and_be_called_otherwise(whole, tmp_path):
    """What they are is compared, and not where."""
    run = Run(tmp_path)
    settings = {"dataset": "own", "seed": 17}
    run.open(settings)
    (tmp_path / "checkpoint.npz").write_bytes(b"")
    (tmp_path / "origins.json").write_text("{}")
    run.open({**settings, "dataset": "/elsewhere/own/"})
    with pytest.raises(ValueError, match=r"differs in seed \(17 then, 18 now\)"):
        run.open({**settings, "seed": 18})
    (tmp_path / "origins.json").unlink()
    with pytest.raises(ValueError, match="differs in dataset"):
        run.open(settings)


def test_a_checkpoint_of_another_layout_is_refused(quick, tmp_path):
    quick.train(tmp_path)
    path = tmp_path / "checkpoint.npz"
    with np.load(path) as arrays:
        kept = dict(arrays)
    del kept["00003"]
    np.savez(path, **kept)
    with pytest.raises(ValueError, match="whose checkpoint another version"):
        quick.train(tmp_path)


def test_a_second_run_in_one_folder_is_refused_and_names_the_first(
    quick, tmp_path, capsys
):
    """Before it writes a thing; a killed first is no hindrance."""
    command = own_run.train_arguments(tmp_path)
    code = (
        "import pathlib, sys, time; from sat_tf.runtime.files import alone\n"
        "with alone(sys.argv[1]): print('held', flush=True); time.sleep(600)"
    )
    first = own_run.sat_tf_process(tmp_path, code=code)
    try:
        assert first.stdout.readline() == "held\n"
        assert cli.main(command) == 2
        errors = capsys.readouterr().err
        assert f"in use by process {first.pid} on" in errors
        assert str(tmp_path) in errors and "another --out" in errors
        assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    finally:
        first.kill()
        first.communicate()
    assert cli.main(command) == 0
    assert cli.main(command) == 0  # the lock's file is still there


def test_a_file_system_without_locks_is_said_and_no_hindrance(
    quick, tmp_path, capsys, monkeypatch
):
    def flock(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("sat_tf.runtime.files.fcntl.flock", flock)
    quick.train(tmp_path)
    assert "cannot be locked (No locks available)" in capsys.readouterr().err
