"""CIDEr-D (Vedantam et al. 2015) of many captions of each image.

pycocoevalcap scores one caption of each image, and weighs words by how rare they are
among the images that are scored together. This weighs them once, for all images, and
then scores as many captions of one as there are: the same numbers.
"""

import collections
import math

_LONGEST = 4  # words of an n-gram
_WIDTH = 6.0  # words by which lengths may differ, standard deviation


class CiderD:
    """Scores captions against those of people, rare n-grams more than frequent ones.

    Args:
        people: per image, the captions of people, each a sequence of words.
    """

    def __init__(self, people):
        self._images_with = collections.Counter()
        for captions in people:
            self._images_with.update(set().union(*map(_grams, captions)))
        self._log_images = math.log(len(people))

    def scores(self, said, people):
        """Of captions `said` of one image, each a sequence of words: 0 to 10.

        Args:
            said: captions to be scored.
            people: those of people; the mean over them counts.
        """
        heard = [self._weighed(words) for words in people]
        return [
            sum(_alike(self._weighed(words), other) for other in heard) / len(heard)
            for words in said
        ]

    def _weighed(self, words):
        """Weights of the n-grams and their norm for each n, and the length."""
        weights = [{} for _ in range(_LONGEST)]
        for gram, count in _grams(words).items():
            rare = self._log_images - math.log(max(1, self._images_with[gram]))
            weights[len(gram) - 1][gram] = count * rare
        norms = [math.sqrt(sum(w * w for w in each.values())) for each in weights]
        return weights, norms, len(words)


def _grams(words):
    """How often each n-gram occurs, n = 1..4."""
    return collections.Counter(
        tuple(words[i : i + n])
        for n in range(1, _LONGEST + 1)
        for i in range(len(words) - n + 1)
    )


def _alike(ours, theirs):
    """Mean cosine over n, clipped as BLEU does, less where the lengths differ."""
    cosines = 0.0
    for a, b, norms in zip(
        ours[0], theirs[0], zip(ours[1], theirs[1], strict=True), strict=True
    ):
        if all(norms):
            common = sum(
                min(w, b[gram]) * b[gram] for gram, w in a.items() if gram in b
            )
            cosines += common / (norms[0] * norms[1])
    apart = (ours[2] - theirs[2]) / _WIDTH
    return 10 * cosines / _LONGEST * math.exp(-apart * apart / 2)
