"""Pretrained word vectors from a text file, as GloVe and word2vec write them."""

import os
import pathlib

import numpy as np


def read(path, words, size):
    """The vectors of some words, from a file of any length.

    One word a line and its numbers behind it, `word v1 v2 ...`; a first line of two
    numbers (word2vec's count and size) is passed over. Where a word comes twice the
    first counts. The file is read line by line and never held in memory.

    Args:
        path: of the text file.
        words: those that are wanted.
        size: numbers per word that are expected.

    Returns:
        word -> float32 `[size]`, of the words that the file has.

    Raises:
        FileNotFoundError: no such file.
        ValueError: vectors of another size, or what is no number.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        received = "a folder" if path.is_dir() else "which does not exist"
        raise FileNotFoundError(
            "Expected a text file of word vectors. "
            f"Received: word_vectors={str(path)!r}, {received}. Give the file's path."
        )
    wanted = {word.encode(): word for word in words}
    found = {}
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            word, _, rest = line.partition(b" ")
            if number == 1 and len(rest.split()) == 1:
                continue  # count and size
            # Other lines are not looked into: nearly all are of words nobody asked for.
            if number > 2 and (word not in wanted or wanted[word] in found):
                continue
            vector = _vector(rest, size, path, number)
            if word in wanted:
                found[wanted[word]] = vector
    if not found:
        raise ValueError(
            "Expected vectors of words of the vocabulary. "
            f"Received: word_vectors={str(path)!r}, which has none of its "
            f"{len(wanted)} words. Check that it is a text file of this language."
        )
    return found


def _vector(text, size, path, number):
    try:
        vector = np.array(text.split(), np.float32)
        reason = f"{len(vector)} numbers"
    except ValueError as error:
        vector, reason = np.zeros(0, np.float32), str(error)
    if len(vector) != size or not np.isfinite(vector).all():
        raise ValueError(
            f"Expected {size} finite numbers behind each word, as embedding_size says. "
            f"Received: word_vectors={str(path)!r}, line {number}: {reason}. "
            "Set model.embedding_size to the file's, or take another file."
        )
    return vector


def set_embedding(captioner, path):
    """Starts a captioner's word embedding (E of eq. 1) from a file of vectors.

    The words that the file has get its vectors. The others keep the directions they
    were initialised with, scaled to the same standard deviation.

    Args:
        captioner: a `ShowAttendTell`, before its training.
        path: see `read`.

    Returns:
        what came of it, in one line for people.
    """
    variable = captioner.network.decoder.embedding.embeddings
    table = variable.numpy()
    words = captioner.vocabulary.words
    found = read(path, words, table.shape[1])
    rows = [i for i, word in enumerate(words) if word in found]
    vectors = np.stack([found[words[i]] for i in rows])
    table *= vectors.std() / table.std()
    table[rows] = vectors
    variable.assign(table)
    return (
        f"Word vectors: {len(found):,} of the {len(words):,} words "
        f"({len(found) / len(words):.1%}) are in {os.path.basename(path)}."
    )
