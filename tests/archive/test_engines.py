"""The whole command on real engines; workers and commands are killed in mid-job."""

import contextlib
import errno
import importlib.util
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import archived
import own_run
import pytest

pytestmark = pytest.mark.slow
SLOW = "05.jpg"  # in the second of three parts
BEAM = ["--engine", "beam"]
# Two workers, each a process of its own with a Python process of its own.
SPARK = ["--engine", "spark", "--master", "local-cluster[2,1,1024]"]


@pytest.fixture
def place(tmp_path):
    """A folder with an archive, of which one image is a pipe; and its captioner."""
    archived.write_images(tmp_path / "photos")
    slow = tmp_path / "photos" / SLOW
    slow.rename(tmp_path / "slow")
    os.mkfifo(slow)
    return tmp_path, archived.save(tmp_path / "small")


def start(folder, engine):
    """`sat-tf caption-archive` in a process and a group of its own."""
    words = ["photos/*", "--model", "small", "--out", "out/c", "--part-size", "4"]
    return subprocess.Popen(
        [sys.executable, "-m", "sat_tf.cli", "caption-archive", *words]
        + ["--batch-size", "2", "--json", *engine],
        cwd=folder,
        env={**own_run.environment(), "PATH": os.environ["PATH"]},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@contextlib.contextmanager
def started(folder, engine):
    """The same, with all of its group killed in the end."""
    process = start(folder, engine)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def wait_for_reader(path, process):
    """Returns when somebody waits for what comes out of the pipe: it is mid-job.

    A descriptor that keeps the reader waiting, as long as it is open.
    """
    until = time.monotonic() + own_run.TIMEOUT
    while time.monotonic() < until and process.poll() is None:
        try:
            return os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            assert error.errno == errno.ENXIO  # nobody reads yet
            time.sleep(0.1)
    raise AssertionError(process.communicate())


def mend(folder):
    """An image takes the place of the pipe; those who read the pipe go on waiting."""
    os.replace(folder / "slow", folder / "photos" / SLOW)


def finish(process):
    """The summary that the command prints, with its exit status."""
    output, errors = process.communicate(timeout=own_run.TIMEOUT)
    assert output, errors
    return process.returncode, json.loads(output)


def written(folder):
    """When each file of the output was written."""
    found = (folder / "out").iterdir()
    return {p.name: p.stat().st_mtime_ns for p in found if p.name != ".c.lock"}


def assert_all_is_there(folder, captioner):
    """Every image once: in the captions, as the captioner says it, or in the bad."""
    names = sorted(f"photos/{p.name}" for p in (folder / "photos").iterdir())
    good = archived.said(folder / "out/c")
    assert good == archived.expected(captioner, names, folder)
    bad = [row["image"] for row in archived.rows(folder / "out/c-bad-*.jsonl")]
    assert sorted([*good, *bad]) == names and len(bad) == len(archived.BAD)
    parts = [f"c-{number:05}-of-00003.jsonl" for number in range(3)]
    dead = [f"c-bad-{number:05}-of-00003.jsonl" for number in range(2)]
    assert sorted(written(folder)) == [*parts, *dead, "c-plan.json"]


@pytest.mark.skipif(
    not importlib.util.find_spec("apache_beam"), reason="needs apache-beam"
)
def test_beam_goes_on_after_a_kill(place):
    folder, captioner = place
    with started(folder, BEAM) as killed:
        waiting = wait_for_reader(folder / "photos" / SLOW, killed)
        with started(folder, BEAM) as second:
            _, errors = second.communicate(timeout=own_run.TIMEOUT)
            assert second.returncode == 2 and "out/c', in use by process" in errors
        os.killpg(killed.pid, signal.SIGKILL)
        os.close(waiting)
    before = written(folder)
    assert "c-00000-of-00003.jsonl" in before and "c-00001-of-00003.jsonl" not in before
    mend(folder)
    with started(folder, BEAM) as again:
        done = (1, {"parts": 3, "captions": 7, "bad": 2})
        assert finish(again) == done
    assert_all_is_there(folder, captioner)
    after = written(folder)
    assert after["c-00000-of-00003.jsonl"] == before["c-00000-of-00003.jsonl"]
    with started(folder, BEAM) as repeated:
        assert finish(repeated) == done and written(folder) == after


def parent_of(pid):
    """The process that started a process."""
    stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    return int(stat.rpartition(")")[2].split()[1])


def reader_of(path):
    """The process that has a file open for reading, other than this one.

    A pipe counts its reader before that one's call of `open` returns, so it may take a
    moment until the process has it.
    """
    until = time.monotonic() + own_run.TIMEOUT
    while time.monotonic() < until:
        for link in pathlib.Path("/proc").glob("[0-9]*/fd/*"):
            with contextlib.suppress(OSError):
                pid = int(link.parts[2])
                if pid != os.getpid() and os.readlink(link) == str(path):
                    return pid
        time.sleep(0.1)
    raise AssertionError(f"nobody reads {path}")


def executor_of(pid):
    """Spark's process on a worker's machine that a Python process belongs to."""
    while pid > 1:
        command = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
        if b"CoarseGrainedExecutorBackend" in command:
            return pid
        pid = parent_of(pid)
    raise AssertionError("no executor")


@pytest.mark.skipif(
    not (importlib.util.find_spec("pyspark") and shutil.which("java")),
    reason="needs pyspark and Java",
)
def test_spark_goes_on_without_a_worker(place):
    folder, captioner = place
    with started(folder, SPARK) as process:
        waiting = wait_for_reader(folder / "photos" / SLOW, process)
        reader = reader_of(folder / "photos" / SLOW)
        mend(folder)
        os.kill(executor_of(reader), signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            os.kill(reader, signal.SIGKILL)
        os.close(waiting)
        assert finish(process) == (1, {"parts": 3, "captions": 7, "bad": 2})
    assert_all_is_there(folder, captioner)
