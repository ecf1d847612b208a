"""`sat-tf caption` of many files, some of them bad, as a script or a shell meets it."""

import codecs
import contextlib
import io
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import termios

import numpy as np
import own_run
import PIL.Image
import pytest
import tensorflow as tf
from small_captioner import small_captioner

from sat_tf import cli
from sat_tf.cli import caption, paths
from sat_tf.runtime.tracing import FEW

pytestmark = pytest.mark.slow
IMAGES = 12
# A shell that starts the tests in the background has them ignore interrupts.
INTERRUPTIBLE = """
import signal, sys
from sat_tf import cli
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.exit(cli.main())
"""


@pytest.fixture(scope="module")
def photos():
    """Names of images in the workplace, where a captioner `small` is too."""
    folder = own_run.workplace()
    small_captioner().save_to_preset(folder / "small")
    (folder / "photos").mkdir(exist_ok=True)
    rng = np.random.default_rng(17)
    for i in range(IMAGES):
        pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        image = PIL.Image.fromarray(pixels).resize((64, 64))
        image.save(folder / "photos" / f"{i:02}.png")
    (folder / "bad.png").write_bytes(b"not an image")
    return [f"photos/{i:02}.png" for i in range(IMAGES)]


@pytest.fixture
def captioned(photos, monkeypatch, capsys):
    """Runs the command in this process: status, output and errors."""
    monkeypatch.chdir(own_run.workplace())

    def run(*arguments):
        status = cli.main(["caption", *map(str, arguments), "--model", "small"])
        return status, *capsys.readouterr()

    return run


def process(*arguments, **options):
    """The command in a process of its own, with a pipe to its standard input."""
    options = {"stdin": subprocess.PIPE, **options}
    return own_run.sat_tf_process("caption", *arguments, "--model", "small", **options)


def names_of(output):
    return [line.partition(": ")[0] for line in output.splitlines()]


# -------------------------------------------------------------------- bad files


def test_it_goes_on_after_bad_files(photos, captioned):
    mixed = ["nothing.png", *photos[:3], "bad.png", *photos[3:], "photos"]
    status, output, errors = captioned(*mixed)
    assert status == 1 and names_of(output) == photos * 2  # the folder has them too
    nothing, bad, last = errors.splitlines()
    assert "Received: image='nothing.png' (No such file" in nothing
    assert "image='bad.png'" in bad and all("Expected" in x for x in (nothing, bad))
    assert (
        last == "sat-tf caption: 2 of 26 images could not be captioned, as said above."
    )


@pytest.mark.parametrize("good", [0, 1, 9])
def test_json_is_one_array_whatever_fails(good, photos, captioned):
    status, output, errors = captioned("bad.png", *photos[:good], "a\0b", "--json")
    rows = json.loads(output)
    assert status == 1 and [row["image"] for row in rows] == photos[:good]
    assert output == json.dumps(rows, indent=1) + "\n"
    assert f"2 of {good + 2} images" in errors and r"a\x00b" in errors


def test_a_bad_file_changes_no_draw_of_the_others(photos, captioned):
    chance = ["--json", "--decoder", "sample", "--seed", "3", "--temperature", "4"]

    def said(*files):
        return {row["image"]: row["words"] for row in json.loads(captioned(*files)[1])}

    # An index is the place in the list: a bad file has one, a missing line has none.
    mixed = ["bad.png", *photos[1:5], "nothing.png", *photos[6:]]
    whole, spoilt = said(*photos, *chance), said(*mixed, *chance)
    assert set(whole) - set(spoilt) == {photos[0], photos[5]}
    assert spoilt == {name: whole[name] for name in spoilt}
    shifted = said(*photos[1:], *chance)
    assert any(shifted[name] != whole[name] for name in shifted)


def test_the_figure_leaves_bad_files_out(photos, captioned, monkeypatch):
    monkeypatch.setattr(caption, "MAX_DRAWN", 2)
    status, _, errors = captioned("bad.png", *photos[:3], "--figure", "look.png")
    assert status == 1 and "look.png shows the first 2 images." in errors
    with PIL.Image.open("look.png") as figure:
        assert figure.size[1] == 2 * 264  # two rows
    status, output, _ = captioned("bad.png", "--figure", "none.png")
    assert (status, output) == (1, "") and not os.path.exists("none.png")


# --------------------------------------------------------------- lists of paths


def of_kind(kind, pixels, folder):
    """The name of a file of that kind that holds the pixels, or is broken."""
    image, path = PIL.Image.fromarray(pixels), folder / f"one.{kind.split()[-1]}"
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    if kind == "animated gif":
        image.save(path, save_all=True, append_images=[image.rotate(90)])
    elif kind == "turned jpg":
        image.save(path, exif=exif)
    elif kind.startswith("transparent"):
        image.putalpha(image.convert("L"))
        image.save(path)
    else:
        image.save(path)
    if kind.startswith("broken"):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


KINDS = ["jpg", "turned jpg", "png", "transparent png", "animated gif", "bmp", "webp"]
KINDS += ["tiff", "broken jpg", "broken png", "broken gif"]


@pytest.mark.parametrize(
    "kind, decoder",
    [*((kind, "sample") for kind in KINDS), ("jpg", "greedy"), ("jpg", "beam")],
)
def test_one_image_alone_is_captioned_as_among_many(
    kind, decoder, photos, captioned, tmp_path
):
    pixels = np.random.default_rng(3).integers(0, 256, (90, 70, 3), dtype=np.uint8)
    path = of_kind(kind, pixels, tmp_path)
    options = ["--decoder", decoder, "--seed", 7, "--json"]
    alone, many = (
        captioned(*files, *options) for files in ([path], [path, *photos[:FEW]])
    )
    assert not tf.config.functions_run_eagerly()
    told = [errors.splitlines()[:-1] for *_, errors in (alone, many)]
    assert told[0] == told[1] and bool(told[0]) == kind.startswith("broken")
    if not told[0]:
        one, first = (json.loads(output)[0] for _, output, _ in (alone, many))
        assert one["caption"] == first["caption"]
        assert one["locations"] == first["locations"]
        assert one["log_p_word"] == pytest.approx(first["log_p_word"], abs=1e-4)


def test_lists_as_editors_write_them(photos, captioned):
    lines = [*photos[:2], "", "  ", "über ñ.png", "a\udcffb.png", photos[2]]
    for name in lines[4:6]:
        shutil.copy(photos[0], name)
    for name, before in (("list.txt", ""), ("below.txt", "\r\n")):
        text = before + "\r\n".join(lines)
        with open(name, "wb") as file:
            file.write(codecs.BOM_UTF8 + text.encode("utf-8", "surrogateescape"))
    status, output, errors = captioned("below.txt")
    assert (status, errors) == (0, "") and len(names_of(output)) == 5
    status, output, errors = captioned("list.txt", photos[3])
    assert (status, errors) == (0, "")
    assert names_of(output) == [
        *photos[:2], "über ñ.png", r"a\xffb.png", photos[2], photos[3],
    ]  # fmt: skip


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
def test_a_list_in_utf_16_is_told_so(encoding, photos, captioned):
    mark = codecs.BOM_UTF16_BE if encoding == "utf-16-be" else b""
    with open("powershell.txt", "wb") as file:
        file.write(mark + "\r\n".join(photos[:2]).encode(encoding))
    status, output, errors = captioned(photos[0], "powershell.txt")
    assert (status, output) == (2, "") and errors.count("\n") == 1
    assert "Received: UTF-16" in errors
    with pytest.raises(ValueError, match="UTF-16"):
        paths.check(["powershell.txt"])  # before a captioner is loaded


def test_what_names_no_image_is_refused_at_once(captioned):
    os.makedirs("empty", exist_ok=True)
    for name, said in (
        ("no.txt", "a file of paths"),
        ("empty", "images in the folder"),
    ):
        status, output, errors = captioned("photos/00.png", name)
        assert (status, output) == (2, "") and f"Expected {said}" in errors


@pytest.mark.parametrize("form", ["lines", "json"])
def test_standard_input_is_answered_before_it_ends(form, photos):
    """One path, its answer, the next path: as a program that waits for each would."""
    with process("-", *["--json"] * (form == "json")) as asked:
        for name in photos[:2]:
            ask(asked, name)
            assert any(name in line for line in iter(asked.stdout.readline, ""))
        _, errors = asked.communicate(timeout=own_run.TIMEOUT)
    assert asked.returncode == 0 and "Traceback" not in errors


# ------------------------------------------------------------ stopping, terminals


def ask(asked, name):
    asked.stdin.write(f"{name}\n")
    asked.stdin.flush()


def endless(photos, *options, **more):
    """Asked for more images than anyone waits for."""
    with open(own_run.workplace() / "many.txt", "w") as file:
        file.writelines(f"{name}\n" for name in photos * 2000)
    return process("many.txt", *options, **more)


class InterruptedWrites(io.StringIO):
    """A stream at whose write number `at` somebody presses Ctrl-C."""

    def __init__(self, at):
        super().__init__()
        self.left = at

    def write(self, text):
        written = super().write(text)
        self.left -= 1
        if self.left == 0:
            signal.raise_signal(signal.SIGINT)
        return written


@pytest.mark.parametrize("at", [1, 2, 3, 4, 5, 6])
def test_interrupted_while_it_prints_a_row(at, photos, captioned):
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    stream = InterruptedWrites(at)
    try:
        with contextlib.redirect_stdout(stream):
            status, _, errors = captioned(*photos[:9], "--json")
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, handler)
    rows = json.loads(stream.getvalue())
    assert status == 130 and "What was printed is complete" in errors
    assert 0 < len(rows) < 9


def test_interrupted_it_keeps_what_is_printed(photos):
    with endless(photos, "--json", code=INTERRUPTIBLE) as asked:
        lines = [next(asked.stdout) for _ in range(500)]
        asked.send_signal(signal.SIGINT)
        # Not `communicate`: it does not see what the stream has read ahead.
        rest, errors = asked.stdout.read(), asked.stderr.read()
        assert asked.wait(own_run.TIMEOUT) == 130
    assert "Traceback" not in errors and "What was printed is complete" in errors
    rows = json.loads("".join(lines) + rest)
    assert 0 < len(rows) < 2000 * IMAGES
    assert all(row["image"] in photos for row in rows)


def test_interrupted_while_it_waits_for_paths(photos):
    with process("-", code=INTERRUPTIBLE) as asked:
        ask(asked, photos[0])
        line = asked.stdout.readline()
        asked.send_signal(signal.SIGINT)
        assert asked.wait(own_run.TIMEOUT) == 130 and line.startswith(photos[0])
        assert "Traceback" not in asked.stderr.read()


@pytest.mark.parametrize("closed", ["2>&-", ">&-", "<&-", "<&- >&- 2>&-"])
def test_closed_streams_are_done_without(closed, photos):
    command = [sys.executable, "-m", "sat_tf.cli", "caption", photos[0], "bad.png"]
    done = subprocess.run(
        f"{shlex.join([*command, '--model', 'small'])} {closed}",
        shell=True,
        cwd=own_run.workplace(),
        env=own_run.environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith(photos[0]) or ">&-" in closed.split()
    assert "could not be captioned" in done.stderr or "2>&-" in closed


def test_a_closed_pipe_ends_it_quietly(photos):
    with endless(photos) as asked:
        assert asked.stdout.readline().startswith(photos[0])
        asked.stdout.close()
        assert asked.wait(own_run.TIMEOUT) == 0
        assert "Traceback" not in (errors := asked.stderr.read())
        assert "sat-tf" not in errors


@pytest.mark.parametrize("number, shown", [(IMAGES, True), (3, False)])
def test_progress_of_many_is_shown_on_a_terminal(number, shown, photos):
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (24, 80))  # tqdm shows nothing on a width of 0
    with process("bad.png", *photos[:number], stderr=theirs) as asked:
        os.close(theirs)
        assert names_of(asked.stdout.read()) == photos[:number]
        errors = b""
        with contextlib.suppress(OSError):  # nobody writes there any more
            while True:
                errors += os.read(ours, 4096)
        os.close(ours)
        assert asked.wait(own_run.TIMEOUT) == 1
    assert (f"/{number + 1} [" in errors.decode()) == shown
    assert f"1 of {number + 1} images" in errors.decode()
