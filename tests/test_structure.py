"""The house: which part may know which, what every file must or must not have."""

import ast
import importlib
import inspect
import pathlib
import re
import subprocess
import sys
import textwrap

import keras
import pytest

import sat_tf
from sat_tf import datasets, decoding, estimators, recipes, reranking
from sat_tf.captioner import ShowAttendTell
from sat_tf.decoding import decode
from sat_tf.model import initial_state
from sat_tf.recipes import base
from sat_tf.runtime import stand_ins
from sat_tf.training import stages, train

PACKAGE = pathlib.Path(sat_tf.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

# The layers, each a folder, or a file beside the folders. One may import those of the
# rows above its own, be it at the top or inside a function.
ORDER = [
    "runtime",
    "vocabulary images estimators engines",
    "recipes trunks",
    "datasets model",
    "decoding",
    "reranking",
    "presets training_step",
    "evaluation export",
    "captioner",
    "training serving archive",
    "demo bench",
    "cli",
]
ROW = {part: row for row, parts in enumerate(ORDER) for part in parts.split()}


def part_of(path):
    """`decoding` of sat_tf/decoding/loop.py, `` of sat_tf/__init__.py."""
    first = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return "" if first == "__init__" else first


def imported_parts(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (n.split(".")[1] for n in names if n.split(".")[0] == "sat_tf")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_dependencies_point_one_way(path):
    part = part_of(path)
    if not part:
        assert set(imported_parts(path)) <= {"runtime"}, "sat_tf imports when asked"
        return
    assert part in ROW, f"say in ORDER where {part} stands"
    for other in imported_parts(path):
        assert other == part or ROW[other] < ROW[part], f"{part} imports {other}"


def test_order_names_what_exists():
    assert set(ROW) == {part_of(path) for path in FILES} - {""}


def test_no_assert_in_the_package():
    """`python -O` would drop it, and its message helps nobody."""
    for path in FILES:
        nodes = ast.walk(ast.parse(path.read_text()))
        assert not [n.lineno for n in nodes if isinstance(n, ast.Assert)], path


def test_importing_the_package_is_quick():
    """Every name is there, and TensorFlow is not loaded for it."""
    code = (
        "import sys, sat_tf; "
        "print(*(sys.modules.keys() & {'tensorflow', 'keras', 'numpy'}), dir(sat_tf))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PACKAGE.parent, capture_output=True, text=True
    )
    assert done.stdout.startswith("[") and done.returncode == 0, done


def test_public_names_are_there():
    assert sat_tf.__all__ == sorted(sat_tf.__all__)
    for name in sat_tf.__all__:
        assert getattr(sat_tf, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'unicorn'"):
        sat_tf.unicorn  # noqa: B018


@pytest.mark.parametrize(
    "registry",
    [
        estimators.ESTIMATORS,
        reranking.RERANKERS,
        stages.STAGES,
        initial_state.INITIAL_STATES,
        decoding.DECODERS,
        decoding.LOCATION_RULES,
        datasets.BUILDERS,
    ],
    ids=lambda registry: next(iter(registry)),
)
def test_every_entry_is_documented(registry):
    for name, entry in registry.items():
        own = entry.__doc__
        if inspect.isclass(entry):
            inherited = [base.__doc__ for base in entry.__mro__[1:]]
            assert own not in inherited, f"{name} has no docstring of its own"
        assert own and len(own.split()) > 3, name
        module = importlib.import_module(entry.__module__)
        assert module.__doc__, module


def test_every_recipe_says_how_and_how_well():
    for name in recipes.RECIPES:
        told = importlib.import_module(f"sat_tf.recipes.{name}").__doc__
        assert f"--preset {name}" in " ".join(told.split()), name
    for section in base.SECTIONS.values():
        for field in section.__dataclass_fields__:
            assert re.search(rf"\b{field}\b", section.__doc__), field


def test_registered_classes_have_stand_ins():
    """Or `import sat_tf` and `load_model` would not find them."""
    modules = {
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        for path in FILES
        if "register_keras_serializable" in path.read_text()
    }
    for module in modules - {"sat_tf.runtime.stand_ins"}:
        importlib.import_module(module)
    names = keras.saving.get_custom_objects()
    there = {
        kind.__name__: kind.__module__
        for name, kind in names.items()
        if name.startswith("sat_tf>") and kind.__module__.startswith("sat_tf")
    }
    assert there == stand_ins.registered()


def functions():
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                yield path, node


def test_functions_fit_on_a_screen():
    """But for those that only add arguments to a parser."""
    long = {
        f"{path.relative_to(PACKAGE)}: {node.name}": node.end_lineno - node.lineno + 1
        for path, node in functions()
        if node.name != "add_arguments"
    }
    assert {name: lines for name, lines in long.items() if lines > 60} == {}


def test_files_are_short():
    lines = {
        str(f.relative_to(PACKAGE)): len(f.read_text().splitlines()) for f in FILES
    }
    # The task is the one file where everything comes together.
    assert {n: x for n, x in lines.items() if x > 350 and n != "captioner.py"} == {}


def test_the_captioner_is_small():
    arguments = inspect.signature(ShowAttendTell.__init__).parameters
    assert len(set(arguments) - {"self", "kwargs"}) <= 12
    public = [n for n in vars(ShowAttendTell) if not n.startswith("_")]
    methods = [n for n in public if callable(getattr(ShowAttendTell, n))]
    assert len(methods) <= 20, methods


@pytest.mark.parametrize(
    "main_path",
    [train, decode, ShowAttendTell.__init__],
    ids=["train", "decode", "ctor"],
)
def test_the_main_path_names_no_extra(main_path):
    source = inspect.getsource(inspect.unwrap(main_path))
    code = ast.unparse(ast.parse(textwrap.dedent(source)))
    words = set(re.findall(r"\w+", re.sub(r'""".*?"""|\'.*?\'', "", code, flags=re.S)))
    extras = {*reranking.RERANKERS, *stages.STAGES} - {"train"}
    kinds = [*reranking.RERANKERS.values(), *stages.STAGES.values()]
    kinds += initial_state.INITIAL_STATES.values()
    assert not words & (extras | {kind.__name__ for kind in kinds})


def test_help_needs_no_tensorflow():
    code = (
        "import sys; from sat_tf import cli\n"
        "try: cli.main(['--help'])\n"
        "except SystemExit: print(*(sys.modules.keys() & {'tensorflow', 'keras'}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PACKAGE.parent, capture_output=True, text=True
    )
    assert done.stdout.splitlines()[-1] == "" and done.returncode == 0, done
