"""Which words are said of an image: the likelihood that it learns from."""

import numpy as np
import tensorflow as tf

from sat_tf.reranking.detection import log_likelihood_of_words

TOKENS = np.array([[3, 4, 1, 0], [2, 1, 0, 0], [4, 3, 4, 1]], "int32")


def test_log_likelihood_is_of_every_word_on_its_own():
    """Also of the words that are not said, and of `<pad>`, which never is."""
    x = np.random.default_rng(17).normal(0, 3, [3, 5]).astype("float32")
    p = 1 / (1 + np.exp(-x.astype("float64")))
    expected = [
        sum(np.log(row[w] if w and w in said else 1 - row[w]) for w in range(5))
        for row, said in zip(p, TOKENS, strict=True)
    ]
    found = log_likelihood_of_words(tf.constant(x), TOKENS)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
