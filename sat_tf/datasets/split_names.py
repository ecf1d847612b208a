"""What people call the splits of a data set, and a split for those who name none."""

import collections
import hashlib
import re
import unicodedata

# Known words for them. `eval` stands beside a training and a test set, as a rule.
_WORDS = {
    "train": "train training trainings Trainingsdaten "
    "entraînement apprentissage entrenamiento addestramento treino treinamento 训练 "
    "訓練 学習 обучение trening trenowanie",
    "validation": "validation val valid dev devel development eval evaluation "
    "Validierung Validierungsdaten Validation validación validazione validação "
    "validatie 验证 驗證 検証 валидация walidacja",
    "test": "test tests testing Testdaten prueba pruebas teste testes 测试 測試 "
    "テスト тест",
    "restval": "restval",
}
_SUFFIX = re.compile(r"[\W_]*(set|split|data|satz|集)?[\W_]*((19|20)\d\d)?[\W_]*")
_SHARES = {"train": 0.9, "validation": 0.95, "test": 1.0}  # up to which place


def _plain(word):
    """Lower case without accents."""
    letters = unicodedata.normalize("NFKD", word.strip()).casefold()
    return "".join(c for c in letters if not unicodedata.combining(c))


_NAMES = {_plain(w): split for split, words in _WORDS.items() for w in words.split()}
ACCEPTED = tuple(_WORDS)


def split_name(name):
    """The TFDS name of a split, `validation` for `val`, `Dev` or `Validierung`.

    A name that is none of the known ones comes back as it is.
    """
    plain = _plain(name)
    for known, split in _NAMES.items():
        if plain.startswith(known) and _SUFFIX.fullmatch(plain, len(known)):
            return split
    return name


def two_meanings(names):
    """Whether `eval` among some names may mean the test set: beside a `dev` or so."""
    words = {_plain(name) for name in names}
    evals = {word for word in words if word.startswith("eval")}
    others = words - evals
    return bool(evals) and any(split_name(word) == "validation" for word in others)


def split_in(text):
    """The split that the words of a file's name speak of; None: of none, or of two.

    `captions_train2014` and `valCaptions` name one; `latest` and `trainval` do not.
    """
    words = re.findall(r"[^\W\d_]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", text))
    found = {split_name(word) for word in words} & set(ACCEPTED)
    return found.pop() if len(found) == 1 else None


def _place(name):
    """Where in 0..1 the hash of a name lies."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64


def hashed_split(name):
    """A split for an image that has none: 90% train, 5% validation, 5% test.

    It depends on the name alone, so an image stays where it is as data are added.
    """
    place = _place(name)
    return next(split for split, end in _SHARES.items() if place < end)


def share_out(names, splits):
    """`hashed_split` of every name, with some in each of `splits`.

    What falls to another split goes to train. While a split is empty, it gets the
    image of the largest one whose hash is highest.
    """
    ordered = sorted(names, key=_place)
    chosen = {n: s if (s := hashed_split(n)) in splits else "train" for n in ordered}
    for split in splits if chosen else ():
        ((largest, number),) = collections.Counter(chosen.values()).most_common(1)
        if split not in chosen.values() and number > 1:
            chosen[[n for n in ordered if chosen[n] == largest][-1]] = split
    return chosen
