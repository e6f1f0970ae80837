"""Labelled data sets: their columns, the splits that have labels to be scored by, and the names of their classes."""

from collections.abc import Sequence

import datasets
from accelerate import PartialState


def load_labelled(
    dataset: str,
    label_field: str,
    text_fields: Sequence[str] | None,
    usual_fields: Sequence[Sequence[str]],
    validation_split: str = "validation",
) -> tuple[datasets.DatasetDict, list[str]]:
    """The splits train, validation and, if it has labels, test of a data set, and the columns with its texts.

    Args:
        dataset: a folder with <split> files, or owner/name[:configuration] on the Hub.
        text_fields: the columns with texts; by default the first of `usual_fields` that the data set has.
        validation_split: the split that becomes "validation", as some data sets call theirs by other names.

    Raises:
        ValueError: a column or a split is missing, or `labelled_splits` refuses the labels.
    """
    name, _, configuration = dataset.partition(":")
    raw = datasets.load_dataset(name, configuration or None)
    if missing := {"train", validation_split} - set(raw):
        raise ValueError(
            f"dataset is {dataset}, which has no split {' and no '.join(sorted(missing))}, but {', '.join(raw)}: set "
            "validation_split to the one by which training is measured"
        )
    columns = raw["train"].column_names
    fields = text_fields or next((fields for fields in usual_fields if set(fields) <= set(columns)), None)
    if fields is None:
        usual = ", ".join(" and ".join(fields) for fields in usual_fields)
        raise ValueError(f"dataset is {dataset}: it has no usual text column ({usual}); name one of {columns}")
    if missing := [field for field in (*fields, label_field) if field not in columns]:
        raise ValueError(f"dataset is {dataset}: it has no column {', '.join(missing)}, but {', '.join(columns)}")
    splits = datasets.DatasetDict(train=raw["train"], validation=raw[validation_split])
    if "test" in raw and validation_split != "test":
        splits["test"] = raw["test"]
    labelled = labelled_splits(splits, label_field)
    if "test" in splits and "test" not in labelled:
        PartialState().print("The split test is left out, as training has none of its labels")
    return labelled, list(fields)


def class_names(rows: datasets.Dataset, column: str) -> dict[int | str, str]:
    """The classes that occur in `rows`, in their order, and what each is called, by the data set or by itself."""
    feature = rows.features[column]
    feature = getattr(feature, "feature", feature)  # of a list's members
    names = feature.names if isinstance(feature, datasets.ClassLabel) else []
    labels = sorted(_labels(rows, column))
    return {label: names[label] if names and label >= 0 else str(label) for label in labels}


def labelled_splits(dataset: datasets.DatasetDict, column: str) -> datasets.DatasetDict:
    """`dataset` without the splits whose labels are kept secret, as GLUE's public test sets say by −1 in every row.

    A label is a class, a list of classes, or a floating-point number. Classes of which training has none are no
    labels, nor are numbers that are all −1.

    Raises:
        ValueError: of a split's classes training has some but not all (lists may have others), or the validation
            split has no labels.
    """
    trained = _labels(dataset["train"], column)
    is_list = isinstance(dataset["train"][0][column], list)
    kept = datasets.DatasetDict()
    for split, rows in dataset.items():
        found = _labels(rows, column)
        unknown = found - trained
        if any(isinstance(label, float) for label in trained):
            is_secret = found == unknown == {-1.0}
        else:
            is_secret = bool(unknown) and unknown == found
            if unknown and not is_secret and not is_list:
                raise ValueError(
                    f"{column} is {min(map(repr, unknown))} in some rows of the split {split!r}, but in none of "
                    f"training, which has {', '.join(sorted(map(repr, trained)))}: leave those rows out or train on "
                    "such ones"
                )
        if is_secret and split == "validation":
            raise ValueError(f"no {column} of the validation split occurs in training: it cannot be scored by them")
        if not is_secret:
            kept[split] = rows
    return kept


def _labels(rows: datasets.Dataset, column: str) -> set:
    labels = rows[column]
    return {label for row in labels for label in (row if isinstance(row, list) else [row])}
