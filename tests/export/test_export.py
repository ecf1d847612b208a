"""The exported captioner: needs TensorFlow alone, and says what `generate` says."""

import json
import pathlib
import re
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from pictures import encode, picture
from serving_server import running
from small_captioner import WORDS, small_captioner
from tensorflow.core.framework import tensor_pb2

from sat_tf import cli
from sat_tf.decoding.generate import caption_features
from sat_tf.export.signatures import build
from sat_tf.reranking import RERANKERS
from sat_tf.serving import Client, ServingError

OPTIONS = {"max_length": 6, "beam": 3}


def photographs():
    """Files of several kinds and sizes; one lies on its side."""
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    return [
        encode(picture(70, 90, seed=1), "JPEG"),
        encode(picture(300, 200, seed=2), "JPEG", exif=exif),
        encode(picture(64, 64, seed=3), "PNG"),
        encode(picture(40, 50, seed=4).convert("CMYK"), "JPEG"),
        encode(picture(90, 91, seed=5), "GIF"),
    ]


def annotations(captioner, number=3):
    encoder = captioner.encoder
    shape = number, encoder.locations, encoder.size
    return np.random.default_rng(17).normal(size=shape).astype("float32")


def assert_same(answer, captions):
    """Rows of a signature's outputs, and `generate`'s `Caption`s."""
    answer = {key: np.asarray(value) for key, value in answer.items()}
    for i, expected in enumerate(captions):
        spoken = slice(0, int(answer["length"][i]))
        said = [tf.compat.as_str(word) for word in answer["words"][i]]
        assert tf.compat.as_str(answer["caption"][i]) == expected.caption
        assert said == [*expected.words, *[""] * (len(said) - len(expected.words))]
        assert answer["locations"][i][spoken].tolist() == expected.locations.tolist()
        for name in ("score", "alpha", "log_p_word"):
            value = answer[name][i] if name == "score" else answer[name][i][spoken]
            np.testing.assert_allclose(value, getattr(expected, name), atol=1e-4)
        assert tf.compat.as_str(answer["error"][i]) == ""


@pytest.fixture(scope="module")
def captioner():
    return small_captioner()


@pytest.fixture(scope="module")
def folder(captioner, tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "small"
    metadata = {"recipe": {"data": "scenes"}, "val_bleu_4": 12.345}
    return captioner.export(path, metadata=metadata, **OPTIONS)


@pytest.fixture(scope="module")
def loaded(folder):
    return tf.saved_model.load(str(folder), tags=["serve"])


# Nothing but TensorFlow, and the loader that TensorFlow Serving uses.
STRANGER = """
import json, sys
import tensorflow as tf
from tensorflow.python.framework import op_def_registry

folder, *paths = sys.argv[1:]
files = [open(path, "rb").read() for path in paths]
answers = {}
with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    model = tf.compat.v1.saved_model.load(session, ["serve"], folder)
    for name in ("serving_default", "beam"):
        signature = model.signature_def[name]
        outputs = {key: info.name for key, info in signature.outputs.items()}
        entry = signature.inputs["image_bytes"].name
        for count in (1, len(files)):
            found = session.run(outputs, {entry: files[:count]})
            found = {key: value.tolist() for key, value in found.items()}
            answers[f"{name} {count}"] = found
functions = model.graph_def.library.function
nodes = [*model.graph_def.node, *(node for f in functions for node in f.node_def)]
ops = {node.op for node in nodes}
report = {
    "answers": answers,
    "ops": sorted(ops),
    "unknown": [op for op in ops if op_def_registry.get(op) is None],
    "compiled": [f.signature.name for f in functions if f.attr["_XlaMustCompile"].b],
    "modules": [name for name in sys.modules if "." not in name],
}
print(json.dumps(report, default=bytes.decode))
"""


def test_a_process_that_knows_only_tensorflow_gets_the_same(
    captioner, folder, tmp_path
):
    files = photographs()
    mixed = [*files[:2], b"", files[2], files[3], files[1][:500], files[4]]
    paths = [tmp_path / str(i) for i in range(len(mixed))]
    for path, contents in zip(paths, mixed, strict=True):
        path.write_bytes(contents)
    run = subprocess.run(
        [sys.executable, "-c", STRANGER, str(folder), *map(str, paths)],
        check=True,
        capture_output=True,
        cwd=tmp_path,
    )
    report = json.loads(run.stdout)
    assert not {"sat_tf", "tensorflow_probability"} & set(report["modules"])
    assert report["unknown"] == [] and report["compiled"] == []
    foreign = ("PyFunc", "Hash", "Lookup", "Xla")
    assert not [op for op in report["ops"] if any(name in op for name in foreign)]

    good = [paths[i] for i in (0, 1, 3, 4, 6)]
    for name, decoder in ("serving_default", "greedy"), ("beam", "beam"):
        expected = captioner.generate(good, decoder=decoder, **OPTIONS)
        assert len({caption.caption for caption in expected}) > 1
        answer = report["answers"][f"{name} 7"]
        errors = [error.split(":")[0] for error in answer["error"]]
        assert errors[2] == "not an image that can be read"
        assert errors[5] == "broken image"
        assert [answer["caption"][i] for i in (2, 5)] == ["", ""]
        assert [answer["length"][i] for i in (2, 5)] == [0, 0]
        kept = {key: np.delete(value, [2, 5], axis=0) for key, value in answer.items()}
        assert_same(kept, expected)
        assert_same(report["answers"][f"{name} 1"], expected[:1])
        if decoder == "beam":
            for i, caption in enumerate(expected):
                beams = [beam.caption for beam in caption.beams]
                assert kept["beam_captions"][i].tolist() == beams
                scores = [beam.score for beam in caption.beams]
                np.testing.assert_allclose(kept["beam_scores"][i], scores, atol=1e-4)


def test_tensorflows_command_line_runs_it(captioner, folder, tmp_path):
    contents = photographs()[0]
    np.save(tmp_path / "photo.npy", np.array([contents]))
    tool = [sys.executable, "-m", "tensorflow.python.tools.saved_model_cli", "run"]
    what = ["--tag_set=serve", "--signature_def=serving_default", f"--dir={folder}"]
    inputs = [f"--inputs=image_bytes={tmp_path / 'photo.npy'}"]
    run = subprocess.run(
        [*tool, *what, *inputs], check=True, capture_output=True, text=True
    )
    expected = captioner.generate([contents], **OPTIONS)[0]
    assert f"[b'{expected.caption}']" in run.stdout


def test_servers_may_join_requests(captioner, loaded):
    """Batch first everywhere; else open are only pixels, and captions to explain."""
    assert set(loaded.signatures) == {
        *("serving_default", "greedy", "beam", "images", "annotations", "explain")
    }
    for name, signature in loaded.signatures.items():
        for spec in signature.structured_input_signature[1].values():
            assert spec.shape[0] is None
            assert name == "images" or None not in spec.shape[1:]
        for key, output in signature.structured_outputs.items():
            assert output.shape[0] is None
            # Captions that are explained are as long as the longest of them.
            assert name == "explain" or None not in output.shape[1:]
            assert not key.endswith("_bytes")
    alpha = loaded.signatures["beam"].structured_outputs["alpha"]
    assert alpha.shape.as_list() == [None, 6, *captioner.grid]


def test_pixels_and_annotations_are_taken_too(captioner, loaded):
    image = np.asarray(picture(100, 80))
    files = [encode(PIL.Image.fromarray(image), "PNG")]
    expected = captioner.generate(files, **OPTIONS)
    pixels = image[np.newaxis].astype("float32")
    assert_same(loaded.signatures["images"](images=pixels), expected)
    right_size = np.asarray(picture(*captioner.encoder.image_size))
    pixels = right_size[np.newaxis].astype("float32")  # neither enlarged nor cropped
    expected = captioner.generate(pixels, **OPTIONS)
    assert_same(loaded.signatures["images"](images=pixels), expected)
    features = annotations(captioner)
    options = captioner.options(**OPTIONS)
    answer = loaded.signatures["annotations"](annotations=features)
    assert_same(answer, caption_features(captioner, features, options))


@pytest.mark.parametrize("name", ["images", "annotations"])
def test_numbers_that_are_none_get_an_error(name, captioner, loaded):
    image = np.asarray(picture(100, 80), np.float32)
    fine = np.stack([image] * 2) if name == "images" else annotations(captioner)[:2]
    torn = np.array(fine)
    torn[0, 1] = np.nan
    answers = [loaded.signatures[name](**{name: tf.constant(x)}) for x in (fine, torn)]
    expected, answer = ({k: v.numpy() for k, v in x.items()} for x in answers)
    assert answer["caption"][0] == answer["error"][1] == b""
    assert answer["error"][0].startswith(b"Expected finite numbers. Received: nan")
    for value in answer.values():
        assert value.dtype.kind == "O" or np.isfinite(value).all()
    for key in expected.keys() - {"error"}:
        np.testing.assert_array_equal(answer[key][1], expected[key][1])


def test_consensus_goes_along_and_the_card_says_so(tmp_path):
    """From the captioner's own default; `greedy` is still there."""
    captioner = small_captioner("none")
    ranked = {"decoder": "beam", "beam": 4, "rerank": {"consensus": 0.0}}
    captioner.decoder_options = ranked
    folder = captioner.export(tmp_path / "agreeing", max_length=6)
    model = tf.saved_model.load(str(folder))
    features = annotations(captioner)
    for name, options in (
        ("serving_default", captioner.options(max_length=6)),
        ("greedy", captioner.options(decoder="greedy", max_length=6)),
    ):
        answer = model.signatures[name](annotations=features)
        assert_same(answer, caption_features(captioner, features, options))
    card = (folder.parent / "README.md").read_text()
    assert "reranker consensus 0.0" in card
    assert "how far the other beams agree with a beam" in card


@pytest.mark.parametrize(
    "name, meaning",
    [
        ("alignment", "the image shows, where it looked for them"),
        ("detection", "the words that are expected of the image as a whole"),
        ("grounding", "the locations that a beam looked at say its words"),
    ],
)
def test_opinions_go_along_and_the_card_says_so(name, meaning, tmp_path):
    reranker = RERANKERS[name](3)
    captioner = small_captioner("none", rerankers=[reranker])
    for weight in reranker.weights:
        weight.assign(np.random.default_rng(17).normal(size=weight.shape))
    ranked = {"decoder": "beam", "beam": 6, "max_length": 6}
    features = annotations(captioner)
    said = {}
    for opinion in (0.0, 5.0):
        options = {**ranked, "rerank": {"consensus": 0.3, name: opinion}}
        folder = captioner.export(tmp_path / f"{opinion}", **options)
        model = tf.saved_model.load(str(folder))
        answer = model.signatures["serving_default"](annotations=features)
        said[opinion] = answer["caption"].numpy().tolist()
        assert_same(
            answer, caption_features(captioner, features, captioner.options(**options))
        )
    assert said[0.0] != said[5.0]
    card = (folder.parent / "README.md").read_text()
    assert f"reranker {name} 5.0" in card and meaning in card


@pytest.mark.parametrize("decoder", ["greedy", "beam"])
def test_the_card_says_what_a_guided_score_is(decoder, tmp_path):
    head = RERANKERS["alignment"](3, guiding=0.5)
    captioner = small_captioner("none", rerankers=[head])
    rerank = {"consensus": 0.3, "alignment": 2.0}
    told = {"decoder": decoder, "rerank": rerank, "length_penalty": 0.7}
    folder = captioner.export(tmp_path / "guided", max_length=6, **told)
    (score,) = re.findall(r"\| `score` \|.*", (folder.parent / "README.md").read_text())
    assert "of several beams, the sum of what the rerankers say: `alignment`" in score
    assert (
        "by `greedy`: log-probability in nats, `<eos>` included, and what `alignment` "
        "added to guide the search, over length to the power of 0.7 |"
    ) in score


@pytest.mark.parametrize("rule", ["argmax", "sample", "expected"])
def test_only_a_sampled_answer_changes(rule):
    captioner = small_captioner("none")
    options = captioner.options(attention=rule, max_length=6)
    _, signatures = build(captioner, options)
    features = tf.constant(annotations(captioner))
    first, second = (signatures["annotations"](features) for _ in "12")
    same = (first["locations"] == second["locations"]).numpy().all()
    assert same == (rule != "sample")


@pytest.mark.parametrize(
    "words, seam",
    [
        (["红", "狗", "在", "跑", "t", "3"], r"[红狗在跑]{2}"),
        (["l'", "d'", "un'", "homme", "eau", "chien"], "'homme|'eau"),
        (["लाल", "गोला", "दीवार"], "[लग]"),
    ],
    ids=["Chinese", "French", "Hindi"],
)
def test_captions_are_written_as_their_script_is(words, seam):
    """The graph and `generate` leave out the same spaces."""
    captioner = small_captioner("none", words=words)
    options = captioner.options(decoder="beam", beam=6, max_length=9)
    _, signatures = build(captioner, options)
    features = annotations(captioner, 6)
    captions = caption_features(captioner, features, options)
    answer = signatures["annotations"](tf.constant(features))
    assert_same(answer, captions)
    beams = [[beam.caption for beam in caption.beams] for caption in captions]
    said = [[text.decode() for text in row] for row in answer["beam_captions"].numpy()]
    assert said == beams
    assert re.search(seam, str(beams)) and re.search(r"\w \w", str(beams))


def test_half_the_space_says_nearly_the_same(tmp_path):
    captioner = small_captioner("none", hidden_size=128)
    features = annotations(captioner)
    expected = caption_features(captioner, features, captioner.options(max_length=6))
    sizes = []
    for dtype, tolerance in (None, 1e-5), ("float16", 0.02):
        folder = captioner.export(tmp_path / "brought", dtype=dtype, max_length=6)
        sizes += [p.stat().st_size for p in folder.glob("variables/*.data-*")]
        model = tf.saved_model.load(str(folder))
        answer = model.signatures["serving_default"](annotations=features)
        assert [c.decode() for c in answer["caption"].numpy()] == [
            c.caption for c in expected
        ]
        for i, caption in enumerate(expected):
            np.testing.assert_allclose(
                answer["score"][i], caption.score, atol=tolerance
            )
    assert folder.name == "2" and sizes[1] < 0.55 * sizes[0]
    assert "float16" in (tmp_path / "brought" / "README.md").read_text()


def test_a_version_is_whole_or_not_there(tmp_path, monkeypatch):
    captioner = small_captioner("none")
    with monkeypatch.context() as patch:
        patch.setattr("sat_tf.export.write_warmup", lambda *args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            captioner.export(tmp_path / "model")
    assert list((tmp_path / "model").iterdir()) == []
    (tmp_path / "model" / "7").mkdir()
    for version in 7, -1, "8":
        with pytest.raises(ValueError, match=f"version={version!r}"):
            captioner.export(tmp_path / "model", version)
    with pytest.raises(ValueError, match="photo.png"):
        captioner.export(tmp_path / "model", examples=["photo.png"])
    twice = [tmp_path / folder / "x.jpg" for folder in ("a", "b")]
    for path in twice:
        path.parent.mkdir()
        path.write_bytes(b"")
    with pytest.raises(ValueError, match="different names.*a/x.jpg.*b/x.jpg. Rename"):
        captioner.export(tmp_path / "model", examples=twice)


def prediction_log():
    """The messages of TensorFlow Serving, as its .proto files number their fields."""
    messages = {
        "ModelSpec": {"name": (1, str), "signature_name": (3, str)},
        "Entry": {"key": (1, str), "value": (2, bytes)},
        "PredictRequest": {"model_spec": (1, "ModelSpec"), "inputs": (2, "Entry")},
        "PredictLog": {"request": (1, "PredictRequest")},
        "PredictionLog": {"predict_log": (6, "PredictLog")},
    }
    file = descriptor_pb2.FileDescriptorProto(name="log.proto", package="test")
    for name, fields in messages.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            types = {str: "TYPE_STRING", bytes: "TYPE_BYTES"}
            added = message.field.add(
                name=field,
                number=number,
                label="LABEL_REPEATED" if field == "inputs" else "LABEL_OPTIONAL",
                type=types.get(kind, "TYPE_MESSAGE"),
            )
            if isinstance(kind, str):
                added.type_name = f".test.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found = pool.FindMessageTypeByName("test.PredictionLog")
    return message_factory.GetMessageClass(found)


def warm_up(folder, model):
    """The `ModelSpec` of every request for warming up, and what the model answers."""
    path = folder / "assets.extra" / "tf_serving_warmup_requests"
    for record in tf.data.TFRecordDataset(str(path)):
        request = prediction_log().FromString(record.numpy()).predict_log.request
        signature = model.signatures[request.model_spec.signature_name]
        specs = signature.structured_input_signature[1]
        inputs = {}
        for entry in request.inputs:
            value = tf.make_ndarray(tensor_pb2.TensorProto.FromString(entry.value))
            inputs[entry.key] = tf.constant(value, specs[entry.key].dtype)
        yield request.model_spec, signature(**inputs)


def test_warming_up_runs_every_signature(folder, loaded):
    warmed = {}
    for spec, answer in warm_up(folder, loaded):
        assert spec.name == "small"
        words = "words" if spec.signature_name == "explain" else "caption"
        warmed[spec.signature_name] = answer[words].numpy()
        assert answer["error"].numpy().tolist() == [b""]
    assert set(warmed) == set(loaded.signatures)
    assert warmed["serving_default"] == warmed["annotations"]
    assert [w.decode() for w in warmed["explain"][0]] == WORDS


def test_what_lies_beside(captioner, folder):
    extra = json.loads((folder / "assets.extra" / "preprocessing.json").read_text())
    assert extra == {"image_size": [64, 64], "resize_mode": "crop"}
    model = folder.parent
    assert sorted(p.name for p in model.iterdir()) == ["1", "README.md", "examples"]
    for example in (model / "examples").iterdir():
        with PIL.Image.open(example) as image:
            assert image.format == "JPEG"
    card = (model / "README.md").read_text()
    for line in (
        "| `serving_default` | `image_bytes` | string | [B] |",
        "| `alpha` | float32 | [B, 6, {}, {}] |".format(*captioner.grid),
        "| data | scenes |",
        "| val_bleu_4 | 12.35 |",
        "attention argmax",
    ):
        assert line in card
    here = str(pathlib.Path(cli.__file__).parent).encode()
    assert here not in (folder / "saved_model.pb").read_bytes()


@pytest.mark.parametrize("recipe", [None, {"data": "flickr8k"}, {"data": "/my/scenes"}])
def test_who_never_saw_drawings_offers_none(tmp_path, recipe):
    metadata = {"recipe": recipe} if recipe else {}
    captioner = small_captioner("none")
    captioner.save_to_preset(tmp_path / "run", metadata=metadata)
    out = tmp_path / "models" / "mine"
    command = ["export", str(tmp_path / "run"), "--out", str(out), "--max-length", "4"]
    assert cli.main(command) == 0
    assert sorted(p.name for p in out.iterdir()) == ["1", "README.md"]
    photograph = tmp_path / "beach.jpg"
    photograph.write_bytes(encode(picture(64, 64), "JPEG"))
    assert cli.main([*command, "--examples", str(photograph)]) == 0
    assert [p.name for p in (out / "examples").iterdir()] == ["beach.jpg"]


@pytest.mark.parametrize("torn", [b"", b'{"recipe": ', b"[1]"])
def test_torn_metadata_are_named(torn, tmp_path, capsys):
    small_captioner("none").save_to_preset(tmp_path / "run")
    path, out = tmp_path / "run" / "metadata.json", tmp_path / "models" / "mine"
    path.write_bytes(torn)
    assert cli.main(["export", str(tmp_path / "run"), "--out", str(out)]) == 2
    said = f"Expected metadata.json as save_to_preset writes it. Received: {path}"
    assert said in capsys.readouterr().err
    assert not out.exists()


def test_an_image_of_another_size_is_told_both_sizes_by_the_server(tmp_path):
    """Whatever the graph says; and one that is broken keeps the graph's message."""
    captioner = small_captioner(resize_mode="none")
    folder = captioner.export(tmp_path / "exact", **OPTIONS)
    right, broken = (encode(picture(64, 64), kind) for kind in ("PNG", "JPEG"))
    wrong, broken = encode(picture(240, 320), "JPEG"), broken[:-60]
    with running(tmp_path) as (url, _):
        client = Client(url)
        expected = captioner.generate([right], **OPTIONS)[0].caption
        answers = client.caption([right, wrong, broken])
        assert [answer.caption for answer in answers] == [expected, "", ""]
        assert "Expected an image of 64 x 64 pixels" in answers[1].error
        assert "Received: 320 x 240. Resize it" in answers[1].error
        assert answers[2].error.startswith("broken image")
        for signature in "serving_default", "greedy", "beam":
            with pytest.raises(ServingError, match="64 x 64.*320 x 240") as raised:
                client.caption(wrong, signature_name=signature)
            assert raised.value.status == 400
        with pytest.raises(ServingError, match="broken image"):
            client.caption(broken)
    # With no examples, it is warmed up by an image of this size.
    for _, answer in warm_up(folder, tf.saved_model.load(str(folder))):
        assert answer["error"].numpy().tolist() == [b""]


def test_command_line_exports(tmp_path, capsys):
    captioner = small_captioner("none")
    captioner.save_to_preset(tmp_path / "run", metadata={"val_bleu_4": 7.25})
    out = str(tmp_path / "models" / "mine")
    command = ["export", str(tmp_path / "run"), "--out", out, "--beam", "2"]
    command += ["--version", "3", "--max-length", "5", "--attention", "expected"]
    assert cli.main([*command, "--json"]) == 0
    path = pathlib.Path(json.loads(capsys.readouterr().out)["path"])
    assert path == pathlib.Path(out) / "3"
    features = annotations(captioner)
    default = tf.saved_model.load(str(path)).signatures["serving_default"]
    options = captioner.options(
        decoder="beam", beam=2, max_length=5, attention="expected"
    )
    answer = default(annotations=features)
    assert_same(answer, caption_features(captioner, features, options))
    assert answer["beam_captions"].shape == (3, 2)
    assert "| val_bleu_4 | 7.25 |" in (tmp_path / "models/mine/README.md").read_text()
    assert cli.main(command) == 2
    assert "version=3 in mine" in capsys.readouterr().err


def test_serving_without_its_libraries_says_what_to_install(
    tmp_path, monkeypatch, capsys
):
    for name in [m for m in sys.modules if m.startswith("sat_tf.serving")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert cli.main(["serve", str(tmp_path)]) == 2
    assert "pip install 'sat_tf[serve]'" in capsys.readouterr().err
