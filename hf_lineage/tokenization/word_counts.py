"""Counts the words or characters of a corpus, the basis of every vocabulary.

texts -> chunks between white space, counted -> words, counted
"""

import json
import os
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path

from tokenizers import Tokenizer, models
from tqdm.auto import tqdm

from hf_lineage.data.text_files import CorpusError, read_parts
from hf_lineage.text_parts import in_parts
from hf_lineage.tokenization.pruned_counts import PrunedCounts


# white space for all normalizers and pre-tokenizers used here; str.split() knows more
CHUNK = re.compile(r"[^ \t\n\r]+")
MAX_CHUNKS_IN_MEMORY = 1_000_000


def count_words(texts_or_files, normalizer, pre_tokenizer, specials, show_progress) -> dict[str, int]:
    """Word -> count; special tokens in the text are not words.

    Chunks between white space are counted first, so that each distinct chunk is normalised only once. The normalised
    chunks, in which Chinese characters stand alone, are counted again, so that each is split only once. This is exact
    because the normalizers and pre-tokenizers used here never look across white space.

    `PrunedCounts` of the same words are taken as they are.

    Raises:
        ValueError: the `PrunedCounts` are of other words.
        CorpusError: the corpus has no text, or holds something that is not text.
    """
    if isinstance(texts_or_files, PrunedCounts):
        return _counted_before(texts_or_files, rules_of(normalizer, pre_tokenizer, specials))
    special = _any_of(specials)
    normalized = Counter()
    # each table hands its entries to the next, so that a large vocabulary is in memory once
    for chunks in _count_chunks(texts_or_files, show_progress):
        _move_normalized(chunks, special, normalizer, normalized)
    words = _split(normalized, pre_tokenizer)
    if not words:
        raise CorpusError("the corpus has no text")
    return words


def count_words_in_stretches(texts: Iterable[str], normalizer, pre_tokenizer, specials) -> Iterator[dict[str, int]]:
    """As `count_words`, but the counts of successive stretches of the texts; a word may be in many of them."""
    special = _any_of(specials)
    for chunks in _count_chunks(texts, show_progress=False):
        normalized = Counter()
        _move_normalized(chunks, special, normalizer, normalized)
        yield _split(normalized, pre_tokenizer)


def rules_of(normalizer, pre_tokenizer, specials) -> dict:
    """What decides the words of a text, as JSON: counts with the same rules are counts of the same words."""
    tokenizer = Tokenizer(models.WordLevel({}))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, pre_tokenizer
    parts = json.loads(tokenizer.to_str())
    return {"rules": {name: parts[name] for name in ("normalizer", "pre_tokenizer")}, "specials": sorted(specials)}


def _counted_before(counts: PrunedCounts, rules: dict) -> dict[str, int]:
    if counts.made_from.get("words") != rules:
        raise ValueError(
            "these counts are of other words than this tokenizer's: count them anew with the same kind of tokenizer, "
            f"lowercase and special_tokens; they were counted by {counts.made_from}, not {rules}"
        )
    if counts.error:
        warnings.warn(
            f"the counts were pruned: words that occur up to {counts.error} times may be missing, and the others may "
            "occur that much oftener than counted; a larger limit of the counts misses fewer",
            stacklevel=4,
        )
    if not len(counts):
        raise CorpusError("the corpus has no text")
    return dict(counts.items())


def _move_normalized(chunks: Counter, special: re.Pattern, normalizer, normalized: Counter):
    while chunks:
        chunk, count = chunks.popitem()
        for part in special.split(chunk):
            for normalized_chunk in CHUNK.findall(normalizer.normalize_str(part)):
                normalized[normalized_chunk] += count


def _split(normalized: Counter, pre_tokenizer) -> Counter:
    words = Counter()
    while normalized:
        chunk, count = normalized.popitem()
        for word, _ in pre_tokenizer.pre_tokenize_str(chunk):
            words[word] += count
    return words


def count_characters(texts_or_files, normalizer, specials, show_progress) -> dict[str, int]:
    """Character -> count, white space too; special tokens in the text are not characters."""
    special, characters = _any_of(specials), Counter()
    for text in tqdm(_texts(texts_or_files), desc="Counting characters", unit=" texts", disable=not show_progress):
        for part in special.split(text):
            characters.update(normalizer.normalize_str(part) if normalizer else part)
    if all(map(str.isspace, characters)):
        raise CorpusError("the corpus has no text")
    return characters


def most_frequent(counts: Mapping[str, int], min_frequency: int) -> list[str]:
    """Words or characters that occur at least `min_frequency` times, most frequent first (ties by code points).

    Raises:
        ValueError: there is none.
    """
    words = sorted(word for word, count in counts.items() if count >= min_frequency)
    if not words:
        most_frequent = max(counts, key=counts.__getitem__)
        raise ValueError(
            f"min_frequency={min_frequency} leaves no word: the most frequent one, {most_frequent!r}, occurs "
            f"{counts[most_frequent]} times; lower min_frequency to that or less"
        )
    # a stable sort: ties keep their order
    words.sort(key=counts.__getitem__, reverse=True)
    return words


def _any_of(specials) -> re.Pattern:
    # the longest first, as in the tokenizer
    return re.compile("|".join(map(re.escape, sorted(specials, key=len, reverse=True))))


def _count_chunks(texts_or_files, show_progress) -> Iterator[Counter]:
    """Chunk -> count for successive stretches of the corpus, since chunks of Chinese text hardly ever repeat."""
    chunks = Counter()
    texts = tqdm(_texts(texts_or_files), desc="Counting words", unit=" texts", disable=not show_progress)
    for text in in_parts(texts):
        chunks.update(CHUNK.findall(text))
        if len(chunks) > MAX_CHUNKS_IN_MEMORY:
            yield chunks
            chunks = Counter()
    yield chunks


def _texts(texts_or_files: str | Path | Iterable) -> Iterator[str]:
    """Strings of a file, of files, or of an iterable whose entries may be batches."""
    if isinstance(texts_or_files, str | Path):
        texts_or_files = [Path(texts_or_files)]
    if isinstance(texts_or_files, list | tuple) and any(map(_is_file, texts_or_files[:100])):
        # a missing file among them is a mistake, not a text to train on
        if missing := [str(path) for path in texts_or_files if not os.path.isfile(path)]:
            raise FileNotFoundError(f"no such file to train on: {', '.join(missing)}")
        texts_or_files = chain.from_iterable(map(read_parts, texts_or_files))
    if not isinstance(texts_or_files, Iterable):
        raise ValueError(f"texts_or_files is {texts_or_files!r}; give a path, a list of paths or an iterable of texts")
    batches = (entry if isinstance(entry, list | tuple) else (entry,) for entry in texts_or_files)
    for index, text in enumerate(chain.from_iterable(batches)):
        if not isinstance(text, str):
            raise CorpusError(
                f"text {index} of the corpus is {text!r:.60} ({type(text).__name__}), not a string; leave it out, or "
                "give only the column with the text"
            )
        if not text.isascii():
            _refuse_surrogates(text, index)
        yield text


def _is_file(entry) -> bool:
    # a Path that does not exist is an error, a str that names no file is text
    return isinstance(entry, Path) or (isinstance(entry, str) and os.path.isfile(entry))


def _refuse_surrogates(text: str, index: int):
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise CorpusError(
            f"text {index} of the corpus (str) holds {text[error.start]!r} at character {error.start}, half of a "
            'surrogate pair, which is not text; replace it by text.encode(errors="replace").decode()'
        ) from error
