"""`hf://user/name`: from a server that speaks as the Hub does, and from its cache."""

import http.server
import json
import os
import pathlib
import subprocess
import sys
import threading

import pytest
from huggingface_hub import ModelCard, constants
from pictures import picture
from small_captioner import small_captioner

from sat_tf import ShowAttendTell, cli
from sat_tf.presets import hub

COMMITS = {"main": "a" * 40, "v1": "b" * 40}
FILES = ("README.md", "config.json", "metadata.json", "weights.npz")


class Hub(http.server.BaseHTTPRequestHandler):
    """The part of the Hub's protocol that a download needs, of files in `root`."""

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = self.path.partition("?")[0].removeprefix("/")
        if path.startswith("api/models/"):
            user, name, kind, revision = path.removeprefix("api/models/").split("/")[:4]
            folder = self.server.root / user / name
            commit = COMMITS.get(revision, revision)
            if not folder.is_dir():
                return self.answer(404, b"", {"X-Error-Code": "RepoNotFound"})
            if commit not in COMMITS.values():
                return self.answer(404, b"", {"X-Error-Code": "RevisionNotFound"})
            files = [
                {"type": "file", "path": p.name, "rfilename": p.name, "oid": p.name}
                | {"size": p.stat().st_size}
                for p in folder.iterdir()
            ]
            info = {"id": f"{user}/{name}", "sha": commit, "siblings": files}
            answer = files if kind == "tree" else info
            return self.answer(200, json.dumps(answer).encode())
        if "/resolve/" not in path:
            return self.answer(404, b"")
        user, name, _, commit, file = path.split("/")
        self.server.fetched.append((commit, file))
        contents = (self.server.root / user / name / file).read_bytes()
        headers = {"ETag": f'"{file}"', "X-Repo-Commit": commit}
        return self.answer(200, contents, headers)

    def answer(self, status, body, headers=()):
        self.send_response(status)
        for name, value in {**dict(headers), "Content-Length": len(body)}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder that `save_to_preset` wrote."""
    folder = tmp_path_factory.mktemp("saved") / "captioner"
    captioner = small_captioner()
    captioner.compile(optimizer="adam", decoder={"decoder": "beam", "beam": 3})
    captioner.save_to_preset(folder, metadata={"val_bleu_4": 7.25, "license": "mit"})
    return folder


@pytest.fixture
def server(saved, tmp_path):
    (tmp_path / "hub" / "ann").mkdir(parents=True)
    (tmp_path / "hub" / "ann" / "reds").symlink_to(saved)
    other = tmp_path / "hub" / "ann" / "bert"
    other.mkdir()
    (other / "config.json").write_text('{"model_type": "bert"}')
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        server.root, server.fetched = tmp_path / "hub", []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def downloaded(address, tmp_path, port, **environment):
    """Folder, or what kind of error says what, of a download in a new process."""
    code = (
        "import sys; from sat_tf.presets import hub\n"
        "try: print(hub.download(sys.argv[1]))\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    process = subprocess.run(
        [sys.executable, "-c", code, address],
        cwd=pathlib.Path(hub.__file__).parents[2],
        env=os.environ
        | {"HF_ENDPOINT": f"http://127.0.0.1:{port}", "HF_HOME": str(tmp_path / "home")}
        | {"HF_HUB_ETAG_TIMEOUT": "2", "NO_PROXY": "127.0.0.1"}
        | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout.strip()


# ------------------------------------------------------------------------ downloading


def test_fetched_once_and_found_without_network(server, saved, tmp_path):
    port = server.server_port
    folder = downloaded("hf://ann/reds", tmp_path, port)
    for name in set(FILES) - {"README.md"}:
        there = pathlib.Path(folder) / name
        assert there.read_bytes() == (saved / name).read_bytes(), name
    fetched = set(server.fetched)
    assert {file for _, file in fetched} == set(FILES) - {"README.md"}
    assert {commit for commit, _ in fetched} == {COMMITS["main"]}
    server.fetched.clear()
    assert downloaded("hf://ann/reds", tmp_path, port) == folder
    assert not server.fetched
    for offline in ({"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}):
        assert downloaded("hf://ann/reds", tmp_path, port, **offline) == folder


def test_a_revision_is_named_behind_an_at_sign(server, tmp_path):
    folder = downloaded("hf://ann/reds@v1", tmp_path, server.server_port)
    assert pathlib.Path(folder).name == COMMITS["v1"]
    assert {commit for commit, _ in server.fetched} == {COMMITS["v1"]}


@pytest.mark.parametrize(
    ("address", "kind", "says"),
    [
        ("hf://ann/blues", "OSError", "Check the name; if it is private"),
        ("hf://ann/reds@v9", "OSError", "Take a branch, tag or commit"),
        ("hf://ann/bert", "FileNotFoundError", "which lacks weights.npz"),
        ("hf://ann/reds/model", "ValueError", "Expected hf://user/name or"),
        ("hf://", "ValueError", "Expected hf://user/name or"),
        ("hf://ann/a red", "ValueError", "Expected hf://user/name or"),
    ],
)
def test_addresses_that_lead_nowhere(address, kind, says, server, tmp_path):
    error = downloaded(address, tmp_path, server.server_port)
    assert error.startswith(f"{kind} Expected") and says in error
    assert f"Received: {address!r}" in error


@pytest.mark.parametrize("environment", [{}, {"HF_HUB_OFFLINE": "1"}])
def test_no_network_and_never_fetched(environment, tmp_path):
    error = downloaded("hf://ann/reds", tmp_path, 9, **environment)
    assert error.startswith("OSError Expected a captioner on the Hugging Face Hub")
    assert "Connect this machine, or copy the folder here" in error


def test_without_the_extra(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert cli.main(["caption", "photo.jpg", "--model", "hf://ann/reds"]) == 2
    assert "pip install 'sat_tf[hub]'" in capsys.readouterr().err


# ------------------------------------------------------------------ as any other model


@pytest.fixture
def cached(saved, tmp_path, monkeypatch):
    """The captioner as `hf://ann/reds`, in a cache as huggingface_hub lays it out."""
    there = tmp_path / "models--ann--reds"
    (there / "refs").mkdir(parents=True)
    (there / "refs" / "main").write_text(COMMITS["main"])
    (there / "snapshots").mkdir()
    (there / "snapshots" / COMMITS["main"]).symlink_to(saved)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return "hf://ann/reds"


def test_from_preset_and_the_command_line(cached, saved, tmp_path, capsys):
    photo = str(tmp_path / "photo.png")
    picture(200, 150).save(photo)
    fetched, local = (ShowAttendTell.from_preset(name) for name in (cached, saved))
    caption = local.generate(photo)[0].caption
    assert fetched.generate(photo)[0].caption == caption
    assert cli.main(["caption", photo, "--model", cached]) == 0
    assert capsys.readouterr().out == f"{photo}: {caption}\n"
    assert cli.main(["export", cached, "--out", str(tmp_path / "served")]) == 0
    assert "7.25" in (tmp_path / "served" / "README.md").read_text()


# -------------------------------------------------------------------------- uploading


def test_saved_folder_is_what_the_hub_expects(saved):
    assert sorted(path.name for path in saved.iterdir()) == sorted(FILES)
    card = ModelCard.load(saved / "README.md")
    assert card.data.library_name == "sat_tf" and card.data.license == "mit"
    assert card.data.pipeline_tag == "image-to-text"
    assert {"image-to-text", "image-captioning"} <= set(card.data.tags)
    assert 'from_preset("hf://USER/NAME")' in card.text
    assert "| val_bleu_4 | 7.25 |" in card.text and "| beam" not in card.text


def test_a_card_is_renewed_until_it_is_somebodys_own(tmp_path):
    captioner = small_captioner("none")
    captioner.save_to_preset(tmp_path, metadata={"val_bleu_4": 1.5})
    captioner.save_to_preset(tmp_path, metadata={"val_bleu_4": 2.5})
    card = tmp_path / "README.md"
    assert "2.5" in card.read_text() and "1.5" not in card.read_text()
    assert ModelCard.load(card).data.license == "unknown"
    assert "photo.jpg" not in card.read_text()  # it brings no trunk to see one with
    own = card.read_bytes().replace(hub.MARK.encode(), "Grüße".encode("latin-1"))
    card.write_bytes(own)
    captioner.save_to_preset(tmp_path)
    assert card.read_bytes() == own
