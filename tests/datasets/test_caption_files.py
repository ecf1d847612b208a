"""People's own caption files: read whole, or refused to the line; never a row less."""

import collections
import json
import re
import unicodedata

import pictures
import pytest

from sat_tf import cli, datasets
from sat_tf.datasets import check, own, records, split_names

NAMES = [f"d{i:02d}.png" for i in range(16)]
ENDS = "red green blue yellow one two three four five six seven eight nine ten".split()
CAPTIONS = [f"a thing that is {end} on a wall" for end in [*ENDS, "old", "new"]]
SPLITS = ["train"] * 12 + ["val", "val", "test", "test"]
ROWS = list(zip(NAMES, CAPTIONS, SPLITS, strict=True))
COUNTS = {"train": 12, "validation": 2, "test": 2}


@pytest.fixture(autouse=True)
def prepared(tmp_path, monkeypatch):
    """Keep prepared data out of the home folder."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))


@pytest.fixture
def folder(tmp_path):
    """A folder of sixteen images."""
    folder = tmp_path / "photos"
    draw(folder, NAMES)
    return folder


def draw(folder, names):
    folder.mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(names):
        contents = pictures.encode(pictures.plain(10 * i + len(folder.name)), "PNG")
        (folder / name).write_bytes(contents)


def table(rows=ROWS, header=("image", "caption", "split"), separator=","):
    return "".join(f"{separator.join(row)}\n" for row in [header, *rows])


def quoted(rows):
    return [[f'"{field}"' for field in row] for row in rows]


def entries(captions=lambda caption: [caption]):
    return [
        {"file_path": name, "captions": captions(caption), "split": split}
        for name, caption, split in ROWS
    ]


def write(folder, content, name="captions.csv", encoding="utf-8"):
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(content.encode(encoding))
    return folder / name


def read(data):
    """The captions per split, by the reading that check-data and train share."""
    found = own.OwnData.read_records(data)
    split_sizes = {record.split: 0 for record in found if not record.problem}
    for record in found:
        if not record.problem:
            split_sizes[record.split] += len(record.captions)
    return split_sizes


def problems(data):
    """The names of the images that cannot be used, by what is wrong."""
    found = collections.defaultdict(list)
    for record in own.OwnData.read_records(data):
        found[record.problem].append(record.name)
    found.pop(None, None)
    return found


def refusal(data):
    """The one error of check-data, which is also the one of loading."""
    report = check.check(data)
    (error,) = report.errors
    with pytest.raises(ValueError) as caught:
        datasets.load(data, "train")
    assert str(caught.value) == error
    return error


WRITTEN = {
    "semicolons": table(separator=";"),
    "tabs": table(separator="\t"),
    "sep_line": "sep=;\r\n" + table(separator=";").replace("\n", "\r\n"),
    "pandas_quote_all": table(quoted(ROWS), quoted([("image", "caption", "split")])[0]),
    "r_write_csv": table(
        quoted((str(i), *row) for i, row in enumerate(ROWS)),
        quoted([("", "image", "caption", "split")])[0],
    ),
    "capitals": table(header=("Image", "Caption", "Split")),
    "old_mac_line_ends": table().replace("\n", "\r"),
    "blank_lines": table().replace("\n", "\n\n") + "\n,,\n",
    "empty_columns_of_excel": table([(*row, "", "") for row in ROWS]),
    "backslashes": table([(f"photos\\{name}", *rest) for name, *rest in ROWS]),
    "drive": table([(f"C:\\Users\\Jo\\My\\{name}", *rest) for name, *rest in ROWS]),
    "upper_case_names": table([(name.upper(), *rest) for name, *rest in ROWS]),
    "other_columns": table(header=("File Name", "text", "split")),
}


@pytest.mark.parametrize("kind", WRITTEN)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
def test_tables_as_systems_write_them(folder, kind, encoding):
    write(folder, WRITTEN[kind], encoding=encoding)
    assert read(folder) == COUNTS


@pytest.mark.parametrize(
    "content",
    [
        json.dumps(entries()),
        json.dumps(entries(captions=str)),
        "\n".join(map(json.dumps, entries())),
        json.dumps(entries(), indent=1),
    ],
    ids=["list", "captions_that_are_text", "lines", "indented"],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_json_of_entries(folder, content, encoding):
    write(folder, content, "captions.json", encoding)
    assert read(folder) == COUNTS


@pytest.mark.parametrize(
    ("name", "content", "times"),
    [
        ("metadata.csv", table([r[:2] for r in ROWS], ("file_name", "text")), 1),
        (
            "metadata.jsonl",
            "".join(
                json.dumps({"file_name": name, "text": caption}) + "\n"
                for name, caption, _ in ROWS
            ),
            1,
        ),
        (
            "mine.token.txt",
            "".join(f"{n}#{i}\t{c} {i}\n" for n, c, _ in ROWS for i in range(2)),
            2,
        ),
        (
            "results.csv",  # one that begins with a quotation mark is in the original
            "image_name| comment_number| comment\n"
            + "".join(f'{n}| {i}| " {c} {i}\n' for n, c, _ in ROWS for i in range(2)),
            2,
        ),
    ],
)
def test_published_layouts_in_ones_own_folder(tmp_path, name, content, times):
    draw(tmp_path / "data" / "images", NAMES)
    write(tmp_path / "data", content, name)
    assert sum(read(tmp_path / "data").values()) == 16 * times


def test_flickr_lists_count_and_the_lemmatised_copy_does_not(folder):
    for name in ("Flickr8k.token.txt", "Flickr8k.lemma.token.txt"):
        write(folder, "".join(f"{n}#0\t{c}\n" for n, c, _ in ROWS), name)
    for part, some in (
        ("train", NAMES[:9]),
        ("dev", NAMES[9:11]),
        ("test", ["d12.png"]),
    ):
        write(folder, "\n".join(some), f"Flickr_8k.{part}Images.txt")
    assert read(folder) == {"train": 9, "validation": 2, "test": 1}


LOST = {
    "stray_quote": (
        table().replace("d02.png,a thing", 'd02.png,"a thing'),
        "line 4",
    ),
    "two_stray_quotes": (
        table()
        .replace("d02.png,a thing", 'd02.png,"a thing')
        .replace("is six on a wall,", 'is six on a wall",'),
        "captions without rows in them.*line 4 ",
    ),
    "stray_quote_in_a_long_file": (
        table(ROWS * 200).replace("d02.png,a", 'd02.png,"a', 1),
        "line 4",
    ),
    "text_after_quotes": (
        table().replace("a thing that is six", '"a thing" that is six'),
        "line 11",
    ),
    "commas": (
        table([r[:2] for r in ROWS], ("image", "caption")).replace(" that", ", that"),
        "lines 2, 3, 4, 5, 6 and 11 more .16 of 16 rows",
    ),
    "comma_in_the_place_of_a_split": (
        table().replace("six on a wall,train", "six, on a wall"),
        "'on a wall' .first in .*line 11",
    ),
    "commas_under_a_header_with_one_too_many": (
        table([r[:2] for r in ROWS], ("image", "caption", "")).replace(" six", ",six"),
        "line 11",
    ),
    "two_meanings": (
        table(ROWS).replace(",val", ",dev").replace(",test", ",eval"),
        "eval may mean",
    ),
    "lists": (
        table().replace("a thing that is six on a wall", "['a thing' 'a wall']"),
        "one caption in every row.*line 11 .1 of 16 rows.*explode",
    ),
    "no_name": (table().replace("d09.png,", ","), "line 11"),
    "two_columns": (table(header=("image", "caption", "caption")), "line 1"),
    "other_encoding": (table().replace("six", "grün"), "line 11.*0xfc"),
    "zero_byte": (table().replace("six", "s\0x"), "line 11"),
}


@pytest.mark.parametrize("kind", LOST)
def test_what_would_be_lost_is_an_error_with_file_and_line(folder, kind):
    content, told_of = LOST[kind]
    encoding = "cp1252" if kind == "other_encoding" else "utf-8"
    path = write(folder, content, encoding=encoding)
    error = refusal(folder)
    assert re.search(told_of, error)
    assert str(path) in error or kind == "two_meanings"


def test_a_quoted_caption_may_span_lines_and_hold_commas(folder):
    caption = 'a sign, ""Stop"",\nand a tree, and a house'
    write(folder, table([(n, f'"{caption}"', s) for n, _, s in ROWS]))
    split = datasets.load(folder, "validation")
    assert split.captions == ((caption.replace('""', '"'),),) * 2


@pytest.mark.parametrize(
    ("captions", "received"),
    [
        (lambda c: [5], "5 in .*entry 1"),
        (lambda c: 5, "5 in .*entry 1"),
        (lambda c: [[c]], "entry 1"),
        (lambda c: {"raw": c}, "entry 1"),
        (lambda c: [True], "True in .*entry 1"),
        (lambda c: ["\ud83d"], "entry 1"),
    ],
)
def test_captions_that_are_no_text(folder, captions, received):
    write(folder, json.dumps(entries(captions)), "captions.json")

    assert re.search(received, refusal(folder))


@pytest.mark.parametrize(
    ("content", "received"),
    [
        ("not json", "line 1 column 1"),
        ("[" * 100_000, "recursion"),
        (json.dumps(entries())[:-40], "line 1"),
        ('[{"image": "d00.png", "caption": "a", "caption": "b"}]', "'caption' twice"),
        ('[{"image": "d00.png", "caption": "a"}, 5]', "5 in .*entry 2"),
        ('[{"image": "d00.png", "caption": "a"}, {"image": "x"}]', "entry 2"),
        (
            '{"image": "d00.png", "caption": "a"}\n{"image": 3, "caption": "b"}',
            "line 2",
        ),
        ('[{"image": " ", "caption": "a"}]', "name of an image.*entry 1"),
        (
            '{"images": [{"id": 1, "file_name": "d00.png"}],'
            ' "annotations": [{"image_id": 2, "caption": "a"}]}',
            "2 in .*annotation 1",
        ),
        (
            '{"images": [{"id": 1, "file_name": "a"}, {"id": 1, "file_name": "b"}],'
            ' "annotations": [{"image_id": 1, "caption": "a"}]}',
            "every id once.*image 2",
        ),
        ('{"images": [{"filename": "a", "sentences": ["b"]}]}', "`raw`.*image 1"),
    ],
)
def test_broken_json_is_refused_with_the_place(folder, content, received):

    write(folder, content, "captions.json")
    assert re.search(received, refusal(folder))


def test_captions_without_words_are_counted_with_their_lines(folder):
    texts = {"d03.png": "🎉🎉", "d05.png": "...", "d12.png": ""}
    rows = [(n, texts.get(n, c), s) for n, c, s in ROWS]
    path = write(folder, table(rows))
    message = f"3 without, left out: {path}, lines 5, 7 and 14"
    report = check.check(folder)
    assert any(message in warning for warning in report.warnings)
    assert [report.splits[s]["images"] for s in COUNTS] == [10, 1, 2]
    with pytest.warns(UserWarning) as caught:
        split = datasets.load(folder, "train")
    assert any(message in str(warning.message) for warning in caught)
    assert len(split) == 10


def test_a_row_without_its_last_fields_is_an_empty_caption(folder):
    """Flickr30k's results.csv has one."""
    path = write(folder, table().replace(",a thing that is six on a wall,train", ""))
    (warning,) = records.complaints(own.OwnData.read_records(folder))
    assert f"1 without, left out: {path}, line 11" in warning


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_composed_and_decomposed_names_are_one(tmp_path, form):
    other = {"NFC": "NFD", "NFD": "NFC"}[form]
    names = [f"Müller{i}.png" for i in range(16)]
    draw(tmp_path / "a", [unicodedata.normalize(other, name) for name in names])
    rows = [
        (unicodedata.normalize(form, name), *rest)
        for name, (_, *rest) in zip(names, ROWS, strict=True)
    ]
    write(tmp_path / "a", table(rows))
    assert read(tmp_path / "a") == COUNTS


def test_one_name_in_two_folders_is_ambiguous_unless_its_folder_is_said(tmp_path):
    for name in ("a", "b"):
        draw(tmp_path / "data" / name, ["x.png", "y.png"])
    rows = [("x.png", "a dog", ""), ("C:\\me\\b\\y.png", "a cat", "")]
    write(tmp_path / "data", table([*rows, ("gone.png", "a cow", "")]))
    report = check.check(tmp_path / "data")
    assert report.ambiguous == ["x.png"] and report.missing == ["gone.png"]
    assert "say the folder" in "\n".join(report.lines())


def test_an_image_that_is_missing_is_not_that_of_another_folder(tmp_path):
    draw(tmp_path / "data" / "val", ["1.png", "2.png"])
    draw(tmp_path / "data" / "train", ["2.png"])
    rows = [(f"{s}/{i}.png", f"a {s}", s) for s in ("train", "val") for i in (1, 2)]
    write(tmp_path / "data", table(rows))
    assert problems(tmp_path / "data") == {"missing": ["train/1.png"]}
    assert read(tmp_path / "data") == {"train": 1, "validation": 2}


@pytest.mark.parametrize(
    "names",
    [
        ("Training", "Validierung", "Test"),
        ("Train", "Eval", "TEST"),
        ("entraînement", "Validation", "test"),
        ("train2014", "val2014", "test2014"),
        ("训练集", "验证集", "测试集"),
    ],
)
def test_splits_by_other_names(tmp_path, names):
    parts = dict(zip(names, ([*"abcd"], [*"ef"], [*"gh"]), strict=True))
    rows = [(f"{x}.png", f"a {x}", part) for part, some in parts.items() for x in some]
    expected = {"train": 4, "validation": 2, "test": 2}
    draw(tmp_path / "column", [row[0] for row in rows])
    write(tmp_path / "column", table(rows))
    draw(tmp_path / "files", [row[0] for row in rows])
    for part, some in parts.items():
        draw(tmp_path / "folders" / part, [f"{x}.png" for x in some])
        # The same names in every folder, as the image folders of Hugging Face have.
        alike = [f"{i}.png" for i in range(len(some))]
        draw(tmp_path / "described" / part, alike)
        texts = table([(name, "a thing") for name in alike], ("file_name", "text"))
        write(tmp_path / "described" / part, texts, "metadata.csv")
        listed = [row[:2] for row in rows if row[2] == part]
        write(tmp_path / "files", table(listed, ("image", "caption")), f"{part}.csv")
    write(tmp_path / "folders", table([r[:2] for r in rows], ("image", "caption")))
    for layout in ("column", "files", "folders", "described"):
        assert read(tmp_path / layout) == expected, layout
        found = own.OwnData.read_records(tmp_path / layout)
        assert not [*records.notes(found)], layout


def test_hidden_folders_are_not_looked_into(tmp_path):
    for name in ("a", "a/.thumbnails", "a/.ipynb_checkpoints"):
        draw(tmp_path / "data" / name, NAMES)
        write(tmp_path / "data" / name, table())
    assert read(tmp_path / "data") == COUNTS


def test_unknown_splits_are_named_with_the_known(folder, tmp_path):
    path = write(folder, table([(n, c, "Holdout") for n, c, _ in ROWS]))
    error = refusal(folder)
    assert "'Holdout'" in error and "train, validation, test" in error
    assert f"{path}, line 2" in error
    for part in ("train", "holdout"):
        write(folder, table([r[:2] for r in ROWS], ("image", "caption")), f"{part}.csv")
    path.unlink()
    write(folder, table([("d00.png", "a")], ("image", "caption")), "train.csv")
    assert "holdout.csv, line 3" in refusal(folder)
    draw(tmp_path / "mixed" / "Train", ["a.png"])
    draw(tmp_path / "mixed" / "Other", ["b.png"])
    rows = [("a.png", "a", ""), ("b.png", "b", "")]
    write(tmp_path / "mixed", table(rows))
    assert "image='b.png'" in refusal(tmp_path / "mixed")


def test_words_in_file_names():
    assert split_names.split_in("captions_train2014") == "train"
    assert split_names.split_in("valCaptions") == "validation"
    assert split_names.split_in("latest") is None
    assert split_names.split_in("trainval") is None
    assert split_names.split_in("train_and_test") is None


@pytest.mark.parametrize("n_images", [2, 3, 8, 16])
def test_few_images_leave_no_split_empty(folder, n_images):
    write(folder, table([r[:2] for r in ROWS[:n_images]], ("image", "caption")))
    found = read(folder)
    assert sum(found.values()) == n_images and all(found.values())
    assert found.keys() >= {"train", "validation"}
    assert ("test" in found) == (n_images > 2)
    (note,) = records.notes(own.OwnData.read_records(folder))
    assert f"{n_images} of {n_images} images name no split" in note and "5 %" in note


def test_images_that_cannot_be_used_fill_no_split(folder):
    for name in NAMES[2:]:
        (folder / name).unlink()
    write(folder, table([r[:2] for r in ROWS], ("image", "caption")))
    assert read(folder) == {"train": 1, "validation": 1}


@pytest.mark.parametrize("given", [["train"], ["train", "test"]])
def test_a_validation_split_is_taken_from_train(folder, given):
    rows = [(n, c, given[i % len(given)]) for i, (n, c, _) in enumerate(ROWS[:8])]
    write(folder, table(rows))
    found = own.OwnData.read_records(folder)
    in_train = sum(row[2] == "train" for row in rows)
    assert read(folder)["validation"] == 1 and read(folder)["train"] == in_train - 1
    (note,) = records.notes(found)
    assert f"1 of the {in_train} images of train" in note and "5 %" in note
    (taken,) = (record for record in found if record.split == "validation")
    split = datasets.load(folder, "validation")
    assert split.file_names == (taken.name,) and split.notes == (note,)


def told(capsys, *arguments):
    status = cli.main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([(n, c, "test") for n, c, _ in ROWS], "split='train'"),
        (ROWS[:1], "split='validation'"),
        ([(n, "🎉", s) for n, _, s in ROWS], "12 without captions"),
        ([("none.png", "a", "test"), *ROWS[:14]], "0 of 1; 1 missing"),
        ([(f'"{n}', c, s) for n, c, s in ROWS], "quotation mark"),
        ([*ROWS, ("d00.png", "again", "test")], "'d00.png' in 'test' and 'train'"),
        ([], "no row"),
    ],
)
@pytest.mark.filterwarnings("ignore:Expected words")
def test_check_data_refuses_what_train_refuses(folder, capsys, tmp_path, rows, reason):
    write(folder, table(rows))
    status, output, _ = told(capsys, "check-data", "--data", folder)
    assert status == 1 and "cannot be trained on" in output and reason in output
    out = ("--preset", "scenes", "--out", tmp_path / "run")
    status, _, errors = told(capsys, "train", "--data", folder, *out)
    (error, *_) = errors.partition("sat-tf train: ")[2].splitlines()
    assert status == 2 and error in output


def test_check_data_and_train_tell_the_split(folder, capsys, tmp_path):
    write(folder, table([r[:2] for r in ROWS[:8]], ("image", "caption")))
    status, output, _ = told(capsys, "check-data", "--data", folder)
    note = output.partition("NOTE: ")[2].splitlines()[0]
    assert status == 0 and "8 of 8 images name no split" in note
    # Refused for its recipe, after the data have been read.
    recipe = ("--preset", "scenes", "--set", "model.word_vectors=nowhere.txt")
    status, _, errors = told(
        capsys, "train", "--data", folder, "--out", tmp_path / "run", *recipe
    )
    assert status == 2 and "nowhere.txt" in errors and note in errors


def test_check_data_of_no_path_is_an_error_of_use(capsys):
    status, output, errors = told(capsys, "check-data", "--data", "/no/such/place")
    assert status == 2 and not output and "/no/such/place" in errors
