"""What starts workers: in deploy/, in the documents, with a stand-in for `sat-tf`."""

import json
import os
import pathlib
import re
import subprocess
import textwrap

import pytest

ROOT = pathlib.Path(__file__).parents[2]
JOB = (ROOT / "deploy" / "train-job.yaml").read_text()
BLOCKS = re.findall(
    r"^```sh\n(.*?)^```", (ROOT / "docs" / "commands.md").read_text(), re.M | re.S
)
SHELLS, SLURM = (next(b for b in BLOCKS if word in b) for word in ("10.0.0.1", "srun"))


@pytest.fixture
def started(tmp_path):
    """Runs a script; what each `sat-tf` that it starts was told."""
    stand_ins = {
        "sat-tf": 'echo "$TF_CONFIG"; echo "$*" >&2',
        "scontrol": "echo n1; echo n2",
        "srun": 'SLURM_PROCID=0 "${@:2}"; SLURM_PROCID=1 "${@:2}"',
    }
    for name, text in stand_ins.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / name).chmod(0o755)

    def run(script, **environment):
        path = f"{tmp_path}:{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-c", script],
            env={**os.environ, "PATH": path, **environment},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert "--strategy multi_worker" in done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    return run


def check(configs, addresses):
    """Whether they are the workers of one cluster."""
    for index, config in enumerate(configs):
        assert config == {
            "cluster": {"worker": addresses},
            "task": {"type": "worker", "index": index},
        }
    assert len(configs) == len(addresses)


def test_two_shells(started):
    check(started(SHELLS), ["10.0.0.1:12345", "10.0.0.2:12345"])


def test_a_kubernetes_job(started):
    script = textwrap.dedent(
        re.search(r"- \|\n(.*?)^      volumes:", JOB, re.M | re.S)[1]
    )
    workers = re.search(r'name: WORKERS\n +value: "(\d)"', JOB)[1]
    assert re.findall(r"(?:completions|parallelism): (\d)", JOB) == [workers] * 2
    configs = [
        config
        for index in "01"
        for config in started(script, WORKERS=workers, JOB_COMPLETION_INDEX=index)
    ]
    addresses = [f"captions-train-{i}.captions-train:12345" for i in range(2)]
    check(configs, addresses)


def test_a_slurm_script(started):
    check(started(SLURM), ["n1:12345", "n2:12345"])
