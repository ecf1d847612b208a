"""The house: which part may know which, what every file must or must not have."""

import ast
import importlib
import inspect
import pathlib
import re
import subprocess
import sys

import pytest

import sat_tf
from sat_tf import datasets, decoding, estimators, presets

PACKAGE = pathlib.Path(sat_tf.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

# Parts of the package, each a file or folder. One may import those of the rows above
# its own, be it at the top or inside a function.
ORDER = [
    "vocabulary presets files caches memory losses logs updates diagnostics "
    "image_headers efficientnet_lite hub inputs origins",
    "images attention detector estimators encoder storage meteor word_vectors",
    "recurrence metrics visualisation decoding datasets scheduled_sampling",
    "decoder grounding generation export",
    "captioner",
    "evaluation",
    "distillation",
    "training serving",
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
        assert not list(imported_parts(path)), "sat_tf itself imports when asked"
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
        decoding.DECODERS,
        decoding.LOCATION_RULES,
        datasets.BUILDERS,
    ],
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


def test_every_preset_and_every_field_is_documented():
    source = inspect.getsource(presets)
    for name in presets.PRESETS:
        constant = name.upper().replace("-", "_")
        assert re.search(rf"^# .+\n{constant} = ", source, re.M), (
            f"say above {constant} what the recipe is for"
        )
    for field in presets.Preset.__dataclass_fields__:
        assert re.search(rf"\b{field}\b", presets.Preset.__doc__), field


def test_options_of_an_estimator_are_fields_of_a_preset():
    """Or `--set` could not reach them."""
    for kind in estimators.ESTIMATORS.values():
        if "__init__" in vars(kind):
            options = set(inspect.signature(kind).parameters) - {"kwargs"}
            assert options <= set(presets.Preset.__dataclass_fields__), kind
