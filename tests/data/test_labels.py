"""Splits with and without labels: classes, numbers and lists of classes."""

import json
import re

import datasets
import pytest

from hf_lineage.data import class_names, labelled_splits, load_labelled
from hf_lineage.files import CorpusError
from tests.data.test_questions import write_rows


def splits(**labels):
    return datasets.DatasetDict({name: datasets.Dataset.from_dict({"label": rows}) for name, rows in labels.items()})


@pytest.mark.parametrize(
    ("train", "test", "is_kept"),
    [
        ([0, 1, 1], [1, 1], True),
        ([0, 1, 1], [-1, -1], False),
        ([-1, 1], [-1, -1], True),
        (["yes", "no"], ["unknown"], False),
        ([0.5, 2.0], [-1.0, -1.0], False),
        ([0.5, 2.0], [0.25, -1.0], True),
        ([-1.0, 2.0], [-1.0, -1.0], True),
        ([["O", "B-PER"], ["O"]], [["O"]], True),
        ([[0, 1], [0]], [[-1, -1], [-1]], False),
        ([0, 1], [], True),
    ],
)
def test_splits_without_labels_are_left_out(train, test, is_kept):
    data = splits(train=train, validation=train[:1], test=test)
    assert list(labelled_splits(data, "label")) == ["train", "validation", *(["test"] if is_kept else [])]


def test_what_cannot_be_scored_is_named():
    with pytest.raises(ValueError, match="label is 2.*'test'.*0, 1"):
        labelled_splits(splits(train=[0, 1], validation=[0], test=[1, 2]), "label")
    with pytest.raises(ValueError, match="row 1: label is 'B-LOC'.*'test'.*'B-PER', 'O'"):
        labelled_splits(splits(train=[["O", "B-PER"]], validation=[["O"]], test=[["O"], ["O", "B-LOC"]]), "label")
    with pytest.raises(ValueError, match="no label.*validation.*training"):
        labelled_splits(splits(train=[0, 1], validation=[-1]), "label")


@pytest.fixture
def folder(tmp_path):
    for split, labels in (("train", [1, 0]), ("validation", [0]), ("test", [1])):
        rows = datasets.Dataset.from_dict({"premise": ["a"] * len(labels), "text": ["b"] * len(labels), "y": labels})
        rows.to_json(tmp_path / f"{split}.jsonl")
    return str(tmp_path)


def test_columns_and_splits_are_found_or_named(folder):
    usual = (["premise", "hypothesis"], ["text"])
    data = load_labelled(folder, "y", None, usual)
    assert (list(data.splits), data.text_fields) == (["train", "validation", "test"], ["text"])
    data = load_labelled(folder, "y", ["premise"], usual, "test")
    assert (list(data.splits), data.text_fields) == (["train", "validation"], ["premise"])
    assert data.splits["validation"]["y"][:] == [1]
    with pytest.raises(ValueError, match="dev.*train, validation, test.*validation_split"):
        load_labelled(folder, "y", None, usual, "dev")
    with pytest.raises(ValueError, match="premise and hypothesis.*'text'"):
        load_labelled(folder, "y", None, usual[:1])
    with pytest.raises(ValueError, match="label.*premise, text, y"):
        load_labelled(folder, "label", None, usual)


def test_classes_have_the_names_of_the_data_set():
    tags = datasets.ClassLabel(names=["O", "B-PER", "I-PER"])
    rows = datasets.Dataset.from_dict(
        {"tags": [[0, 2], [0]], "tag": [1, -1], "word": ["b", "a"]},
        datasets.Features({"tags": datasets.List(tags), "tag": tags, "word": datasets.Value("string")}),
    )
    assert class_names(rows, "tags") == {0: "O", 2: "I-PER"}
    assert class_names(rows, "tag") == {-1: "-1", 1: "B-PER"}
    assert class_names(rows, "word") == {"a": "a", "b": "b"}


def load(tmp_path, label="label", ending="csv", **texts_and_options):
    """What is read of a file per split, each given as its text."""
    options = {name: texts_and_options.pop(name) for name in ("problem_type", "encoding") if name in texts_and_options}
    for split, text in texts_and_options.items():
        (tmp_path / f"{split}.{ending}").write_text(text, encoding="utf-8")
    return load_labelled(tmp_path, label, None, (["tokens"], ["text"]), **options)


def csv_of(*labels, text="a"):
    return "text,label\n" + "".join(f"{text},{label}\n" for label in labels)


@pytest.mark.parametrize(
    ("cells", "problem_type", "classes", "said"),
    [
        # classes
        (["0", "1"], None, [0, 1], "2 classes (0, 1) from the column's whole numbers"),
        (["0.0", "1.0"], None, [0, 1], "label: 2 classes (0, 1) from"),
        (["0.0", "1.0"], None, [0, 1], "all whole, such as 0.0; for regression give --problem_type regression"),
        (["3", "1.0"], None, [1, 3], "all whole, such as 1.0; for regression give --problem_type regression"),
        (["0.0", "1.0"], "single_label_classification", [0, 1], "such as 0.0, as problem_type says"),
        (["positive ", "negative", "positive"], None, ["negative", "positive"], "2 classes (negative, positive)"),
        (["007", "7"], None, ["007", "7"], "2 classes (007, 7) from the column's text"),
        (["10", "9", " 9"], None, [9, 10], "2 classes (9, 10)"),
        (["true", "false"], None, ["false", "true"], "text"),
        (['"[""x"", ""y""]"', "[]"], None, ["x", "y"], "several of 2 classes (x, y) from the column's lists of text"),
        (["0.5", "1.5"], "single_label_classification", [0.5, 1.5], "as problem_type says"),
        (["x", "y"], "multi_label_classification", ["x", "y"], "several of 2 classes"),
        # numbers
        (["0.5", "1.0"], None, [], "regression, since the column holds 2 different numbers from 0.5 to 1, some with"),
        ([f"{i}.0" for i in range(30)], None, [], "regression, since the column holds 30 different numbers"),
        ([f"{i}.0" for i in range(30)], None, [], "for classes give --problem_type single_label_classification"),
        (["0", "1"], "regression", [], "regression, as problem_type says"),
        (["1e-3", "2", "-.5"], None, [], "regression, since the column holds 3 different numbers from -0.5 to 2"),
    ],
)
def test_what_labels_are_is_decided_by_the_whole_column_and_said(tmp_path, capsys, cells, problem_type, classes, said):
    data = load(tmp_path, train=csv_of(*cells), validation=csv_of(*cells), problem_type=problem_type)
    assert list(data.labels.classes) == classes
    assert said in capsys.readouterr().out
    encoded = [data.labels.encode(label) for label in data.splits["train"]["label"]]
    kinds = {"regression": float, "single_label_classification": int, "multi_label_classification": list}
    assert {type(label) for label in encoded} == {kinds[data.labels.problem_type]}


def test_labels_are_what_the_heads_read(tmp_path):
    rows = "\n".join(f'{{"text": "a", "label": {label}}}' for label in ('["b", "a"]', "[]", '["c"]'))
    labels = load(tmp_path, ending="jsonl", train=rows, validation=rows).labels
    assert labels.config["problem_type"] == "multi_label_classification"
    assert [labels.encode(label) for label in (["b", "a"], [], ["c"])] == [[1, 1, 0], [0, 0, 0], [0, 0, 1]]
    assert labels.config["id2label"] == {0: "a", 1: "b", 2: "c"}
    # a 1 or 0 for each class is as good as the list of those that have a 1
    rows = "\n".join(f'{{"text": "a", "label": {label}}}' for label in ([1, 1, 0], [0, 0, 0], [0, 0, 1]))
    data = load(tmp_path, ending="jsonl", train=rows, validation=rows)
    assert [data.labels.encode(label) for label in data.splits["train"]["label"]] == [[1, 1, 0], [0, 0, 0], [0, 0, 1]]


def test_white_space_and_doubtful_names_are_said(tmp_path, capsys):
    cells = ["positive ", "positive", "Positive", "NA", "b  c", "b c"]
    load(tmp_path, train=csv_of(*cells), validation=csv_of("positive"))
    out = capsys.readouterr().out
    assert "the white space around 1 labels is left out, such as around 'positive ' in" in out
    assert "train.csv, line 2" in out
    assert "the classes 'Positive' and 'positive' differ by case or blanks only" in out
    assert "the classes 'b  c' and 'b c' differ" in out
    assert "'NA' is read as the name of a class" in out


def test_labels_that_look_alike_are_one_class(tmp_path, capsys):
    cells = ["caf\u00e9", "cafe\u0301", "\u200bx", "x", "x\u00ad", "\u0645\u200c\u06cc", "\u0645\u06cc"]
    data = load(tmp_path, train=csv_of(*cells), validation=csv_of("x"))
    assert set(data.labels.classes) == {"caf\u00e9", "x", "\u0645\u200c\u06cc", "\u0645\u06cc"}
    out = capsys.readouterr().out
    assert (
        "3 labels are read without invisible characters and with composed letters (NFC), such as 'cafe\\u0301'" in out
    )
    lists = ['"[""x "", ""y""]"', '"["" x""]"']
    assert load(tmp_path, train=csv_of(*lists), validation=csv_of(*lists)).labels.classes == ("x", "y")


@pytest.mark.parametrize(
    ("rows", "names", "vectors"),
    [
        # one 1 in each list of two, which else would hold both classes
        ([[1, 0], [0, 1], [0, 1]], "several of 2 classes (0, 1) from the column's lists of 2 zeros and ones", None),
        # classes by number
        ([[0, 1], [1]], "from the column's lists of whole numbers", [[1, 1], [0, 1]]),
        ([[0], [1]], "from the column's lists of whole numbers", [[1, 0], [0, 1]]),
    ],
)
def test_lists_of_two_with_one_1_are_vectors(tmp_path, capsys, rows, names, vectors):
    lines = "\n".join(json.dumps({"text": "a", "label": row}) for row in rows)
    data = load(tmp_path, ending="jsonl", train=lines, validation=lines)
    assert names in capsys.readouterr().out
    assert [data.labels.encode(label) for label in data.splits["train"]["label"]] == (vectors or rows)


@pytest.mark.parametrize(
    ("ending", "train", "place"),
    [
        ("csv", csv_of("0", "", "1"), r"train\.csv, line 3, column 'label'.*missing \(''\)"),
        ("csv", csv_of("0", "1", "NA"), r"train\.csv, line 4, column 'label'.*'NA', but others are numbers"),
        ("csv", csv_of("0.5", "null", "1"), r"train\.csv, line 3, column 'label'.*'null'"),
        ("csv", csv_of("yes", "no", " "), r"train\.csv, line 4, column 'label'.*missing"),
        ("tsv", "text\tlabel\na\t0\na\t\n", r"train\.tsv, line 3, column 'label'.*missing"),
        ("jsonl", '{"text": "a", "label": null}', r"train\.jsonl, line 1, column 'label'.*missing \(None\)"),
        ("jsonl", '{"text": "a", "label": "x"}\n\n{"text": "a"}', r"train\.jsonl, line 3, column 'label'.*missing"),
        ("jsonl", '{"text": "a", "label": NaN}', r"train\.jsonl, line 1, column 'label'.*missing"),
        ("jsonl", '{"text": "a", "label": ["x", null]}', r"train\.jsonl, line 1, column 'label'.*missing"),
        ("jsonl", '{"text": null, "label": 1}', r"train\.jsonl, line 1.*'text' is missing"),
        ("jsonl", '{"text": ["a"], "label": "x"}\n{"text": "a", "label": "x"}', r"line 1, column 'text' holds a list"),
        ("jsonl", '{"text": {"a": 1}, "label": 1}', r"train\.jsonl, line 1.*'text' is \{'a': 1\} \(dict\)"),
        (
            "jsonl",
            '{"text": "a", "label": "x"}\n{"text": "a", "label": 1}',
            r"line 1, column.*'x', 1 in .*line 2, column",
        ),
        (
            "jsonl",
            '{"tokens": ["a", "b"], "label": ["x"]}',
            r"train\.jsonl, line 1: tokens has 2 words, but label 1 tags",
        ),
        (
            "jsonl",
            '{"tokens": ["a", null], "label": ["x", "y"]}',
            r"train\.jsonl, line 1, word 2: .*'tokens' is missing",
        ),
        ("json", '[{"text": "a", "label": "x"}, {"text": "a", "label": ""}]', r"train\.json, row 2, column 'label'"),
    ],
)
def test_what_is_missing_is_named_by_file_line_and_column(tmp_path, ending, train, place):
    with pytest.raises(CorpusError, match=place):
        load(tmp_path, ending=ending, train=train, validation=train)


def test_labels_that_do_not_fit_are_named(tmp_path):
    with pytest.raises(CorpusError, match=r"validation\.csv, line 3: label is 2 .*'validation'.*which has 0, 1"):
        load(tmp_path, train=csv_of(0, 1), validation=csv_of(0, 2))
    with pytest.raises(CorpusError, match=r"train\.csv, line 3, column 'label'.*'x'"):
        load(tmp_path, train=csv_of(0, "x"), validation=csv_of(0), problem_type="regression")
    with pytest.raises(ValueError, match="every label of training is '1'"):
        load(tmp_path, train=csv_of(1, 1), validation=csv_of(1))
    with pytest.raises(ValueError, match="problem_type is 'classes'"):
        load(tmp_path, train=csv_of(0, 1), validation=csv_of(0), problem_type="classes")
    rows = '{"text": "a", "label": ["x"]}\n{"text": "a", "label": ["y"]}'
    other = rows.replace("y", "z")
    (tmp_path / "lists").mkdir()
    with pytest.raises(CorpusError, match=r"validation\.jsonl, line 2: label is 'z'"):
        load(tmp_path / "lists", ending="jsonl", train=rows, validation=other)
    with pytest.raises(CorpusError, match=r"train\.jsonl, line 1: problem_type is regression.*label.*list"):
        load(tmp_path / "lists", ending="jsonl", train=rows, validation=rows, problem_type="regression")


def test_splits_may_be_of_different_kinds(tmp_path):
    (tmp_path / "validation.jsonl").write_text('{"text": "a", "label": 1}\n{"text": "b", "label": 0}')
    data = load(tmp_path, train=csv_of("0", "1"))
    assert [data.splits[split]["label"][:] for split in ("train", "validation")] == [[0, 1], [1, 0]]
    data = load(tmp_path, train=csv_of("0", "1"), problem_type="regression")
    assert [data.splits[split]["label"][:] for split in ("train", "validation")] == [[0.0, 1.0], [1.0, 0.0]]


@pytest.mark.parametrize(
    ("test", "why"),
    [
        ("text\na\n", r"test\.csv, line 2: there is no column 'label'; it has text"),
        ("text,Label\na,1\n", r"there is no column 'label'; it has text, Label"),
        ("text,label\na,\nb,\n", "its column 'label' has no label in any row"),
        ("text,label\na,-1\nb,-1\n", r"training has none of its labels \(-1\)"),
    ],
)
def test_a_test_split_without_labels_is_left_out_and_says_why(tmp_path, capsys, test, why):
    data = load(tmp_path, train=csv_of(0, 1), validation=csv_of(0), test=test)
    assert list(data.splits) == ["train", "validation"]
    assert re.search(f"The split test is left out: .*{why}", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        ((0, 1), (0, -1), r"test\.csv, line 3: label is -1 .*secret"),
        ((0, 1), (0, ""), r"test\.csv, line 3, column 'label': the label is missing"),
        ((0, 1), (0, 2), "give --problem_type regression"),
        # the dash of SNLI
        (("yes", "no"), ("no", "-"), "label is '-' .*leave those rows out, or add such rows to training$"),
    ],
)
def test_a_partly_secret_test_split_is_named(tmp_path, train, test, message):
    with pytest.raises(CorpusError, match=message):
        load(tmp_path, train=csv_of(*train), validation=csv_of(*train), test=csv_of(*test))


def test_a_fraction_that_is_a_class_must_be_one_of_training(tmp_path):
    """The line that decides on regression names problem_type, which makes classes of fractions."""
    rows = {"train": [0.5, 1.5], "validation": [1.5], "test": [0.5, 4.5]}
    for split, labels in rows.items():
        write_rows(tmp_path, "jsonl", [{"text": "a", "label": label} for label in labels], split)
    kinds = {"problem_type": "single_label_classification"}
    with pytest.raises(ValueError, match=r"test\.jsonl, line 2.*4\.5.*0\.5, 1\.5"):
        load_labelled(tmp_path, "label", None, [["text"]], **kinds)
    write_rows(tmp_path, "jsonl", [{"text": "a", "label": 0.5}], "test")
    found = load_labelled(tmp_path, "label", None, [["text"]], **kinds)
    assert found.labels.classes == (0.5, 1.5)
    assert found.labels.encode(1.5) == 1


def test_numbers_that_may_be_secret_are_said(tmp_path, capsys):
    data = load(tmp_path, train=csv_of(0.5, 2), validation=csv_of(1), test=csv_of(0.5, -1))
    assert data.splits["test"]["label"][:] == [0.5, -1.0]
    assert re.search(r"1 rows of the split test have -1.*test\.csv, line 3", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("label", "fields", "message"),
    [
        ("lable", None, "label_field is lable, but .* no column lable; it has text, label: set label_field"),
        ("label", ["txt"], "text_fields is txt, but .* no column txt; it has text, label: set text_fields"),
        ("label", ["text", "label"], "text_fields is text label, and label_field is label"),
        ("label", ["text", "text"], "text_fields is text text"),
    ],
)
def test_a_wrong_column_names_its_argument(tmp_path, label, fields, message):
    for split in ("train", "validation"):
        (tmp_path / f"{split}.csv").write_text(csv_of(0, 1))
    with pytest.raises(ValueError, match=message):
        load_labelled(tmp_path, label, fields, (["sentence1", "sentence2"], ["text"]))


def test_a_column_that_one_split_lacks_names_its_argument(tmp_path):
    with pytest.raises(CorpusError, match=r"validation\.csv.*'label' \(label_field\); it has text, Label"):
        load(tmp_path, train=csv_of(0, 1), validation="text,Label\na,1\n")
    with pytest.raises(CorpusError, match=r"validation\.csv.*'text' \(text_field\); it has Text, label"):
        load(tmp_path, train=csv_of(0, 1), validation="Text,label\na,1\n")


@pytest.mark.parametrize("ending", ["jsonl", "json", "csv", "tsv", "parquet"])
def test_every_format_has_words_and_tags(tmp_path, ending):
    rows = [{"tokens": ["Ada", "paints", ","], "tags": ["N", "V", "X"]}, {"tokens": ["5", '"'], "tags": ["N", "X"]}]
    for split in ("train", "validation"):
        write_rows(tmp_path, ending, rows, split)
    data = load_labelled(tmp_path, "tags", None, (["tokens"],))
    assert data.labels.problem_type == "tagging"
    assert data.splits["train"]["tokens"][:] == [row["tokens"] for row in rows]
    assert data.splits["train"]["tags"][:] == [row["tags"] for row in rows]


def test_a_cell_that_is_no_list_of_words_is_named(tmp_path):
    for split in ("train", "validation"):
        (tmp_path / f"{split}.tsv").write_text('tokens\ttags\n["Ada"]\t["N"]\nAda\t["N"]\n')
    with pytest.raises(CorpusError, match=r"train\.tsv, line 3, column 'tokens': 'Ada' is not a JSON list"):
        load_labelled(tmp_path, "tags", None, (["tokens"],))


def test_texts_with_several_classes_stay_texts(tmp_path):
    rows = [{"text": "[Ada] paints", "label": ["a", "b"]}, {"text": "[1]", "label": ["b"]}]
    for split in ("train", "validation"):
        write_rows(tmp_path, "csv", rows, split)
    data = load_labelled(tmp_path, "label", None, (["text"],))
    assert data.labels.problem_type == "multi_label_classification"
    assert data.splits["train"]["text"][:] == ["[Ada] paints", "[1]"]


def test_texts_stay_texts(tmp_path, capsys):
    cells = ["007", "None", "NA", "null", "1e5", "true", "", "3.50"]
    text = "text,label\n" + "".join(f"{cell},{number % 2}\n" for number, cell in enumerate(cells))
    data = load(tmp_path, train=text, validation=text)
    assert data.splits["train"]["text"][:] == cells
    assert "text: 2 texts are empty, the first in" in capsys.readouterr().out
    folder = tmp_path / "json"
    folder.mkdir()
    rows = "\n".join(
        f'{{"text": {cell}, "label": {n % 2}}}' for n, cell in enumerate(('"007"', "7", "3.50", '"null"'))
    )
    data = load(folder, ending="jsonl", train=rows, validation=rows)
    assert data.splits["train"]["text"][:] == ["007", "7", "3.50", "null"]


# the inputs of the issue: (train, validation) and the place that is named, or the texts that are read
MESSY = {
    "json_null_label_words": r"train\.jsonl, line 4, column 'label'",
    "json_null_text": r"train\.jsonl, line 6: .*'text' is missing",
    "label_missing_int": r"train\.csv, line 5, column 'label'",
    "semicolon": ["the fox bit me 0", "dawn came softly 1"],
    "text_mixed_numbers": ["1000", "1001"],
    "text_none_validation": ["old roof fell in 0", "dawn came softly 1"],
}


@pytest.mark.parametrize("case", MESSY)
def test_messy_data_sets_are_read_or_the_place_is_named(shared_data, case):
    folder = shared_data.parent / "cases" / "messy_labels" / case
    if not folder.is_dir():
        pytest.skip(f"needs {folder}")
    if isinstance(MESSY[case], str):
        with pytest.raises(CorpusError, match=MESSY[case]):
            load_labelled(folder, "label", None, (["text"],))
        return
    data = load_labelled(folder, "label", None, (["text"],))
    assert data.splits["test"]["text"][:2] == MESSY[case]
    assert data.splits["test"]["label"][:2] == [0, 1]
    if case == "text_none_validation":
        assert data.splits["validation"]["text"][5] == "None"
