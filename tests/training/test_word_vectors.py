"""Word vectors from text files as other people write them."""

import tracemalloc

import numpy as np
import pytest
from toy import toy

from sat_tf.training.word_vectors import read, set_embedding

VECTORS = {
    "the": [9.0, 9.0, 9.0],
    "dog": [0.5, -1.25, 2.0],
    "red": [1e-3, 4.0, -3.5],
    "nobody": [7.0, 7.0, 7.0],
}
TEXT = "".join(f"{w} {' '.join(map(str, v))}\n" for w, v in VECTORS.items())


@pytest.mark.parametrize("header", ["", "4 3\n"], ids=["glove", "word2vec"])
def test_known_words_get_their_rows(header, tmp_path):
    path = tmp_path / "vectors.txt"
    path.write_text(header + TEXT + "dog 8 8 8\n")  # the first one counts
    model = toy()
    embedding = model.network.decoder.embedding.embeddings
    before = embedding.numpy()
    said = set_embedding(model, path)
    after, words = embedding.numpy(), model.vocabulary.words
    for word in ("dog", "red"):
        np.testing.assert_allclose(after[words.index(word)], VECTORS[word])
    others = [i for i, word in enumerate(words) if word not in VECTORS]
    scale = np.std([VECTORS["dog"], VECTORS["red"]]) / before.std()
    np.testing.assert_allclose(after[others], scale * before[others], rtol=1e-5)
    assert said == "Word vectors: 2 of the 7 words (28.6%) are in vectors.txt."


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("the 1 2 3 4\n", "Expected 3 finite numbers.*line 1: 4 numbers.*embedding_"),
        ("9 2\nthe 1 2\n", "line 2: 2 numbers"),
        ("the 1 2 3\nof 1 2 3\ndog 1 2 x\n", "line 3: could not convert"),
        ("the 1 2 3\nof 1 2 3\ndog 1 nan 2\n", "line 3: 3 numbers"),
        ("le 1 2 3\nde 1 2 3\n", "which has none of its 7 words"),
        ("", "which has none of its 7 words"),
    ],
)
def test_other_files_are_refused(text, said, tmp_path):
    path = tmp_path / "vectors.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match=said):
        set_embedding(toy(), path)
    with pytest.raises(FileNotFoundError, match="which does not exist"):
        set_embedding(toy(), tmp_path / "none.txt")


def test_a_file_is_never_held_in_memory(tmp_path):
    path = tmp_path / "large.txt"
    line = " 0.12345" * 100 + "\n"
    with open(path, "w") as file:
        file.writelines(f"word{i}{line}" for i in range(10_000))
    assert path.stat().st_size > 8e6
    tracemalloc.start()
    found = read(path, ["word3", "word9999"], 100)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert set(found) == {"word3", "word9999"}
    assert peak < 5e5
