"""Corpora from the Hub."""

import datasets

from hf_lineage.data.text_files import CorpusError, check_field, has_text


class MissingSplitError(CorpusError):
    """The data set is there, but not this part of it."""


def load_hub_split(source, split, streaming=False):
    name, _, configuration = source.partition(":")
    try:
        return datasets.load_dataset(name, configuration or None, split=split, streaming=streaming)
    except ValueError as error:
        if "split" not in str(error):
            raise CorpusError(f"the data set {source} cannot be read: {error}") from error
        raise MissingSplitError(f"the data set {source} has no split {split!r}: {error}") from error
    # errors of many kinds: no network, no such data set, configuration or split
    except Exception as error:
        raise CorpusError(
            f"the corpus {source} is not a file or folder, and the split {split!r} of a data set of that name could "
            f"not be loaded from the Hub: {error}"
        ) from error


def load_from_hub(source, split, text_field, streaming):
    corpus = load_hub_split(source, split, streaming)
    # a streamed data set may not know its columns before its first row
    check_field(f"the data set {source}", text_field, corpus.column_names or list(next(iter(corpus))))
    corpus = corpus.select_columns([text_field])
    if text_field != "text":
        corpus = corpus.rename_column(text_field, "text")
    return corpus.filter(_row_has_text, input_columns="text")


def _row_has_text(text):
    # keeps rows that are not text: encoding refuses them with their row number
    return not isinstance(text, str) or has_text(text)
