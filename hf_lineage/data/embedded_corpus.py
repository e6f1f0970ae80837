"""The default corpus: English Wikipedia text from the gensim wheel, or Python's language reference."""

import bz2
import importlib.util
import re
import sys
import warnings
from pathlib import Path
from xml.etree import ElementTree

import datasets

from hf_lineage.data.corpus_files import cached, with_stamp
from hf_lineage.data.text_files import CorpusError


# raise it when reading changes, so that no stale cache is used
READER_VERSION = 3


_WIKIPEDIA = "test/test_data/enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2"
_MIN_WORDS = 8


def load_embedded(split, whole):
    if split not in ("train", "validation", "test"):
        raise CorpusError(f"the default corpus has no split {split!r}; it has train, validation and test")
    features = datasets.Features(split=datasets.Value("string"), text=datasets.Value("string"))
    dump = _find_wikipedia()
    if dump:
        settings = {"dump": with_stamp(dump), "whole": whole, "version": READER_VERSION}
        corpus = cached(_read_wikipedia, features, settings)
    else:
        warnings.warn(
            "the default corpus, English Wikipedia text from the package gensim, is not installed: using Python's "
            "language reference instead. For the Wikipedia text: pip install 'hf_lineage[demo]'.",
            stacklevel=4,
        )
        settings = {"python": sys.version, "whole": whole, "version": READER_VERSION}
        corpus = cached(_read_language_reference, features, settings)
    return corpus.filter(lambda of_row: of_row == split, input_columns="split").remove_columns("split")


def _find_wikipedia():
    package = importlib.util.find_spec("gensim")
    if package is None:
        return None
    dump = Path(package.submodule_search_locations[0], _WIKIPEDIA)
    return dump if dump.is_file() else None


def _read_wikipedia(dump, whole, version):
    from gensim.corpora.wikicorpus import filter_wiki

    articles = (filter_wiki(markup).split("\n") for markup in _wikipedia_articles(dump[0]))
    return _split_by_article(([_clean_line(line) for line in lines] for lines in articles), whole)


def _wikipedia_articles(path):
    with bz2.open(path) as file:
        for _, element in ElementTree.iterparse(file):
            if element.tag.endswith("}page"):
                if element.find("{*}redirect") is None:
                    yield element.findtext("{*}revision/{*}text")
                element.clear()


def _clean_line(line):
    """A paragraph without the markup that `filter_wiki` leaves; empty for lists, tables, headings and images."""
    line = line.strip()
    if line.startswith(tuple("*#:;!{}=<")) or "|" in line:
        return ""
    line = re.sub("'{2,}", "", line)
    # removed pronunciations and foreign words leave holes: "Albedo (; or ) is"
    line = re.sub(r"\(\s*(?:(?:or|and|from|cf\.)?\s*[,;:]\s*)+", "(", line)
    line = re.sub(r"\(\W*(?:or|and|from)?\W*\)", "", line)
    line = re.sub(r"\(\s+", "(", line)
    line = re.sub(r"\s+([,.;:)])", r"\1", line)
    return " ".join(line.lstrip(" ,.;:)").split())


def _read_language_reference(python, whole, version):
    from pydoc_data.topics import topics

    return _split_by_article((re.split(r"\n\s*\n", topics[name]) for name in sorted(topics)), whole)


def _split_by_article(articles, whole):
    """Distinct paragraphs of at least 8 words; with `whole`, articles made of them, one paragraph per line.

    Of every 20 articles, 18 are for training, one for validation and one for the test.
    """
    seen = set()
    for number, paragraphs in enumerate(articles):
        split = {18: "validation", 19: "test"}.get(number % 20, "train")
        kept = []
        for paragraph in paragraphs:
            words = paragraph.split()
            text = " ".join(words)
            # articles share paragraphs, and no paragraph may be in two splits
            if len(words) >= _MIN_WORDS and text not in seen:
                seen.add(text)
                kept.append(text)
        if whole and kept:
            kept = ["\n".join(kept)]
        yield from ({"split": split, "text": text} for text in kept)
