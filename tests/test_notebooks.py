"""The notebooks run from top to bottom, keep no outputs and define nothing."""

import ast
import os
import pathlib
import sys

import nbformat
import pytest
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

import sat_tf

FOLDER = pathlib.Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
CELL_SECONDS = 600  # on a busy machine
FUNCTION_LINES = 10
OWN_CLASSES = {"04_estimators": 2}  # one that is right and one that is not

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)


class ThisPython(AsyncKernelManager):
    """Kernels of the interpreter that runs the tests, whatever is registered."""

    @property
    def kernel_spec(self):
        command = [sys.executable, "-m", "ipykernel_launcher", "-f"]
        return KernelSpec(argv=[*command, "{connection_file}"], language="python")


def cells(path, kind):
    found = nbformat.read(path, as_version=4).cells
    return [cell for cell in found if cell.cell_type == kind]


def tree(path):
    """What the notebook's Python says; lines for IPython and the shell left out."""
    lines = "\n".join(cell.source for cell in cells(path, "code")).splitlines()
    python = [
        line[: len(line) - len(line.lstrip())] + "pass"
        if line.lstrip().startswith(("%", "!"))
        else line
        for line in lines
    ]
    return ast.parse("\n".join(python))


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Where the drawings are kept once they have been made, for all notebooks."""
    return tmp_path_factory.mktemp("tfds")


@pytest.mark.slow
@each_notebook
def test_runs_from_top_to_bottom(path, tmp_path, drawn):
    work = tmp_path / "work"
    work.mkdir()
    inherited = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    environment = {  # the tests' XLA_FLAGS compile sooner, but these train for longer
        **inherited,
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "PYTHONPATH": str(pathlib.Path(sat_tf.__file__).parents[1]),
        "SAT_TF_CACHE": str(tmp_path / "cache"),
        "TFDS_DATA_DIR": str(drawn),
    }
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook,
        timeout=CELL_SECONDS,
        startup_timeout=CELL_SECONDS,
        kernel_manager_class=ThisPython,
        resources={"metadata": {"path": str(tmp_path)}},
    ).execute(env=environment)
    ran = [c.execution_count for c in notebook.cells if c.cell_type == "code"]
    assert ran == list(range(1, len(ran) + 1))


@each_notebook
def test_has_no_outputs_in_git(path):
    for cell in cells(path, "code"):
        assert not cell.outputs and cell.execution_count is None, cell.source
        assert not cell.metadata, cell.source


@each_notebook
def test_opens_with_what_the_reader_will_know(path):
    first = nbformat.read(path, as_version=4).cells[0]
    assert first.cell_type == "markdown"
    assert first.source.startswith("# ") and "At the end you will know" in first.source


@each_notebook
def test_defines_nothing_that_the_package_should_have(path):
    nodes = list(ast.walk(tree(path)))
    classes = [n.name for n in nodes if isinstance(n, ast.ClassDef)]
    assert len(classes) <= OWN_CLASSES.get(path.stem, 0), classes
    for node in nodes:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            assert node.end_lineno - node.lineno < FUNCTION_LINES, node.name


@each_notebook
def test_uses_only_what_is_public(path):
    nodes = list(ast.walk(tree(path)))
    imported = [n for n in nodes if isinstance(n, ast.Import | ast.ImportFrom)]
    names = [alias.name for node in imported for alias in node.names]
    names += [node.attr for node in nodes if isinstance(node, ast.Attribute)]
    assert "sat_tf" in names
    assert not [n for n in names if n.startswith("_") and not n.startswith("__")]


def test_all_five_are_there_and_in_the_readme():
    assert [path.stem[:2] for path in NOTEBOOKS] == ["01", "02", "03", "04", "05"]
    readme = (FOLDER.parent / "README.md").read_text()
    for path in NOTEBOOKS:
        assert f"notebooks/{path.name}" in readme
