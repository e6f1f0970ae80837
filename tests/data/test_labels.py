"""Splits with and without labels: classes, numbers and lists of classes."""

import datasets
import pytest

from hf_lineage.data import labelled_splits


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
