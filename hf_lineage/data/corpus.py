"""Corpora: documents from text, JSON Lines and Parquet files, from the Hub, or from the default corpus."""

import itertools
import os
from collections.abc import Iterator, Sequence

import datasets

from hf_lineage.data.corpus_files import cached, find_files, is_hub_name, with_stamp
from hf_lineage.data.embedded_corpus import load_embedded
from hf_lineage.data.hub_corpus import load_from_hub
from hf_lineage.data.text_files import check_choices, read_documents, read_parts
from hf_lineage.text_parts import Part


# raise it when reading changes, so that no stale cache is used
_READER_VERSION = 3
# rows read at a time
_BATCH = 1_000
_FEATURES = datasets.Features(text=datasets.Value("string"))


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
    - a folder with one file per split (train.txt, validation.jsonl, ...);
    - a data set on the Hub, "owner/name" or "owner/name:configuration".

    Files end in .txt, .jsonl, .json (JSON Lines) or .parquet; .txt and JSON also in .gz. See `read_documents` for
    `text_field`, `sample_by` and `on_invalid`. `streaming` reads documents only when they are needed; otherwise
    datasets caches them, and reads them again when a file has changed.

    `longest` splits documents of files with more characters into several rows, each cut after a blank; the column
    "continues" says whether the next row continues the document. So a file such as text8, a single line, needs little
    memory. `CorpusTexts` and `encode_corpus` put the rows of a document together again.

    Raises ValueError for a bad setting and CorpusError for everything else.
    """
    check_choices(sample_by, on_invalid)
    if longest is not None and longest < 1:
        raise ValueError(f"longest is {longest}; it must be at least 1 character, or None for whole documents")
    if source is None:
        corpus = load_embedded(split, whole=sample_by != "line")
        return corpus.to_iterable_dataset() if streaming else corpus
    if is_hub_name(source):
        return load_from_hub(source, split, text_field, streaming)
    settings = {
        "files": [with_stamp(path) for path in find_files(source, split)],
        "text_field": text_field,
        "sample_by": sample_by,
        "on_invalid": on_invalid,
        "version": _READER_VERSION,
    }
    read, features = _read_files, _FEATURES
    if longest is not None:
        settings["longest"] = longest
        read, features = _read_parts, datasets.Features(_FEATURES | {"continues": datasets.Value("bool")})
    if streaming:
        return datasets.IterableDataset.from_generator(read, features=features, gen_kwargs=settings)
    return cached(read, features, settings)


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
