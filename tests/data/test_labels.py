"""Splits with and without labels: classes, numbers and lists of classes."""

import datasets
import pytest

from hf_lineage.data import class_names, labelled_splits, load_labelled


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
        ([["O", "B-PER"], ["O"]], [["O", "B-LOC"]], True),
        ([[0, 1], [0]], [[-1, -1], [-1]], False),
        ([0, 1], [], True),
    ],
)
def test_splits_without_labels_are_left_out(train, test, is_kept):
    data = splits(train=train, validation=train[:1], test=test)
    assert list(labelled_splits(data, "label")) == ["train", "validation", *(["test"] if is_kept else [])]


def test_what_cannot_be_scored_is_named():
    with pytest.raises(ValueError, match=r"label is 2 in some rows of the split 'test'.*which has 0, 1"):
        labelled_splits(splits(train=[0, 1], validation=[0], test=[1, 2]), "label")
    with pytest.raises(ValueError, match="no label of the validation split occurs in training"):
        labelled_splits(splits(train=[0, 1], validation=[-1]), "label")


@pytest.fixture
def folder(tmp_path):
    for split, labels in (("train", [1, 0]), ("validation", [0]), ("test", [1])):
        rows = datasets.Dataset.from_dict({"premise": ["a"] * len(labels), "text": ["b"] * len(labels), "y": labels})
        rows.to_json(tmp_path / f"{split}.jsonl")
    return str(tmp_path)


def test_columns_and_splits_are_found_or_named(folder):
    usual = (["premise", "hypothesis"], ["text"])
    data, fields = load_labelled(folder, "y", None, usual)
    assert (list(data), fields) == (["train", "validation", "test"], ["text"])
    data, fields = load_labelled(folder, "y", ["premise"], usual, "test")
    assert (list(data), fields) == (["train", "validation"], ["premise"])
    assert data["validation"]["y"][:] == [1]
    with pytest.raises(ValueError, match=r"no split dev, but train, validation, test: set validation_split"):
        load_labelled(folder, "y", None, usual, "dev")
    with pytest.raises(ValueError, match=r"no usual text column \(premise and hypothesis\); name one of .*'text'"):
        load_labelled(folder, "y", None, usual[:1])
    with pytest.raises(ValueError, match="no column label, but premise, text, y"):
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
