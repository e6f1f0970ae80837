"""Which splits of a labelled data set have labels to be scored by."""

import datasets


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
