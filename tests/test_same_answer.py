"""Same image, same answer: command line, `generate`, SavedModel and REST."""

import json
import subprocess
import sys

import pytest
import tensorflow as tf
from pictures import encode, picture
from serving_server import ask, free_port, wait_until
from small_captioner import small_captioner

from sat_tf import ShowAttendTell, cli
from sat_tf.datasets import scenes, scenes_drawing
from sat_tf.serving import Client

DECODERS = ("greedy", "beam")


@pytest.mark.slow
def test_everybody_says_the_same(tmp_path, capsys):
    run, models = tmp_path / "run", tmp_path / "models"
    small_captioner().save_to_preset(run)
    paths = [tmp_path / "scene.jpg", tmp_path / "wide.png"]
    drawn = scenes.render(scenes.scene("test", 0))
    paths[0].write_bytes(scenes_drawing.jpeg(drawn))
    paths[1].write_bytes(encode(picture(90, 140), "PNG"))
    options = ["--out", str(models / "small"), "--max-length", "7"]
    assert cli.main(["export", str(run), *options]) == 0

    answers = {
        "generate": from_generate(run, paths),
        "command line": from_command_line(run, paths, capsys),
        "SavedModel": from_saved_model(models / "small" / "1", paths),
        "REST": from_server(models, paths),
    }
    expected = answers["generate"]
    assert len({answer["caption"] for answer in expected}) > 1
    for name, found in answers.items():
        for mine, theirs in zip(expected, found, strict=True):
            assert theirs["caption"] == mine["caption"], name
            assert list(theirs["locations"]) == list(mine["locations"]), name
            assert theirs["score"] == pytest.approx(mine["score"], abs=1e-4), name


# Each gives `caption`, `locations` and `score` of all images, greedy, then beam.


def from_command_line(run, paths, capsys):
    names = [str(path) for path in paths]
    answers = []
    for decoder in DECODERS:
        command = ["caption", *names, "--model", str(run), "--decoder", decoder]
        capsys.readouterr()
        assert cli.main([*command, "--max-length", "7", "--json"]) == 0
        answers += json.loads(capsys.readouterr().out)
    return answers


def from_generate(run, paths):
    captioner = ShowAttendTell.from_preset(run)
    return [
        vars(caption)
        for decoder in DECODERS
        for caption in captioner.generate(paths, decoder=decoder, max_length=7)
    ]


def from_saved_model(folder, paths):
    model = tf.saved_model.load(str(folder))
    files = tf.constant([path.read_bytes() for path in paths])
    answers = []
    for decoder in DECODERS:
        outputs = model.signatures[decoder](image_bytes=files)
        for i, length in enumerate(outputs["length"].numpy()):
            answers.append(
                {
                    "caption": outputs["caption"][i].numpy().decode(),
                    "locations": outputs["locations"][i, :length].numpy(),
                    "score": float(outputs["score"][i]),
                }
            )
    return answers


def from_server(root, paths):
    port = free_port()
    command = [sys.executable, "-m", "sat_tf.cli", "serve", str(root), "--port"]
    server = subprocess.Popen([*command, str(port)], stderr=subprocess.PIPE)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: ask(url, "GET", "/readyz")[0] == 200, 240)
        client = Client(url)
        return [
            vars(caption)
            for decoder in DECODERS
            for caption in client.caption(paths, signature_name=decoder)
        ]
    finally:
        server.terminate()
        log = server.communicate()[1].decode()
        assert server.returncode == 0, log
