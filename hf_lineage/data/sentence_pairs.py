"""BERT's pre-training examples: pairs of text spans; the second one follows the first, or is random.

documents -> sentences -> token ids, flat -> spans [pairs, 4], planned once -> [CLS] A [SEP] B [SEP], masked
"""

import itertools
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import datasets
import numpy as np
import torch
from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerBase

from hf_lineage.data import randomness
from hf_lineage.data.encoding import TextEncoder
from hf_lineage.data.masking import Masking
from hf_lineage.data.sentences import split_sentences
from hf_lineage.data.text_files import CorpusError


# raise it when cutting or encoding changes, so that no stale cache is used
_ENCODING_VERSION = 2
# [CLS] A [SEP] B [SEP]
_SPECIAL = 3
# least number of documents that a stream plans together: random second spans come from these
_READ_AHEAD = 256
# a larger share of one-sentence documents is worth a warning
_MOST_SINGLE = 0.1


@dataclass(frozen=True, eq=False)
class SentenceStream:
    """Encoded documents, sentence by sentence, end to end.

    tokens: int32 [N]; sentence_starts: int64 [sentences + 1], first token of each sentence, and N;
    document_starts: int64 [documents + 1], first sentence of each document, and the number of sentences.
    """

    tokens: np.ndarray
    sentence_starts: np.ndarray
    document_starts: np.ndarray

    @property
    def num_documents(self) -> int:
        return len(self.document_starts) - 1

    @property
    def single_sentence_share(self) -> float:
        """Share of the documents with a single sentence."""
        return float(np.mean(np.diff(self.document_starts) == 1)) if self.num_documents else 0.0

    def cut(self, longest: int) -> "SentenceStream":
        """The same tokens; sentences of more than `longest` tokens are cut into parts of about equal length."""
        parts = -(-np.diff(self.sentence_starts) // longest)
        first = np.concatenate([[0], np.cumsum(parts)])
        if first[-1] == len(parts):
            return self
        # part p of n begins at p/n of its sentence
        sentence = np.repeat(np.arange(len(parts)), parts)
        part = np.arange(first[-1]) - first[sentence]
        starts = self.sentence_starts[sentence]
        starts = starts + part * (self.sentence_starts[sentence + 1] - starts) // parts[sentence]
        return SentenceStream(self.tokens, np.append(starts, len(self.tokens)), first[self.document_starts])

    @classmethod
    def of(cls, documents: Sequence[Sequence[Sequence[int] | np.ndarray]]) -> "SentenceStream":
        """Joins documents, lists of sentences of token ids; leaves out empty sentences and documents."""
        documents = [[sentence for sentence in document if len(sentence)] for document in documents]
        documents = [document for document in documents if document]
        sentences = [sentence for document in documents for sentence in document]
        return cls(
            _joined(sentences),
            np.cumsum([0, *map(len, sentences)]),
            np.cumsum([0, *map(len, documents)]),
        )


def encode_sentences(
    corpus: datasets.Dataset,
    tokenizer: PreTrainedTokenizerBase,
    *,
    language: str | None = None,
    split: Callable[[str], list[str]] = split_sentences,
    num_proc: int | None = None,
) -> SentenceStream:
    """Tokenizes the column "text" of `corpus`, one document per row, sentence by sentence; cached by datasets.

    `split` cuts a document into sentences; it gets the `language` if one is given (`split_sentences`). Warns if many
    documents have a single sentence, since such a document gives no pair "is next".

    Raises CorpusError for fewer than two documents with text: a random second span needs another document.
    """
    encoded = corpus.map(
        _encode_batch,
        batched=True,
        fn_kwargs={
            "encode": TextEncoder(tokenizer),
            "split": _in_language(split, language),
            "version": _ENCODING_VERSION,
        },
        remove_columns=corpus.column_names,
        features=datasets.Features(
            tokens=datasets.List(datasets.Value("int32")), lengths=datasets.List(datasets.Value("int32"))
        ),
        num_proc=num_proc,
        desc="Tokenizing",
    )
    columns = encoded.with_format("arrow")[:]
    flat = {name: [chunk.flatten().to_numpy() for chunk in columns[name].chunks] for name in ("tokens", "lengths")}
    sentences = [chunk.value_lengths().to_numpy() for chunk in columns["lengths"].chunks]
    sentences = np.concatenate(sentences) if sentences else np.array([], dtype=int)
    stream = SentenceStream(
        np.concatenate([np.array([], dtype=np.int32), *flat["tokens"]]),
        np.concatenate([[0], np.cumsum(np.concatenate([[], *flat["lengths"]]), dtype=np.int64)]),
        np.concatenate([[0], np.cumsum(sentences[sentences > 0], dtype=np.int64)]),
    )
    _check_documents(stream)
    _warn_of_single_sentences(stream, stacklevel=3)
    return stream


def _in_language(split, language):
    return split if language is None else partial(split, language=language)


def _warn_of_single_sentences(stream, stacklevel):
    if stream.single_sentence_share > _MOST_SINGLE:
        warnings.warn(
            f"{stream.single_sentence_share:.0%} of the {stream.num_documents} documents have one sentence, so no "
            'second sentence follows: their pairs are "is random", unless a sentence is longer than half a pair. '
            'Give longer documents (sample_by="paragraph" or "document"), or the language of the text.',
            stacklevel=stacklevel + 1,
        )


def _encode_batch(batch, encode, split, version):
    """Columns of the encoded corpus; the version only tells the entries of the cache apart."""
    documents = encode_documents(batch["text"], encode, split)
    return {
        "tokens": [_joined(document) for document in documents],
        "lengths": [[len(sentence) for sentence in document] for document in documents],
    }


def encode_documents(
    texts: Sequence[str], encode: TextEncoder, split: Callable[[str], list[str]]
) -> list[list[np.ndarray]]:
    """Documents as lists of non-empty sentences, arrays of ids."""
    documents = [split(text) for text in texts]
    remaining = iter(encode([sentence for document in documents for sentence in document]))
    return [[ids for ids in itertools.islice(remaining, len(document)) if len(ids)] for document in documents]


def _joined(sentences):
    return np.concatenate([np.array([], dtype=np.int32), *sentences]).astype(np.int32, copy=False)


def _check_documents(stream):
    if stream.num_documents < 2:
        raise CorpusError(
            f"a split has {stream.num_documents} documents with text, but a random second span comes from another "
            "document, so it needs 2: cut the documents finer (sample_by line), or hold more of them out "
            "(validation_share)"
        )


class PairPlanner:
    """Cuts documents into pairs of spans as the authors' create_pretraining_data does, sentence by sentence.

    First, sentences of more than half of `max_length` − 3 tokens are cut into parts, which then count as sentences: a
    single sentence always fits into a pair, so that every token is in some pair.

    The planner gathers sentences until they have `max_length` − 3 tokens. For some documents, chosen with the
    probability `short_probability`, the limit is instead a random number from 2 to `max_length` − 3. A is a random
    number of the gathered sentences, at least one. B is the rest ("is next"). With probability 1/2, and always if
    there is no rest, B is instead a span of that length from a random place in another document ("is random"); the
    rest then begins the next pair. A pair that is too long loses tokens of its longer span, each at the front or the
    back by chance.
    """

    def __init__(self, stream: SentenceStream, max_length: int, short_probability: float = 0.1):
        if max_length < _SPECIAL + 2:
            raise ValueError(f"max_length is {max_length}; it must be at least {_SPECIAL + 2}: [CLS] A [SEP] B [SEP]")
        if not 0 <= short_probability <= 1:
            raise ValueError(f"short_probability is {short_probability}; it must lie in [0, 1]")
        _check_documents(stream)
        self.max_tokens = max_length - _SPECIAL
        self.short_probability = short_probability
        stream = stream.cut(self.max_tokens // 2)
        # lists, because they are indexed one number at a time
        self.sentence_starts = stream.sentence_starts.tolist()
        self.document_starts = stream.document_starts.tolist()

    def plan(self, document: int, draw: np.random.Generator) -> list[tuple[int, int, int, int, bool]]:
        """The pairs of one document: begin and end of A and of B in the tokens, and whether B is random."""
        starts, (sentence, last) = self.sentence_starts, self.document_starts[document : document + 2]
        target = self.max_tokens
        if draw.random() < self.short_probability:
            target = int(draw.integers(2, self.max_tokens + 1))
        pairs = []
        while sentence < last:
            first, begin = sentence, starts[sentence]
            sentence += 1
            while sentence < last and starts[sentence] - begin < target:
                sentence += 1
            gathered = sentence - first
            middle = first + (int(draw.integers(1, gathered)) if gathered > 1 else 1)
            is_random = gathered == 1 or draw.random() < 0.5
            if is_random:
                second = self._elsewhere(document, target - (starts[middle] - begin), draw)
                sentence = middle
            else:
                second = starts[middle], starts[sentence]
            pairs.append((*self._truncated((begin, starts[middle]), second, draw), is_random))
        return pairs

    def _elsewhere(self, document, target, draw):
        # as released: with probability 1 / D^10 all ten tries give the same document
        for _ in range(10):
            other = int(draw.integers(len(self.document_starts) - 1))
            if other != document:
                break
        sentence = int(draw.integers(self.document_starts[other], self.document_starts[other + 1]))
        begin, last = self.sentence_starts[sentence], self.document_starts[other + 1]
        sentence += 1
        while sentence < last and self.sentence_starts[sentence] - begin < target:
            sentence += 1
        return begin, self.sentence_starts[sentence]

    def _truncated(self, a, b, draw):
        """Removes tokens from the longer span (B if equal), each from the front with probability 1/2."""
        kept_a, kept_b = a[1] - a[0], b[1] - b[0]
        if kept_a + kept_b > self.max_tokens:
            half = self.max_tokens // 2
            if kept_a <= half:
                kept_b = self.max_tokens - kept_a
            elif kept_b <= half:
                kept_a = self.max_tokens - kept_b
            else:
                kept_a, kept_b = self.max_tokens - half, half
        bounds = []
        for (begin, end), kept in ((a, kept_a), (b, kept_b)):
            removed = end - begin - kept
            front = int(draw.binomial(removed, 0.5)) if removed else 0
            bounds += [begin + front, begin + front + kept]
        return bounds


def pair_example(
    tokens: np.ndarray,
    pair: np.ndarray,
    is_random: bool,
    tokenizer: PreTrainedTokenizerBase,
    masking: Masking,
    generator: np.random.Generator,
) -> dict[str, torch.Tensor | int]:
    """[CLS] A [SEP] B [SEP] of the spans `pair` (begin and end of A, of B): input_ids, token_type_ids, labels [T]."""
    first, second = tokens[pair[0] : pair[1]], tokens[pair[2] : pair[3]]
    cls, sep = [tokenizer.cls_token_id], [tokenizer.sep_token_id]
    ids = np.concatenate([cls, first, sep, second, sep]).astype(np.int64)
    segments = np.zeros_like(ids)
    segments[len(first) + 2 :] = 1
    masked, labels = masking(ids, generator)
    return {
        "input_ids": torch.from_numpy(masked),
        "token_type_ids": torch.from_numpy(segments),
        "labels": torch.from_numpy(labels),
        "next_sentence_label": int(is_random),
    }


class SentencePairs(randomness.EpochDataset):
    """BERT's pre-training data, map-style (Devlin et al., 2019, appendix A.2, and the authors' code).

    Gives {"input_ids", "token_type_ids", "labels": [T], "next_sentence_label": 0 (B follows A) or 1 (B is random)},
    without padding: `PackingCollator` or transformers' DataCollatorForTokenClassification makes batches.

    Every document is cut into pairs `duplicates` times, each time differently. As released, the masks of a pair are
    drawn once; with `dynamic_masking` they change every epoch, so that one duplicate is enough. Then the share of
    masked tokens may change too (`move_masking`).

    Raises:
        ValueError: a setting is out of range.
        CorpusError: there are fewer than two documents.
    """

    def __init__(
        self,
        stream: SentenceStream,
        tokenizer: PreTrainedTokenizerBase,
        max_length: int = 128,
        *,
        masking: Masking | None = None,
        duplicates: int = 10,
        short_probability: float = 0.1,
        dynamic_masking: bool = False,
        seed: int = 0,
        shuffle: bool = True,
        show_progress: bool = False,
    ):
        super().__init__(seed, shuffle)
        if duplicates < 1:
            raise ValueError(f"duplicates is {duplicates}; it must be at least 1")
        self.tokens = stream.tokens
        self.tokenizer = tokenizer
        self.masking = masking or Masking.of(tokenizer)
        self.dynamic_masking = dynamic_masking
        self.last_probability: float | None = None
        self.num_examples = 0
        planner = PairPlanner(stream, max_length, short_probability)
        pairs = []
        for duplicate in tqdm(range(duplicates), desc="Sentence pairs", disable=not show_progress):
            for document in range(stream.num_documents):
                pairs += planner.plan(document, randomness.generator(seed, duplicate, document, "sentence pairs"))
        planned = np.array(pairs, dtype=np.int64)
        self.spans, self.is_random = planned[:, :4], planned[:, 4].astype(bool)

    def __len__(self) -> int:
        return len(self.spans)

    def example(self, index: int, generator: np.random.Generator) -> dict[str, torch.Tensor | int]:
        if not self.dynamic_masking:
            generator = randomness.generator(self.seed, 0, index, "static masks")
        return self.masked(index, self.masking, generator)

    def move_masking(self, last_probability: float, num_examples: int):
        """Moves the share of masked tokens evenly, from that of `masking` to `last_probability`.

        The share reaches `last_probability` after `num_examples` examples and stays there.

        Raises:
            ValueError: the share lies outside [0, 1], there are no examples, or the masks are drawn once.
        """
        if not 0 <= last_probability <= 1:
            raise ValueError(f"last_probability is {last_probability}; it must lie in [0, 1]")
        if num_examples < 1 or not self.dynamic_masking:
            raise ValueError(
                f"dynamic_masking is {self.dynamic_masking} and num_examples {num_examples}; a share that moves needs "
                "new masks in each epoch, and at least 1 example"
            )
        self.last_probability, self.num_examples = last_probability, num_examples

    def at(self, epoch: int, position: int) -> dict[str, torch.Tensor | int]:
        if self.last_probability is None:
            return super().at(epoch, position)
        progress = min(1.0, (epoch * len(self) + position) / self.num_examples)
        first = self.masking.probability
        masking = replace(self.masking, probability=first + progress * (self.last_probability - first))
        index, generator = self.drawn(epoch, position)
        return self.masked(index, masking, generator)

    def masked(self, index, masking, generator):
        return pair_example(self.tokens, self.spans[index], self.is_random[index], self.tokenizer, masking, generator)


class StreamedSentencePairs(torch.utils.data.IterableDataset):
    """`SentencePairs` of a corpus too large for memory: read, cut and masked while training, in constant memory.

    `corpus` has a column "text", one document per row. At least 256 documents are read together; their random second
    spans come from each other, and their pairs come in random order. Everything is a function of (seed, pass, place in
    the corpus), so that the Trainer's skipping on resume is exact within one of its epochs: train with `passes=None`
    (without end) and `max_steps`. Every DataLoader worker reads the whole text, but cuts and masks only its share;
    together the workers give each pair of a single process once. `language` and `split` are those of
    `encode_sentences`; the first documents may give its warning.

    Raises ValueError for a bad setting and, when reading, CorpusError for fewer than two documents.
    """

    def __init__(
        self,
        corpus: datasets.IterableDataset,
        tokenizer: PreTrainedTokenizerBase,
        max_length: int = 128,
        *,
        masking: Masking | None = None,
        short_probability: float = 0.1,
        language: str | None = None,
        split: Callable[[str], list[str]] = split_sentences,
        seed: int = 0,
        passes: int | None = 1,
    ):
        if passes is not None and passes < 1:
            raise ValueError(f"passes is {passes}; it must be at least 1, or None to read without end")
        self.corpus = corpus
        self.tokenizer = tokenizer
        self.encode = TextEncoder(tokenizer)
        self.max_length = max_length
        self.masking = masking or Masking.of(tokenizer)
        self.short_probability = short_probability
        self.split = _in_language(split, language)
        self.seed = seed
        self.passes = passes

    def __iter__(self) -> Iterator[dict[str, torch.Tensor | int]]:
        worker = torch.utils.data.get_worker_info()
        worker_id, num_workers = (worker.id, worker.num_workers) if worker else (0, 1)
        # counted across passes, so that no worker waits for ever if a pass has fewer groups than workers
        turn = itertools.cycle(range(num_workers))
        for pass_number in itertools.count() if self.passes is None else range(self.passes):
            for group, texts in enumerate(self._groups()):
                if next(turn) == worker_id:
                    stream = SentenceStream.of(encode_documents(texts, self.encode, self.split))
                    if pass_number == group == 0:
                        _warn_of_single_sentences(stream, stacklevel=2)
                    draw = randomness.generator(self.seed, pass_number, group, "streamed pairs")
                    planner = PairPlanner(stream, self.max_length, self.short_probability)
                    yield from shuffled_pairs(stream, planner, self.tokenizer, self.masking, draw)

    def _groups(self):
        # not iter(corpus), which gives each worker only some of the shards
        batches = self.corpus.iter(_READ_AHEAD)
        return planned_together(text for batch in batches for text in batch["text"] if text.strip())


def planned_together(documents: Iterator) -> Iterator[list]:
    """The documents in groups of 256; a smaller rest at the end joins the last group."""
    held = list(itertools.islice(documents, _READ_AHEAD))
    while len(read := list(itertools.islice(documents, _READ_AHEAD))) == _READ_AHEAD:
        yield held
        held = read
    yield held + read


def shuffled_pairs(
    stream: SentenceStream,
    planner: PairPlanner,
    tokenizer: PreTrainedTokenizerBase,
    masking: Masking,
    draw: np.random.Generator,
) -> Iterator[dict[str, torch.Tensor | int]]:
    """All pairs of the stream's documents, in random order."""
    pairs = [pair for document in range(stream.num_documents) for pair in planner.plan(document, draw)]
    for index in draw.permutation(len(pairs)):
        *span, is_random = pairs[index]
        yield pair_example(stream.tokens, span, is_random, tokenizer, masking, draw)
