"""The documents: links lead somewhere, commands run, tables say what was scored."""

import ast
import functools
import importlib
import importlib.util
import inspect
import os
import pathlib
import re
import shlex
import shutil
import types

import keras
import numpy as np
import objectives
import own_run
import pytest
from small_captioner import small_captioner

import sat_tf
from sat_tf import serving
from sat_tf.cli import arguments, program
from sat_tf.decoding import DecodingOptions
from sat_tf.presets import storage
from sat_tf.recipes import RECIPES
from sat_tf.reranking import RERANKERS

ROOT = pathlib.Path(__file__).parents[2]
PLACES = ("*.md", "docs/**/*.md", "deploy/*.md", "saved_models/*.md")
CARDS = sorted(ROOT.glob("sat_tf/presets/*/README.md"))
DOCUMENTS = [*(p for place in PLACES for p in sorted(ROOT.glob(place))), *CARDS]
NAMES = [str(path.relative_to(ROOT)) for path in DOCUMENTS]
FENCED = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.M | re.S)
SPAN = re.compile(r"`([^`]+)`")


def text_of(name):
    return (ROOT / name).read_text("utf-8")


def prose(name):
    """A document without its blocks of code."""
    text = FENCED.sub("", text_of(name))
    return re.sub(r"(?<=\n\n) {4,}\S.*(\n+ {4,}.*)*", drop_code, text)


def drop_code(block):
    """Nothing, but for text that is indented because it stands in a list."""
    listed = block[0].lstrip().startswith(("|", "-", "*"))
    return block[0] if listed else ""


def spans(name):
    """What stands in backquotes in a document's prose."""
    found = SPAN.findall(prose(name))
    return [" ".join(span.replace("\\|", "|").split()) for span in found]


# ---------------------------------------------------------------- length and tables


def test_readme_has_two_screens():
    assert len(text_of("README.md").splitlines()) <= 150


def tables():
    """docs/tables.py, which belongs to no package."""
    spec = importlib.util.spec_from_file_location("tables", ROOT / "docs/tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", [n for n in NAMES if "results/" in n])
def test_tables_say_what_their_score_files_say(name):
    text = text_of(name)
    assert "<!-- table: " in text
    assert tables().render(text) == text, "run `python docs/tables.py`"


def test_every_table_of_scores_is_in_a_document():
    rendered = re.findall(r"<!-- table: ([\w.]+) -->", " ".join(map(text_of, NAMES)))
    assert sorted(rendered) == sorted(tables().TABLES)


# -------------------------------------------------------------------------- links


@functools.cache
def anchors(path):
    """The anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", path.read_text("utf-8")), re.M)
    plain = (re.sub(r"[^\w\- ]", "", heading).strip().lower() for heading in headings)
    return {heading.replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name):
    for target in re.findall(r"\]\(([^)\s]+)\)", SPAN.sub("", prose(name))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (ROOT / name).parent / path if path else ROOT / name
        assert there.is_file(), target
        assert not anchor or anchor in anchors(there.resolve()), target


PATH = re.compile(r"(tests|sat_tf|docs|benchmarks|notebooks|deploy|\.ci)/[\w./]*")
# Files that were, or that are made by somebody.
GONE = ("benchmarks/random_places.py",)


@pytest.mark.parametrize("name", NAMES)
def test_paths_in_the_prose_exist(name):
    for span in spans(name):
        if PATH.fullmatch(span) and span not in GONE:
            assert (ROOT / span).exists(), span


# ---------------------------------------------------------------------- the paper


def equations(text):
    """The numbers in `eq. 1-3, 7` and the like, and the sections in `(3.1.2)`."""
    numbers = set()
    for listed in re.findall(r"\beq\. ?(\d+(?:(?:-|, | and )\d+)*)", text):
        for part in re.split(r", | and ", listed):
            first, _, last = part.partition("-")
            numbers |= set(range(int(first), int(last or first) + 1))
    return numbers | set(re.findall(r"\b[34]\.\d(?:\.\d)?(?=\))", text))


def test_every_equation_of_the_code_is_in_the_documents():
    told = equations(text_of("docs/paper.md"))
    for path in (ROOT / "sat_tf").rglob("*.py"):
        missing = equations(path.read_text("utf-8")) - told
        assert not missing, f"{path}: {missing}"


def test_the_paper_names_code_that_exists():
    rows = re.findall(r"^\| .*? \| (`.*?) \|", text_of("docs/paper.md"), re.M)
    named = [n for row in rows[:13] for n in re.findall(r"`([a-z_]+\.[\w.]+)`", row)]
    assert len(named) > 9
    for name in named:
        there = sat_tf
        for part in name.split("."):
            if isinstance(there, types.ModuleType) and not hasattr(there, part):
                importlib.import_module(f"{there.__name__}.{part}")
            there = getattr(there, part)


# ------------------------------------------------------------------------ commands


def lines(text):
    """The commands in a piece of shell: lists of words."""
    for line in text.replace("\\\n", " ").splitlines():
        line = re.sub(r"^(\w+=\S+ )+", "", line.strip())
        for part in re.split(r" && ", line):
            if part.startswith(("sat-tf ", "python ", "pytest ")):
                yield tuple(shlex.split(part, comments=True))


def commands():
    """Every command line of the documents, and of what recipes say of themselves."""
    found = {}
    for name in NAMES:
        blocks = [m[3] for m in FENCED.finditer(text_of(name)) if m[2] != "python"]
        plain = FENCED.sub("", text_of(name))
        indented = re.findall(r"^ {4,}\S.*(?:\\\n.*)*", plain, re.M)
        for text in [*blocks, "\n".join(indented), *spans(name)]:
            found |= {words: name for words in lines(text)}
    for name in RECIPES:
        told = importlib.import_module(f"sat_tf.recipes.{name}").__doc__
        found |= {words: f"recipes/{name}.py" for words in lines(told)}
    return found


COMMANDS = commands()
PROGRAMS = [words for words in COMMANDS if words[0] == "sat-tf"]
SCRIPTS = [words for words in COMMANDS if words[0] == "python" and words[1] != "-m"]


def placeholder(word):
    """`RUN`, `NAME|PATH`: something for the reader to fill in."""
    return re.fullmatch(r"[A-Z][A-Z0-9_|,.]*(json)?", word) is not None


@pytest.mark.parametrize("words", PROGRAMS, ids=" ".join)
def test_commands_parse(words):
    _, command, *rest = words
    if not rest and command not in ("demo", "caches"):  # named, not shown
        assert command in program.COMMANDS
        return
    args = program.parse([command, *rest])
    if not placeholder(getattr(args, "preset", "NONE")) and args.preset != "lite":
        recipe_of(args)


def recipe_of(args):
    """What `train` and `bench-estimators` make of their arguments."""
    estimator = getattr(args, "estimator", None)
    changes = {"estimator": estimator} if estimator else {}
    return arguments.recipe_of(args, **changes)


@pytest.mark.parametrize("command", program.COMMANDS)
def test_every_command_answers_help(command, capsys):
    with pytest.raises(SystemExit, match="0"):
        program.main([command, "--help"])
    assert f"usage: sat-tf {command}" in capsys.readouterr().out
    assert f"sat-tf {command}" in text_of("README.md")
    assert f"sat-tf {command}" in text_of("docs/commands.md")


def options_of(script):
    """The options of a script, read from its source."""
    nodes = ast.walk(ast.parse((ROOT / script).read_text("utf-8")))
    calls = [(getattr(n.func, "attr", ""), n) for n in nodes if isinstance(n, ast.Call)]
    own = {call.args[0].value for name, call in calls if name == "add_argument"}
    shared = "add_rerankers" in (name for name, _ in calls)
    return own | {f"--{name}" for name in RERANKERS if shared}


@pytest.mark.parametrize("words", SCRIPTS, ids=" ".join)
def test_scripts_exist_and_take_these_options(words):
    _, script, *rest = words
    assert (ROOT / script).is_file()
    given = {word for word in rest if word.startswith("--")}
    assert given <= options_of(script)


@pytest.mark.parametrize(
    "words", [w for w in COMMANDS if "pytest" in w[:3]], ids=" ".join
)
def test_tests_that_are_named_exist(words):
    for word in words:
        if word.startswith("tests/"):
            assert (ROOT / word).exists(), word


@functools.cache
def known_options():
    """Of all commands, of all benchmarks, and of what is not ours."""
    commands = program._parser()._subparsers._group_actions[0].choices.values()
    ours = {o for command in commands for o in command._option_string_actions}
    scripts = ROOT.glob("benchmarks/*.py")
    return ours.union(*(options_of(path.relative_to(ROOT)) for path in scripts))


# Documents whose options are TensorFlow Serving's, Docker's, or of the past.
OTHERS = ("deploy/README.md", "CHANGELOG.md")


@pytest.mark.parametrize("name", [n for n in NAMES if n not in OTHERS])
def test_options_in_the_prose_exist(name):
    for span in spans(name):
        for option in re.findall(r"(?<!\S)--[a-z][a-z0-9-]*", span):
            if not span.startswith(("tfds", "mkdocs", "hf ", "--NAME")):
                assert option in known_options(), span


SECTION = r"(model|estimator|stages|objective|optimizer|data|decoding)\.[\w.]+=\S+"


def is_of_a_recipe(span):
    """`--set ...`, or `section.name=value`, but no outline of one."""
    return re.match(rf"--set {SECTION}|{SECTION}$|--estimator [a-z]", span)


@pytest.mark.parametrize("name", NAMES)
def test_parts_of_recipes_in_the_prose_exist(name):
    for span in filter(is_of_a_recipe, spans(name)):
        words = shlex.split(span if span.startswith("--") else f"--set {span}")
        words = ["vgg19" if placeholder(w) else w for w in words if w != "..."]
        words = [w.replace("=NAME", "=vgg19") for w in words]
        assert any(takes(recipe, words) for recipe in RECIPES), span


def takes(recipe, words):
    """Whether `sat-tf train --preset RECIPE` takes these options."""
    needed = ["train", "--data", "own", "--out", "run", "--preset", recipe]
    try:
        recipe_of(program._parser().parse_args([*needed, *words]))
    except ValueError:
        return False
    return True


# What a test runs as written, but on a tiny folder, captioner or picture.
PICTURE = "own/images/test0.png"
RUN = {
    "sat-tf check-data --data photos/": ["check-data", "--data", "own"],
    "sat-tf train --data photos/ --preset flickr --out run": own_run.train_arguments(
        "run"
    ),
    "sat-tf evaluate run --data photos/ --out scores": (
        ["evaluate", "run", "--data", "own", "--out", "scores"]
    ),
    "sat-tf caption beach.jpg --model run --figure look.png": (
        ["caption", PICTURE, "--model", "run", "--figure", "look.png"]
    ),
    "sat-tf explain beach.jpg --caption a dog on the sand --model run "
    "--figure found.png": (
        ["explain", PICTURE, "--caption", "a dog on the sand", "--model", "run"]
        + ["--figure", "found.png"]
    ),
    "sat-tf export run --out saved_models/beach": (
        ["export", "run", "--out", "saved_models/beach"]
    ),
    "sat-tf caption photo.jpg --figure look.png": (
        ["caption", PICTURE, "--figure", "look.png"]
    ),
    "sat-tf explain photo.jpg --caption a dog on the sand": (
        ["explain", PICTURE, "--caption", "a dog on the sand"]
    ),
    "sat-tf caches": ["caches"],
}
# What no test runs from here, and why.
NEEDS = {
    r"--data flickr8k|taught": "Flickr8k, and minutes",
    r"demo$": "minutes; `.ci/run` begins it",
    r"bench-estimators": "an hour; tests/bench runs a small one",
    r"export runs/scenes|--data scenes": "minutes of training",
    r"export flickr8k_hard": "a minute; tests/export has smaller ones",
    r"--data photos/ --preset lite": "a recipe that the reader is to write",
    r"^sat-tf serve": "it serves until it is stopped; tests/serving starts it",
    r"hf://": "the network; tests/presets/test_hub.py has a stand-in",
    r" --remove NAME": "tests/cli removes caches of its own",
    r"docs/images/dog.jpg": "it draws the README's picture anew",
    r"--strategy mirrored": "two devices; tests/test_replicas.py has them",
    r"^sat-tf cache-features": "machines that share a folder; tests/training has some",
    r"^sat-tf caption-archive": "an archive or a cluster; tests/archive has small ones",
    r"caption (a.jpg b.jpg|photos/|list.txt)$": "files; tests/cli has such",
    r"--strategy multi_worker": "two processes; tests/training starts them",
}


def shown(words):
    """Whether a command stands there to be run, not only named or outlined."""
    outlined = any(placeholder(w) and w not in ("DIR", "NAME") for w in words)
    return not outlined and (len(words) > 2 or words[1] in ("demo", "caches"))


@pytest.mark.parametrize("words", [*filter(shown, PROGRAMS)], ids=" ".join)
def test_commands_are_run_or_said_to_need_something(words):
    line = " ".join(words)
    outline = "IMAGE..." in line or "NAME|PATH" in line or "RUN|PRESET" in line
    needs = [why for what, why in NEEDS.items() if re.search(what, line)]
    assert line in RUN or outline or needs, "add it to RUN or to NEEDS"


@pytest.mark.slow
def test_the_commands_run(tmp_path, monkeypatch, capsys):
    shutil.copytree(own_run.workplace() / "own", tmp_path / "own")
    monkeypatch.chdir(tmp_path)  # others have a folder `run` in the workplace
    for name in ("PATH", "SAT_TF_CACHE", "TFDS_DATA_DIR"):
        monkeypatch.setenv(name, own_run.environment()[name])
    told = {" ".join(words) for words in COMMANDS}
    for line, given in RUN.items():
        assert line in told, line
        assert program.main(list(given)) == 0, (line, capsys.readouterr().err)
    assert os.path.getsize("look.png") > 10_000
    assert os.path.getsize("found.png") > 10_000
    assert pathlib.Path("scores", "predictions.json").is_file()
    assert pathlib.Path("saved_models/beach/1/saved_model.pb").is_file()


# ------------------------------------------------------------------- Python blocks


BLOCKS = [
    pytest.param(match[3], id=f"{name}-{i}")
    for name in NAMES
    for i, match in enumerate(FENCED.finditer(text_of(name)))
    if match[2] == "python"
]


@functools.cache
def known():
    """What the names in the blocks stand for."""
    captioner = small_captioner()
    images = np.zeros([1, 64, 64, 3], np.float32)
    captions = captioner.generate(images)
    return {
        "captioner": captioner,
        "captions": captions,
        "caption": captions[0],
        "answer": serving.Caption("", 0.0, [], [], [], []),
    }


# What a function takes by `**` and hands on.
HANDED_ON = {
    *inspect.signature(keras.Model.compile).parameters,
    *inspect.signature(keras.Model.fit).parameters,
    *inspect.signature(storage.save).parameters,
    *DecodingOptions.__dataclass_fields__,
}


def is_ours(value):
    home = value.__name__ if inspect.ismodule(value) else type(value).__module__
    return f"{home} {getattr(value, '__module__', '')}".find("sat_tf") >= 0


class Names(ast.NodeVisitor):
    """Follows names, attributes and keyword arguments as far as they are ours."""

    def __init__(self):
        self.names = dict(known())

    def visit_Import(self, node):
        for alias in node.names:
            importlib.import_module(alias.name)
            top = alias.name.partition(".")[0]
            module = alias.name if alias.asname else top
            self.names[alias.asname or top] = importlib.import_module(module)

    def visit_ImportFrom(self, node):
        module = importlib.import_module(node.module)
        for alias in node.names:
            self.names[alias.asname or alias.name] = getattr(module, alias.name)

    def visit_Assign(self, node):
        """A name that is given something of others is no longer what we know."""
        self.visit(node.value)
        from_what = [n.id for n in ast.walk(node.value) if isinstance(n, ast.Name)]
        if not any(is_ours(self.names.get(name)) for name in from_what):
            for target in node.targets:
                self.names.pop(getattr(target, "id", None), None)

    def visit_Attribute(self, node):
        self.value_of(node)
        self.generic_visit(node)

    def visit_Call(self, node):
        called = self.value_of(node.func)
        if (getattr(called, "__module__", "") or "").startswith("sat_tf"):
            taken = set(inspect.signature(called).parameters)
            if "kwargs" in taken or "options" in taken:
                taken |= HANDED_ON
            assert {word.arg for word in node.keywords} <= taken, ast.unparse(node)
        self.generic_visit(node)

    def value_of(self, node):
        """What an expression stands for, or None where that is not known."""
        if isinstance(node, ast.Name):
            return self.names.get(node.id)
        if isinstance(node, ast.Attribute):
            value = self.value_of(node.value)
            return None if value is None else getattr(value, node.attr)
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            value = self.value_of(node.value)
            return None if value is None else value[node.slice.value]
        return None


@pytest.mark.parametrize("block", BLOCKS)
def test_python_blocks_name_what_exists(block):
    Names().visit(ast.parse(block))


def example(title):
    """The Python block below a heading of CONTRIBUTING.md, executed."""
    section = text_of("CONTRIBUTING.md").partition(f"### {title}\n")[2]
    names = {"__name__": "contributing"}
    exec(compile(FENCED.search(section)[3], title, "exec"), names)
    return names


def test_the_estimator_that_contributors_are_shown():
    objectives.check_conformance(example("An estimator")["ScoreFunction"]())


def test_the_recipe_that_contributors_are_shown():
    recipe = example("A recipe")["RECIPE"]
    assert recipe.model.trunk == "efficientnet_lite0_hypercolumns"
