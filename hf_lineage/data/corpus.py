"""Corpora: documents from text, JSON Lines and Parquet files, from the Hub, or from the default corpus."""

import itertools
import math
import os
from collections.abc import Iterator, Sequence
from functools import lru_cache

import datasets
from accelerate import PartialState

from hf_lineage.data.corpus_files import cached, find_files, is_hub_name, with_stamp
from hf_lineage.data.embedded_corpus import load_embedded
from hf_lineage.data.held_out import bounds_of, missing_splits, number_of, with_held_out
from hf_lineage.data.hub_corpus import load_from_hub
from hf_lineage.data.text_files import CorpusError, check_choices, read_documents, read_parts, suffix_of
from hf_lineage.text_parts import Part


# raise it when reading changes, so that no stale cache is used
_READER_VERSION = 3
# rows read at a time
_BATCH = 1_000
_FEATURES = datasets.Features(text=datasets.Value("string"))
# lines per document of a text without blank lines; fewer, where they would make fewer documents than this
_LINES, _DOCUMENTS = 10, 20


def load_corpus(
    source: str | os.PathLike | Sequence[str | os.PathLike] | None = None,
    split: str = "train",
    *,
    text_field: str = "text",
    sample_by: str = "line",
    streaming: bool = False,
    on_invalid: str = "error",
    longest: int | None = None,
) -> datasets.Dataset | datasets.IterableDataset:
    """A corpus with one column "text", one row per document; documents without text are left out.

    `source` is one of:
    - None: English Wikipedia articles from the gensim wheel (extra `demo`), 90 % for "train", 5 % each for
      "validation" and "test"; a document is a paragraph if `sample_by` is "line", else an article with one paragraph
      per line; without gensim, Python's language reference;
    - a file, a list of files or a glob pattern, all for the split "train";
    - a folder with one file per split (train.txt, validation.jsonl, ...) or its shards (train-00.txt, train-01.txt,
      ...), or with files of other names, which are all for the split "train", those of its sub-folders too;
    - a .txt file that lists some shards of such a folder, one per line, for "train"; the other splits are those of
      the folder;
    - a data set on the Hub, "owner/name" or "owner/name:configuration".

    Files end in .txt, .jsonl, .json (JSON Lines), .csv, .tsv or .parquet; all but the last also in .gz. See
    `read_documents` for `text_field`, `sample_by` and `on_invalid`. If a text file is all that a split has, and has no
    blank line, `sample_by="paragraph"` takes every 10 lines as a document (in a file of fewer than 200 lines a
    twentieth of them), and a printed line says so. `streaming` reads documents only when they are needed; otherwise
    datasets caches them, and reads them again when a file has changed.

    `longest` splits documents of files with more characters into several rows, each cut after a blank; the column
    "continues" says whether the next row continues the document. So a file such as text8, a single line, needs little
    memory. `CorpusTexts` and `encode_corpus` put the rows of a document together again.

    Raises ValueError for a bad setting and CorpusError for everything else.
    """
    return _load(source, split, text_field, sample_by, streaming, on_invalid, longest)


def load_splits(
    source: str | os.PathLike | Sequence[str | os.PathLike] | None = None,
    *,
    validation_split: str = "validation",
    test_split: str = "test",
    validation_share: float = 0.05,
    text_field: str = "text",
    sample_by: str = "line",
    streaming: bool = False,
    on_invalid: str = "error",
    longest: int | None = None,
) -> dict[str, datasets.Dataset | datasets.IterableDataset]:
    """`load_corpus` of train, validation and test; held-out parts that `source` lacks are cut from its training text.

    `validation_share` of the documents go to each part that is missing, chosen by their text: the same documents on
    every machine and in every order of the files. Documents with equal text stay together. A printed line says so. A
    split that has another name than the usual one must be there. `streaming` is for the training text only.

    Raises ValueError for a bad setting and CorpusError for everything else, such as a corpus of too few documents.
    """
    names = {"train": "train", "validation": validation_split, "test": test_split}

    def load(name: str, bounds=None, streaming=streaming):
        return _load(source, name, text_field, sample_by, streaming and name == "train", on_invalid, longest, bounds)

    missing = missing_splits(load, names, source, validation_share)
    if streaming and missing:
        return _streamed(load, names, missing, validation_share, source)
    return with_held_out(load, names, missing, validation_share, source, "text")


def _streamed(load, names, missing, share, source):
    """As `with_held_out`, for a training text that is read while training."""
    if is_hub_name(source):
        raise CorpusError(
            f"the data set {source} has no split {' or '.join(missing)}, and a stream of the Hub is not cut: "
            "name the split to use (validation_split, test_split), or leave out streaming"
        )
    bounds = bounds_of(missing, share)
    corpora = {part: load(name) for part, name in names.items() if part != "train" and part not in missing}
    for part in missing:
        corpora[part] = load("train", bounds[part], streaming=False)
    sizes = " and ".join(f"{len(corpora[part]):,} rows ({part})" for part in missing)
    PartialState().print(
        f"{source}: {sizes} are held out, whole documents chosen by their text (validation_share {share})"
    )
    return {"train": load("train", bounds["train"]), **corpora}


def _load(source, split, text_field, sample_by, streaming, on_invalid, longest, bounds=None):
    """`load_corpus`; with `bounds` only the documents whose number lies within."""
    check_choices(sample_by, on_invalid)
    if longest is not None and longest < 1:
        raise ValueError(f"longest is {longest}; it must be at least 1 character, or None for whole documents")
    if source is None:
        corpus = load_embedded(split, whole=sample_by != "line")
        return corpus.to_iterable_dataset() if streaming else corpus
    if is_hub_name(source):
        return load_from_hub(source, split, text_field, streaming)
    files = [with_stamp(path) for path in find_files(source, split)]
    settings = {
        "files": files,
        "text_field": text_field,
        "sample_by": _unit_of(files, sample_by, on_invalid),
        "on_invalid": on_invalid,
        "version": _READER_VERSION,
    }
    read, features = _read_files, _FEATURES
    if longest is not None:
        settings["longest"] = longest
        read, features = _read_parts, datasets.Features(_FEATURES | {"continues": datasets.Value("bool")})
    if bounds is not None:
        # a range in a list would be taken for shards
        settings |= {"read": read.__name__, "bounds": bounds}
        read = _read_within
    # a mistake, such as a wrong text_field, shows now and not in the midst of training
    if (streaming or bounds is not None) and next(read(**settings), None) is None:
        raise CorpusError(f"the part of {source} from {bounds} of 2^64 has no document: raise validation_share")
    if streaming:
        return datasets.IterableDataset.from_generator(read, features=features, gen_kwargs=settings)
    return cached(read, features, settings)


def _unit_of(files, sample_by, on_invalid):
    """`sample_by`, or how many lines are a document of a text file that no blank line parts."""
    if sample_by != "paragraph" or len(files) > 1 or not suffix_of(files[0][0]).startswith(".txt"):
        return sample_by
    return _lines_of_document(files[0], on_invalid) or sample_by


@lru_cache
def _lines_of_document(file, on_invalid):
    """How many lines make a document of a text file; None if blank lines part them, or there is one line."""
    path, _, _ = file

    def texts(sample_by):
        parts = read_parts(path, sample_by=sample_by, on_invalid=on_invalid)
        return (1 for part in parts if not isinstance(part, Part))

    if sum(itertools.islice(texts("paragraph"), 2)) > 1 or (lines := sum(texts("line"))) == 1:
        return None
    number = min(_LINES, math.ceil(lines / _DOCUMENTS))
    PartialState().print(
        f"{path} has no blank line: every {number} lines are a document (sample_by paragraph; line makes each one "
        "a document)"
    )
    return number


def _read_within(read, bounds, **settings):
    """The documents of another reader whose number lies within `bounds`."""
    lowest, end = bounds
    is_inside = continues = False
    for row in {"_read_files": _read_files, "_read_parts": _read_parts}[read](**settings):
        if not continues:
            is_inside = lowest <= number_of(row["text"]) < end
        continues = row.get("continues", False)
        if is_inside:
            yield row


class CorpusTexts:
    """Iterates over the texts of a corpus from `load_corpus`, any number of times; long texts come in `Part`s."""

    def __init__(self, corpus: datasets.Dataset | datasets.IterableDataset):
        self.corpus = corpus

    def __iter__(self) -> Iterator[str]:
        for batch in self.corpus.iter(_BATCH):
            for text, goes_on in zip(batch["text"], batch.get("continues") or itertools.repeat(False), strict=False):
                yield Part(text) if goes_on else text


def _read_files(files, text_field, sample_by, on_invalid, version):
    """Rows of all files; the files' sizes and times and the version only tell the entries of the cache apart."""
    for path, _, _ in files:
        for text in read_documents(path, text_field=text_field, sample_by=sample_by, on_invalid=on_invalid):
            yield {"text": text}


def _read_parts(files, text_field, sample_by, on_invalid, version, longest):
    options = {"text_field": text_field, "sample_by": sample_by, "on_invalid": on_invalid}
    for path, _, _ in files:
        for text in read_parts(path, **options, longest=longest):
            yield {"text": text, "continues": isinstance(text, Part)}
