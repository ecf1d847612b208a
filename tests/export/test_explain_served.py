"""Explained through a server: the same as `captioner.explain` of the same sentence."""

import numpy as np
import pytest
from pictures import encode, picture
from serving_server import ask, b64, predict, running
from small_captioner import small_captioner

from sat_tf.export.words_in_graph import MAX_WORDS
from sat_tf.reranking.alignment import Alignment

FILES = [
    encode(picture(64 + 10 * i, 64 + 7 * i, seed=i), kind)
    for i, kind in enumerate(["PNG", "JPEG", "GIF"])
]
CAPTIONS = ["R-s, a ZEBRA; g-t", "b-x", "g-s r-s b-t g-x r-x r-s"]
PATH = "/v1/models/small"


@pytest.fixture(scope="module", params=["posterior", "alignment"])
def served(request, tmp_path_factory):
    """A captioner, its server's address and the folder of the model."""
    rerankers = [Alignment(4)] if request.param == "alignment" else []
    captioner = small_captioner(rerankers=rerankers)
    for each in rerankers:
        each.share.assign(np.full(each.share.shape, 0.1))
    root = tmp_path_factory.mktemp("models")
    captioner.export(root / "small", max_length=4, beam=2)
    with running(root) as (url, _):
        yield captioner, url, root / "small"


def rows(files, captions):
    return [
        {"image_bytes": b64(file), "caption": caption}
        for file, caption in zip(files, captions, strict=True)
    ]


def explained(url, **body):
    return predict(url, {"signature_name": "explain", **body}, PATH)


def assert_same(row, wanted):
    said = slice(0, row["length"])
    assert row["error"] == ""
    assert tuple(row["words"][said]) == wanted.words
    assert set(row["words"][row["length"] :]) <= {""}
    assert row["known"][said] == wanted.known.tolist()
    assert row["locations"][said] == wanted.locations.tolist()
    for name in ("evidence", "support", "log_p_word"):
        np.testing.assert_allclose(
            row[name][said], getattr(wanted, name), atol=1e-4, err_msg=name
        )


def test_rows_and_columns_say_what_explain_says(served):
    """Captions of different lengths, in one request and alone."""
    captioner, url, _ = served
    wanted = captioner.explain(FILES, CAPTIONS)
    status, answer = explained(url, instances=rows(FILES, CAPTIONS))
    assert status == 200, answer
    for row, each in zip(answer["predictions"], wanted, strict=True):
        assert_same(row, each)
    columns = {"image_bytes": [b64(file) for file in FILES], "caption": CAPTIONS}
    status, columns = explained(url, inputs=columns)
    assert status == 200, columns
    for i, each in enumerate(wanted):
        assert_same({k: values[i] for k, values in columns["outputs"].items()}, each)
    status, answer = explained(url, instances=rows(FILES[1:2], CAPTIONS[1:2]))
    assert status == 200, answer
    assert_same(answer["predictions"][0], wanted[1])
    assert len(answer["predictions"][0]["words"]) == 1


def test_what_is_wrong_with_a_row_is_said_of_that_row(served):
    captioner, url, _ = served
    files = [FILES[0], FILES[1][:300], b"no image", FILES[2], FILES[0], FILES[1]]
    captions = [CAPTIONS[0], "r-s", "r-s", " . ", "r-s " * (MAX_WORDS + 1), "g-t"]
    status, answer = explained(url, instances=rows(files, captions))
    assert status == 200, answer
    first, broken, none, empty, long, last = answer["predictions"]
    assert_same(first, captioner.explain(FILES[0], CAPTIONS[0])[0])
    assert_same(last, captioner.explain(FILES[1], "g-t")[0])
    assert "Check that the file" in broken["error"] or "broken" in broken["error"]
    assert "Expected a JPEG, PNG, GIF or BMP image" in none["error"]
    said = f"Expected a caption of 1 to {MAX_WORDS} words. Received: "
    assert empty["error"] == f"{said}0. Write what the image is said to show."
    assert (
        long["error"] == f"{said}{MAX_WORDS + 1}. Write what the image is said to show."
    )
    for row in (broken, none, empty, long):
        assert row["length"] == 0 and set(row["words"]) == {""}
        assert not np.any(row["known"]) and not np.any(row["support"])
        assert not np.any(row["evidence"]) and not np.any(row["log_p_word"])


@pytest.mark.parametrize(
    "file, caption, said",
    [
        (FILES[0], "", "Expected a caption of 1 to"),
        (b"", "r-s", "Expected an encoded image. Received: 0 bytes"),
    ],
)
def test_where_all_rows_are_wrong_the_request_is_refused(served, file, caption, said):
    _, url, _ = served
    status, answer = explained(url, instances=rows([file], [caption]))
    assert status == 400 and said in answer["error"]


def test_rows_of_another_form_are_told_the_names(served):
    _, url, _ = served
    status, answer = explained(url, instances=[b64(FILES[0])])
    assert status == 400 and "the keys caption, image_bytes" in answer["error"]
    columns = {"image_bytes": [b64(file) for file in FILES], "caption": ["r-s"]}
    status, answer = explained(url, inputs=columns)
    assert status == 400 and "the same number of rows" in answer["error"]


def test_the_server_and_the_card_list_it(served):
    captioner, url, folder = served
    _, _, models = ask(url, "GET", "/page/models.json")
    assert "explain" in models["small"]["signatures"]
    card = (folder / "README.md").read_text()
    for line in (
        "| `explain` | `image_bytes` | string | [B] |",
        "| `explain` | `caption` | string | [B] |",
        "`explain` answers otherwise:",
        "| `support` | float32 | [B, any] |",
        "below 0 the image speaks against it",
        f"row * {captioner.grid[1]} + column",
    ):
        assert line in card


def test_models_of_features_have_no_image_to_explain(tmp_path):
    small_captioner("none").export(tmp_path / "features", max_length=4)
    card = (tmp_path / "features" / "README.md").read_text()
    assert "`explain`" not in card
