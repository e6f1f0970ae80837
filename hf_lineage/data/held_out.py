"""Held-out parts of a corpus that has none: cut from its training text by document, the same on every machine."""

import itertools
from collections.abc import Callable, Mapping
from hashlib import blake2b

import datasets
import numpy as np
from accelerate import PartialState

from hf_lineage.data.corpus_files import has_split, is_hub_name
from hf_lineage.data.hub_corpus import MissingSplitError, load_hub_split
from hf_lineage.data.text_files import CorpusError


# rows read at a time
_BATCH = 1_000
_RANGE = 2**64


def missing_splits(
    load: Callable, names: Mapping[str, str], source, share: float, has: Callable = has_split
) -> list[str]:
    """The parts of `names` ("validation" -> its name in the source) that the source lacks and that may be cut.

    Another name than the usual one is one that somebody gave. `has` tells whether files hold a split.

    Raises:
        CorpusError: a split with another name, or the training text, is not there; `load` of it says what is.
        ValueError: share lies outside (0, 0.5).
    """
    if not 0 < share < 0.5:
        raise ValueError(f"validation_share is {share}; it must lie between 0 and 0.5")
    missing = []
    for part, name in names.items():
        if source is None:
            is_there = name == part
        elif is_hub_name(source):
            is_there = part == "train" or _hub_has(source, name)
        else:
            is_there = has(source, name)
        if not is_there:
            if part == "train" or name != part:
                load(name)
            missing.append(part)
    return missing


def _hub_has(source, split):
    try:
        load_hub_split(source, split, streaming=True)
    except MissingSplitError:
        return False
    return True


def with_held_out(
    load: Callable, names: Mapping[str, str], missing: list[str], share: float, source, column: str
) -> dict[str, datasets.Dataset]:
    """`load` of each split in `names`; the `missing` ones are cut from the training text.

    Documents with equal text in `column` stay together. One printed line says what was cut.
    """
    corpora = {part: load(name) for part, name in names.items() if part not in missing}
    if missing:
        corpora |= cut(corpora["train"], missing, share, source, column)
        sizes = " and ".join(f"{len(corpora[part]):,} ({part})" for part in missing)
        PartialState().print(
            f"{source}: {sizes} of {sum(len(corpora[part]) for part in ('train', *missing)):,} rows are held out, "
            f"whole documents chosen by their text (validation_share {share})"
        )
    return {part: corpora[part] for part in names}


def number_of(text: str) -> int:
    """A document's place between 0 and 2^64, by its text alone."""
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


def cut(corpus: datasets.Dataset, parts: list[str], share: float, source, column: str) -> dict[str, datasets.Dataset]:
    """`share` of the documents, but at least one, for each of `parts`, and the rest for "train".

    A document is a row of `corpus`, or several that "continues" joins; its first row decides where it goes.
    """
    numbers, begins = [], []
    for batch in corpus.iter(_BATCH):
        for text, goes_on in zip(batch[column], batch.get("continues") or itertools.repeat(False), strict=False):
            inside = bool(begins) and begins[-1][1]
            numbers.append(numbers[-1] if inside else number_of(text))
            begins.append((not inside, goes_on))
    numbers = np.array(numbers, np.uint64)
    is_first = np.array([first for first, _ in begins], bool)
    values, counts = np.unique(numbers[is_first], return_counts=True)
    if len(values) <= len(parts):
        raise CorpusError(
            f"{source} has {len(values)} different documents, too few to hold some out for {' and '.join(parts)}: cut "
            "them finer (sample_by line or paragraph), or give a folder with a file per split"
        )
    size = max(1, round(share * counts.sum()))
    found, start = {}, 0
    # of the documents in the order of their numbers: `size` for each part, and one or more left over
    for place, part in enumerate(parts, start=1):
        end = start + int(np.searchsorted(np.cumsum(counts[start:]), size)) + 1
        end = min(end, len(values) - (len(parts) - place) - 1)
        found[part] = np.isin(numbers, values[start:end])
        start = end
    found["train"] = np.isin(numbers, values[start:])
    return {part: corpus.select(np.flatnonzero(rows)) for part, rows in found.items()}


def bounds_of(parts: list[str], share: float) -> dict[str, tuple[int, int]]:
    """Part -> its range of `number_of`: `cut` for a stream, whose documents are not counted before."""
    step = int(share * _RANGE)
    bounds = {part: (place * step, (place + 1) * step) for place, part in enumerate(parts)}
    return bounds | {"train": (len(parts) * step, _RANGE)}
