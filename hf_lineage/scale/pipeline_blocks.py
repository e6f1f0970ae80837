"""Blocks of a datatrove pipeline. Each writes a file per file of the corpus, whichever task reads that file.

Output folders are on a file system that all workers share. A file is replaced whole, so that a task which was killed
can run again.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from itertools import groupby, islice
from pathlib import Path

import numpy as np
from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep

from hf_lineage.data.corpus_files import find_files
from hf_lineage.data.encoded_shards import facts_of, write_shard
from hf_lineage.data.encoding import TextEncoder
from hf_lineage.data.sentence_pairs import encode_documents
from hf_lineage.data.sentences import split_sentences
from hf_lineage.data.text_files import check_choices, read_documents, read_parts
from hf_lineage.data.token_stream import end_mark
from hf_lineage.text_parts import LONGEST, whole_texts
from hf_lineage.tokenization import RULES, PrunedCounts, open_tokenizer, word_normalizer
from hf_lineage.tokenization.roles import special_roles
from hf_lineage.tokenization.word_counts import count_words_in_stretches, rules_of
from hf_lineage.word_vectors.phrases import MappedTexts, Phrases


# documents that are encoded together
_TOGETHER = 256


class ReadFiles(PipelineStep):
    """Reads a corpus as `load_corpus` does, of the split "train": task r of n reads files r, r + n, r + 2n, ….

    A document's metadata has `file`, the number of its file among the corpus's sorted files, in five digits, and
    `file_path`. Long texts come in several documents, whose texts are `Part`s: put a block that changes or drops
    documents behind it only with `longest=None`.

    Raises ValueError for a bad setting and CorpusError for everything else.
    """

    type = "📖 - READER"
    name = "files of hf_lineage"

    def __init__(
        self,
        corpus: str | os.PathLike | Sequence[str | os.PathLike],
        *,
        text_field: str = "text",
        sample_by: str = "line",
        on_invalid: str = "error",
        longest: int | None = LONGEST,
    ):
        super().__init__()
        check_choices(sample_by, on_invalid)
        self.files = [str(Path(path).resolve()) for path in find_files(corpus, "train")]
        self.options = {"text_field": text_field, "sample_by": sample_by, "on_invalid": on_invalid}
        self.longest = longest

    def run(self, data=None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """Gives the documents of this task's files, after those of `data`."""
        yield from data or ()
        for number in range(rank, len(self.files), world_size):
            path, file = self.files[number], f"{number:05d}"
            for place, text in enumerate(self._texts(path)):
                self.stat_update("documents")
                yield Document(text, f"{file}/{place}", metadata={"file": file, "file_path": path})

    def _texts(self, path) -> Iterator[str]:
        if self.longest is None:
            return read_documents(path, **self.options)
        return read_parts(path, longest=self.longest, **self.options)


class _PerFile(PipelineStep):
    """Writes what `write` makes of the texts of one file, to `output_folder`/<file>.parquet.

    Documents of other readers, without the metadata `file`, count as one file per task.
    """

    def __init__(self, output_folder: str | os.PathLike):
        super().__init__()
        self.output_folder = Path(output_folder)

    def run(self, data: Iterable[Document], rank: int = 0, world_size: int = 1):
        """Writes the files of this task; gives nothing on."""
        self.output_folder.mkdir(parents=True, exist_ok=True)
        for file, documents in groupby(data, key=lambda document: document.metadata.get("file", f"{rank:05d}")):
            with self.track_time("file"):
                self.write(self.output_folder / f"{file}.parquet", (document.text for document in documents))

    def write(self, path: Path, texts: Iterator[str]):
        raise NotImplementedError


class CountWords(_PerFile):
    """Counts the words that a trainer of `hf_lineage.tokenization` would count, into `PrunedCounts` of `limit` words.

    `kind` is wordpiece, byte_pairs or word_level; `rules` are that trainer's lowercase, strip_punctuation, … and
    `special_tokens` its special tokens. With `phrases`, a file of `Phrases.save`, the phrases of the text are words.

    Raises ValueError for a bad setting.
    """

    type = "🔢 - COUNTS"
    name = "words"

    def __init__(
        self,
        output_folder: str | os.PathLike,
        kind: str = "wordpiece",
        *,
        special_tokens: Mapping[str, str | None] | None = None,
        phrases: str | os.PathLike | None = None,
        limit: int = 5_000_000,
        **rules: bool,
    ):
        super().__init__(output_folder)
        self.kind, self.rules, self.limit = kind, rules, limit
        self.specials = list(dict.fromkeys(special_roles(special_tokens).values()))
        self.phrases = _as_text(phrases)
        self._made()

    def _made(self):
        """The normalizer, the pre-tokenizer, and the empty counts."""
        parts = RULES[self.kind](**self.rules)
        return *parts, PrunedCounts(self.limit, {"words": rules_of(*parts, self.specials)})

    def write(self, path, texts):
        normalizer, pre_tokenizer, counts = self._made()
        if self.phrases:
            texts = Phrases.load(self.phrases).joined(MappedTexts(texts, normalizer.normalize_str))
        for stretch in count_words_in_stretches(texts, normalizer, pre_tokenizer, self.specials):
            counts.add(stretch)
        counts.save(path)
        self.stat_update("words", value=counts.total, unit="file")


class CountPhrases(_PerFile):
    """Counts words and pairs of neighbours, for `LearnPhrases`, into `PrunedCounts` of `limit` each.

    `phrases` is the file of the passes so far, None in the first pass. The words are those that word2vec's recipe
    reads: `lowercase` and `strip_punctuation` as in `train_word_level`. A pair is written as its two words with a
    blank between. `output_folder` gets the pairs, its sub-folder `words` the words.
    """

    type = "🔢 - COUNTS"
    name = "phrases"

    def __init__(
        self,
        output_folder: str | os.PathLike,
        *,
        phrases: str | os.PathLike | None = None,
        lowercase: bool = True,
        strip_punctuation: bool = True,
        limit: int = 5_000_000,
    ):
        super().__init__(output_folder)
        self.phrases = _as_text(phrases)
        self.rules, self.limit = {"lowercase": lowercase, "strip_punctuation": strip_punctuation}, limit

    def write(self, path, texts):
        words, pairs = (PrunedCounts(self.limit, {unit: self.rules}) for unit in ("phrase words", "pairs"))
        if any(self.rules.values()):
            texts = MappedTexts(texts, word_normalizer(**self.rules).normalize_str)
        for new_words, new_pairs in _passes_so_far(self.phrases).count_in_stretches(texts):
            words.add(new_words)
            pairs.add({f"{a} {b}": count for (a, b), count in new_pairs.items()})
        (path.parent / "words").mkdir(exist_ok=True)
        words.save(path.parent / "words" / path.name)
        pairs.save(path)
        self.stat_update("words", value=words.total, unit="file")


class MergeCounts(PipelineStep):
    """Adds up the counts of all files of a folder, in the order of their names; for one task, after `CountWords`."""

    type = "🔢 - COUNTS"
    name = "merge"

    def __init__(self, input_folder: str | os.PathLike, output_file: str | os.PathLike):
        super().__init__()
        self.input_folder, self.output_file = Path(input_folder), Path(output_file)

    def run(self, data=None, rank: int = 0, world_size: int = 1):
        """Task 0 writes the sum to `output_file`."""
        if rank == 0:
            _merged(self.input_folder).save(self.output_file)


class LearnPhrases(PipelineStep):
    """Adds a pass to a file of phrases, from what `CountPhrases` counted; for one task.

    `phrases` is the file of the passes so far, None in the first pass. For the score see `Phrases.learn`.
    """

    type = "🔢 - COUNTS"
    name = "phrases of counts"

    def __init__(
        self,
        input_folder: str | os.PathLike,
        output_file: str | os.PathLike,
        threshold: float,
        *,
        phrases: str | os.PathLike | None = None,
        min_count: int = 5,
    ):
        super().__init__()
        self.input_folder, self.output_file = Path(input_folder), Path(output_file)
        self.threshold, self.phrases, self.min_count = threshold, _as_text(phrases), min_count

    def run(self, data=None, rank: int = 0, world_size: int = 1):
        """Task 0 writes the phrases to `output_file`."""
        if rank:
            return
        words = _merged(self.input_folder / "words")
        frequent = {word: count for word, count in words.items() if count >= self.min_count}
        phrases = _passes_so_far(self.phrases)
        # only these can score above 0
        frequent_pairs = ((pair.split(" "), n) for pair, n in _merged(self.input_folder).items() if n > self.min_count)
        pairs = (((a, b), n) for (a, b), n in frequent_pairs)
        phrases.add_pass(self.threshold, frequent, pairs, words.total, self.min_count)
        phrases.save(self.output_file)


def _as_text(path: str | os.PathLike | None) -> str | None:
    # executors write a block's attributes as JSON
    return None if path is None else str(path)


def _passes_so_far(path: str | None) -> Phrases:
    return Phrases.load(path) if path else Phrases()


def _merged(folder: Path) -> PrunedCounts:
    return PrunedCounts.merged(sorted(folder.glob("*.parquet")))


class EncodeDocuments(_PerFile):
    """Token ids of each document, and its end mark, for `encoded_blocks`; `tokenizer` is a folder or a Hub name.

    Raises ValueError for a tokenizer without an end mark.
    """

    type = "🔢 - TOKENIZER"
    name = "documents"

    def __init__(self, output_folder: str | os.PathLike, tokenizer: str):
        super().__init__(output_folder)
        self.tokenizer = tokenizer
        end_mark(open_tokenizer(tokenizer))

    def write(self, path, texts):
        encode, facts = _encoder(self.tokenizer)
        end = np.array([end_mark(encode.tokenizer)], np.int32)
        encoded = ([ids, end] for batch in _batches(whole_texts(texts)) for ids in encode(batch))
        self.stat_update("tokens", value=write_shard(path, encoded, facts, sentences=False), unit="file")


class EncodeSentences(_PerFile):
    """Token ids of each document, sentence by sentence, for `encoded_sentence_pairs`.

    `tokenizer` is a folder or a Hub name; for `language` see `split_sentences`.
    """

    type = "🔢 - TOKENIZER"
    name = "sentences"

    def __init__(self, output_folder: str | os.PathLike, tokenizer: str, language: str | None = None):
        super().__init__(output_folder)
        self.tokenizer, self.language = tokenizer, language

    def write(self, path, texts):
        encode, facts = _encoder(self.tokenizer)
        split = partial(split_sentences, language=self.language)
        batches = _batches(whole_texts(texts))
        encoded = (document for batch in batches for document in encode_documents(batch, encode, split) if document)
        self.stat_update("tokens", value=write_shard(path, encoded, facts, sentences=True), unit="file")


@lru_cache(maxsize=1)
def _encoder(name: str) -> tuple[TextEncoder, str]:
    # kept for the next tasks of this process: it knows the words of the files before
    tokenizer = open_tokenizer(name)
    return TextEncoder(tokenizer), facts_of(tokenizer)


def _batches(texts: Iterator[str]) -> Iterator[Sequence[str]]:
    while batch := list(islice(texts, _TOGETHER)):
        yield batch
