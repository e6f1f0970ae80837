"""BERT's pre-training examples: pairs of text spans of which the second follows the first, or does not.

documents -> sentences -> token ids, flat -> spans [pairs, 4], planned once -> [CLS] A [SEP] B [SEP], masked
"""

import itertools
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
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


# raise it when the same text is cut or encoded differently, so that no stale cache is served
_ENCODING_VERSION = 2
# [CLS] A [SEP] B [SEP]
_SPECIAL = 3
# documents that a stream plans together, at least: a random second span comes from one of these
_READ_AHEAD = 256
# a larger share of documents of one sentence is worth a warning
_MOST_SINGLE = 0.1


@dataclass(frozen=True, eq=False)
class SentenceStream:
    """Encoded documents, sentence by sentence, end to end.

    tokens: int32 [N]; sentence_starts: int64 [sentences + 1], where each begins in tokens, and N;
    document_starts: int64 [documents + 1], where each begins in the sentences, and their number.
    """

    tokens: np.ndarray
    sentence_starts: np.ndarray
    document_starts: np.ndarray

    @property
    def num_documents(self) -> int:
        return len(self.document_starts) - 1

    @property
    def single_sentence_share(self) -> float:
        """Share of the documents that have one sentence."""
        return float(np.mean(np.diff(self.document_starts) == 1)) if self.num_documents else 0.0

    def cut(self, longest: int) -> "SentenceStream":
        """The same tokens, with sentences of more than `longest` tokens cut into parts of about the same length."""
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
    def of(cls, documents: list[list[Sequence[int]]]) -> "SentenceStream":
        """From sentences of token ids; empty sentences and documents are left out."""
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

    `split` cuts a document into sentences, and is told the `language` where one is given (`split_sentences`). Warns
    where many documents have one sentence, since no pair of such a document is "is next".

    Raises CorpusError for a corpus with fewer than two documents with text: a random second span needs another one.
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
            f"{stream.single_sentence_share:.0%} of the {stream.num_documents} documents have one sentence, which no "
            'second sentence can follow: their pairs are "is random" but where a sentence is longer than half a pair. '
            'Give longer documents (sample_by="paragraph" or "document"), or the language of the text.',
            stacklevel=stacklevel + 1,
        )


def _encode_batch(batch, encode, split, version):
    """Columns of the encoded corpus; the version only tells the cache's entries apart."""
    documents = _encode(batch["text"], encode, split)
    return {
        "tokens": [_joined(document) for document in documents],
        "lengths": [[len(sentence) for sentence in document] for document in documents],
    }


def _encode(texts, encode, split):
    """Documents as lists of non-empty sentences, arrays of ids."""
    documents = [split(text) for text in texts]
    remaining = iter(encode([sentence for document in documents for sentence in document]))
    return [[ids for ids in itertools.islice(remaining, len(document)) if len(ids)] for document in documents]


def _joined(sentences):
    return np.concatenate([np.array([], dtype=np.int32), *sentences]).astype(np.int32, copy=False)


def _check_documents(stream):
    if stream.num_documents < 2:
        raise CorpusError(
            f"the corpus has {stream.num_documents} documents with text, but a random second span comes from another "
            'document: read it with sample_by="paragraph" or "line", so that there are at least 2.'
        )


class PairPlanner:
    """Cuts documents into pairs of spans as the authors' create_pretraining_data does, sentence by sentence.

    Sentences of more than half of `max_length` − 3 tokens are cut into parts first, which are sentences from there
    on: a sentence that is read alone is then read whole, so that no token is left out of all pairs.

    Sentences are gathered until they hold `max_length` − 3 tokens, or with `short_probability`, drawn once per
    document, a random number from 2. A is a random number of them, at least one. B is the rest (is next), or, with
    probability 1/2 and always where there is no rest, as many tokens from a random place of another document (is
    random); the rest is then read again. What is too long loses tokens at the front or the back, by chance, of the
    longer span.
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
        # lists: indexed one number at a time
        self.sentence_starts = stream.sentence_starts.tolist()
        self.document_starts = stream.document_starts.tolist()

    def plan(self, document: int, draw: np.random.Generator) -> list[tuple[int, int, int, int, bool]]:
        """The pairs of one document: where A begins and ends in the tokens, where B does, and whether B is random."""
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
        # as released: one time in D^10 the tenth try is the same document
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
        """Token by token from the longer one (B, of equal ones), each from the front with probability 1/2."""
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

    Every document is cut into pairs `duplicates` times, each time otherwise. As released, the masks of each pair are
    drawn once, too; with `dynamic_masking` they differ from epoch to epoch, so that one duplicate is enough.

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
        return pair_example(
            self.tokens, self.spans[index], self.is_random[index], self.tokenizer, self.masking, generator
        )


class StreamedSentencePairs(torch.utils.data.IterableDataset):
    """`SentencePairs` of a corpus too large to hold: read, cut and masked while training, in constant memory.

    `corpus` has a column "text", one document a row. 256 documents or more are read together; random second spans come
    from the same ones, and their pairs are given in random order. Everything is a function of (seed, pass, place in
    the corpus), so that the Trainer's skipping on resume is exact within one of its epochs: train with `passes=None`
    (without end) and `max_steps`. DataLoader workers read all of the text and cut and mask their share of it: together
    they give the pairs that one process gives, each once. `language` and `split` are those of `encode_sentences`; the
    first documents read may give its warning.

    Raises ValueError for a bad setting and, when reading, CorpusError for a corpus of fewer than two documents.
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
        # counted through the passes, so that no worker waits for ever where a pass has fewer groups than workers
        turn = itertools.cycle(range(num_workers))
        for pass_number in itertools.count() if self.passes is None else range(self.passes):
            for group, texts in enumerate(self._groups()):
                if next(turn) == worker_id:
                    stream = SentenceStream.of(_encode(texts, self.encode, self.split))
                    if pass_number == group == 0:
                        _warn_of_single_sentences(stream, stacklevel=2)
                    draw = randomness.generator(self.seed, pass_number, group, "streamed pairs")
                    yield from self._pairs(stream, draw)

    def _groups(self):
        """The texts that are not blank, 256 together; fewer at the end go with those before them."""
        # not iter(corpus), which gives each worker some of the shards only
        batches = self.corpus.iter(_READ_AHEAD)
        texts = (text for batch in batches for text in batch["text"] if text.strip())
        held = list(itertools.islice(texts, _READ_AHEAD))
        while len(read := list(itertools.islice(texts, _READ_AHEAD))) == _READ_AHEAD:
            yield held
            held = read
        yield held + read

    def _pairs(self, stream, draw):
        planner = PairPlanner(stream, self.max_length, self.short_probability)
        pairs = [pair for document in range(stream.num_documents) for pair in planner.plan(document, draw)]
        for index in draw.permutation(len(pairs)):
            *span, is_random = pairs[index]
            yield pair_example(stream.tokens, span, is_random, self.tokenizer, self.masking, draw)
