"""A corpus as one long stream of tokens, and the ways a causal language model reads it."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import datasets
import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from hf_lineage.data import randomness
from hf_lineage.data.corpus import CorpusError
from hf_lineage.data.encoding import TextEncoder


IGNORED = -100
# raise it when the same text is encoded differently, so that no stale cache is served
_ENCODING_VERSION = 1
# documents tokenized at a time when streaming
_READ_AHEAD = 256


@dataclass(frozen=True, eq=False)
class TokenStream:
    """An encoded corpus, `<eos> d1 <eos> d2 <eos> ... dn <eos>`.

    The stream begins with an end mark, so that each token of the text and each end mark is predicted exactly once:
    `num_predictions` = len(tokens) - 1. The counts are what perplexity and bits are divided by, and count the end
    marks too, as is the custom on the Penn Treebank: `<eos>` is a word, and the end of a line is a character.

    tokens: int32 [N]; document_starts: int64 [documents], where each document's first token is;
    num_words: words of the text between white space, plus one per document;
    num_characters: characters of the text, plus one per document;
    num_unknown: tokens of the text that are the tokenizer's unknown token.
    """

    tokens: np.ndarray
    document_starts: np.ndarray
    num_words: int
    num_characters: int
    num_unknown: int

    @property
    def num_predictions(self) -> int:
        return len(self.tokens) - 1

    @property
    def eos_token_id(self) -> int:
        return int(self.tokens[0])


def encode_corpus(
    corpus: datasets.Dataset, tokenizer: PreTrainedTokenizerBase, *, num_proc: int | None = None
) -> TokenStream:
    """Tokenize the column "text" of `corpus`, one document a row, in `num_proc` processes; cached by datasets.

    Raises CorpusError for a corpus without text and for a row that is not text, ValueError for a tokenizer without
    an end mark.
    """
    eos_token_id = _end_mark(tokenizer)
    if len(corpus) == 0:
        raise CorpusError("the corpus has no documents")
    encoded = corpus.map(
        _encode_batch,
        batched=True,
        with_indices=True,
        fn_kwargs={"encode": TextEncoder(tokenizer), "eos_token_id": eos_token_id, "version": _ENCODING_VERSION},
        remove_columns=corpus.column_names,
        features=datasets.Features(
            tokens=datasets.List(datasets.Value("int32")),
            num_words=datasets.Value("int64"),
            num_characters=datasets.Value("int64"),
        ),
        num_proc=num_proc,
        desc="Tokenizing",
    )
    columns = encoded.with_format("arrow")[:]
    documents = columns["tokens"].chunks
    lengths = np.concatenate([chunk.value_lengths().to_numpy() for chunk in documents])
    tokens = np.concatenate([[eos_token_id], *(chunk.flatten().to_numpy() for chunk in documents)]).astype(np.int32)
    if len(tokens) == 1 + len(lengths):
        raise CorpusError(f"the corpus has no text: all of its {len(lengths)} documents are empty")
    return TokenStream(
        tokens=tokens,
        document_starts=1 + np.cumsum(lengths, dtype=np.int64) - lengths,
        num_words=int(columns["num_words"].to_numpy().sum()),
        num_characters=int(columns["num_characters"].to_numpy().sum()),
        num_unknown=int(np.count_nonzero(tokens == tokenizer.unk_token_id)),
    )


def _end_mark(tokenizer):
    if tokenizer.eos_token_id is None:
        raise ValueError(
            "the tokenizer has no eos_token, which marks the end of a document: train it with one "
            '(special_tokens={"eos_token": "<eos>", ...}) or name one of its tokens (tokenizer.eos_token = "[SEP]").'
        )
    return tokenizer.eos_token_id


def _encode_batch(batch, indices, encode, eos_token_id, version):
    """Columns of the encoded corpus; the version only tells the cache's entries apart."""
    texts = batch["text"]
    for index, text in zip(indices, texts, strict=True):
        _check_text(index, text)
    return {
        "tokens": [np.append(ids, np.int32(eos_token_id)) for ids in encode(texts)],
        "num_words": [len(text.split()) + 1 for text in texts],
        "num_characters": [len(text) + 1 for text in texts],
    }


def _check_text(row, text):
    if not isinstance(text, str):
        raise CorpusError(f"row {row} of the corpus is {text!r} ({type(text).__name__}), not text")


def _check_block_size(block_size):
    if block_size < 2:
        raise ValueError(f"block_size is {block_size}; a block has at least 2 tokens, one to read and one to predict")


def _check_context_size(context_size, block_size):
    if not 1 <= context_size < block_size:
        raise ValueError(
            f"context_size is {context_size}; it must lie between 1 and {block_size - 1}, one less than block_size"
        )


def _causal_block(tokens, context_size):
    """The first `context_size` tokens are only read; the first label, of which there is no prediction, may stay."""
    input_ids = _as_tensor(tokens)
    labels = input_ids.clone()
    labels[1:context_size] = IGNORED
    return {"input_ids": input_ids, "labels": labels}


class ContiguousBlocks(randomness.EpochDataset):
    """The stream in blocks of `block_size` tokens that ignore the documents' bounds.

    Gives {"input_ids": [T], "labels": [T]}, equal, for models that shift the labels themselves. Neighbouring blocks
    share one token: the last of a block, which is only predicted, is the first of the next, which is only read. So
    each token is predicted exactly once, but for the last `num_dropped`, which do not fill a block.

    A model that reads a window of `context_size` tokens is to have it filled everywhere: then blocks share that many
    tokens, which only the first block predicts (the label -100 in all others).

    Raises ValueError for a block_size that leaves nothing to predict and CorpusError for a stream shorter than a
    block.
    """

    def __init__(
        self, stream: TokenStream, block_size: int, seed: int = 0, shuffle: bool = True, context_size: int = 1
    ):
        super().__init__(seed, shuffle)
        _check_block_size(block_size)
        _check_context_size(context_size, block_size)
        if len(stream.tokens) < block_size:
            raise CorpusError(
                f"the corpus has {len(stream.tokens)} tokens, fewer than one block of block_size={block_size}: "
                "use a smaller block_size or more text."
            )
        self.tokens = stream.tokens
        self.block_size = block_size
        self.context_size = context_size
        self.num_dropped = (len(stream.tokens) - context_size) % (block_size - context_size)

    def __len__(self) -> int:
        return (len(self.tokens) - self.context_size) // (self.block_size - self.context_size)

    def example(self, index: int, generator: np.random.Generator) -> dict[str, torch.Tensor]:
        start = index * (self.block_size - self.context_size)
        return _causal_block(self.tokens[start : start + self.block_size], self.context_size if index else 1)


class BlocksWithNegatives(ContiguousBlocks):
    """`ContiguousBlocks` with "negative_ids" [K], words that each target of the block is compared with.

    For `sampled_softmax` and `nce`: drawn with repetition from the log-uniform distribution over the vocabulary, as a
    function of (seed, epoch, block). Evaluation needs none.

    Raises ValueError as `ContiguousBlocks` does, and for no negatives.
    """

    def __init__(self, stream: TokenStream, block_size: int, vocab_size: int, num_negatives: int, **options):
        super().__init__(stream, block_size, **options)
        if num_negatives < 1:
            raise ValueError(f"num_negatives is {num_negatives}; it must be at least 1")
        self.vocab_size = vocab_size
        self.num_negatives = num_negatives

    def example(self, index: int, generator: np.random.Generator) -> dict[str, torch.Tensor]:
        negatives = randomness.log_uniform(generator, self.num_negatives, self.vocab_size)
        return super().example(index, generator) | {"negative_ids": torch.from_numpy(negatives)}


class ParallelStreams(torch.utils.data.Dataset):
    """The stream cut into `num_streams` equal pieces that are read side by side, for truncated BPTT.

    Gives {"input_ids": [T], "labels": [T], "shift_labels": [T], "stream": int, "stream_step": int}: the labels equal
    the input, and the shift_labels, which the models take as they are, are one token further, so that a block's last
    token is scored too.

    Position p holds step p // num_streams of stream p % num_streams: read in order with a global batch of
    num_streams, row r of each batch continues row r of the batch before, so a recurrent state can be carried over.
    Accelerate deals consecutive batches of num_streams / W examples to W processes in turn, so that each process
    keeps its own streams from step to step.

    The last `num_dropped` predictions, which do not fill a step of each stream, are left out (Zaremba et al., 2014,
    do the same). Raises ValueError for num_streams or block_size below 1, CorpusError for a stream that is too short.
    """

    def __init__(self, stream: TokenStream, num_streams: int, block_size: int):
        for name, value in (("num_streams", num_streams), ("block_size", block_size)):
            if value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")
        self.tokens = stream.tokens
        self.num_streams = num_streams
        self.block_size = block_size
        self.stream_length = stream.num_predictions // num_streams
        self.num_steps = self.stream_length // block_size
        self.num_dropped = stream.num_predictions - num_streams * self.num_steps * block_size
        if self.num_steps == 0:
            raise CorpusError(
                f"the corpus has {len(stream.tokens)} tokens, fewer than the {num_streams * block_size + 1} of one "
                f"step of num_streams={num_streams} by block_size={block_size}: use smaller ones or more text."
            )

    def __len__(self) -> int:
        return self.num_steps * self.num_streams

    def __getitem__(self, position: int) -> dict:
        if not 0 <= position < len(self):
            raise IndexError(f"position {position} is outside of a dataset of {len(self)} examples")
        step, stream = divmod(int(position), self.num_streams)
        start = stream * self.stream_length + step * self.block_size
        input_ids = _as_tensor(self.tokens[start : start + self.block_size])
        return {
            "input_ids": input_ids,
            "labels": input_ids.clone(),
            "shift_labels": _as_tensor(self.tokens[start + 1 : start + self.block_size + 1]),
            "stream": stream,
            "stream_step": step,
        }


class VariableStreams(ParallelStreams, randomness.EpochDataset):
    """`ParallelStreams` whose blocks vary in length, so that no token always ends a block (Merity et al., 2017, 4.1).

    A block's length is drawn around `block_size`, or with probability 0.05 around half of it, with a standard
    deviation of 5 and at least 5: a function of (seed, epoch, step), the same for all streams. The lengths of an epoch
    are then stretched or shrunk, by about as much as their mean differs from what is expected, so that they fill the
    streams: each epoch has as many steps, and drops only what does not divide among the streams.

    Raises ValueError and CorpusError as `ParallelStreams` does, and ValueError for a block_size below 5.
    """

    def __init__(self, stream: TokenStream, num_streams: int, block_size: int, seed: int = 0):
        randomness.EpochDataset.__init__(self, seed, shuffle=False)
        ParallelStreams.__init__(self, stream, num_streams, block_size)
        if block_size < 5:
            raise ValueError(f"block_size is {block_size}; blocks of varying length need at least 5, their shortest")
        # 0.95 · 1 + 0.05 · 1/2 of block_size on average
        self.num_steps = max(1, round(self.stream_length / (0.975 * block_size)))
        self.num_dropped = stream.num_predictions - num_streams * self.stream_length
        self._bounds_epoch = None
        self._bounds = None

    def bounds(self) -> np.ndarray:
        """Where the blocks of this epoch begin and end in each stream, int64 [steps + 1]."""
        if self._bounds_epoch != self.epoch:
            draws = [randomness.generator(self.seed, self.epoch, i, "block length") for i in range(self.num_steps)]
            centres = [self.block_size / (2 if draw.random() < 0.05 else 1) for draw in draws]
            lengths = [max(5, draw.normal(centre, 5)) for draw, centre in zip(draws, centres, strict=True)]
            ends = np.cumsum([0, *lengths])
            self._bounds = np.rint(ends * (self.stream_length / ends[-1])).astype(np.int64)
            self._bounds_epoch = self.epoch
        return self._bounds

    def __getitem__(self, position: int) -> dict:
        if not 0 <= position < len(self):
            raise IndexError(f"position {position} is outside of a dataset of {len(self)} examples")
        step, stream = divmod(int(position), self.num_streams)
        start, end = stream * self.stream_length + self.bounds()[step : step + 2]
        input_ids = _as_tensor(self.tokens[start:end])
        return {
            "input_ids": input_ids,
            "labels": input_ids.clone(),
            "shift_labels": _as_tensor(self.tokens[start + 1 : end + 1]),
            "stream": stream,
            "stream_step": step,
        }


class StreamedBlocks(torch.utils.data.IterableDataset):
    """`ContiguousBlocks` of a corpus too large to hold: read and tokenized while training, in constant memory.

    `context_size` is that of `ContiguousBlocks`.

    `corpus` has a column "text". The tail that does not fill a block is dropped at the end of each pass. The order is
    the corpus's; with `shuffle_buffer` blocks in memory, the next one is drawn from these, as a function of
    (seed, pass). The order is the same each time, so that the Trainer's skipping on resume is exact, but only within
    one of its epochs: train with `passes=None` (without end) and `max_steps`; `passes=1` suits evaluation.

    No block comes twice. DataLoader workers share the corpus's shards (its files) among them, so more workers than
    shards are idle; of several processes, accelerate has one read for all, or each take its slice of the blocks.

    Raises ValueError for a bad setting and, when reading, CorpusError for a corpus shorter than a block.
    """

    def __init__(
        self,
        corpus: datasets.IterableDataset,
        tokenizer: PreTrainedTokenizerBase,
        block_size: int,
        *,
        seed: int = 0,
        shuffle_buffer: int = 0,
        passes: int | None = 1,
        context_size: int = 1,
    ):
        if not isinstance(corpus, datasets.IterableDataset):
            raise TypeError(
                f"the corpus is a {type(corpus).__name__}, not a datasets.IterableDataset: load it with "
                "streaming=True, or call its to_iterable_dataset(num_shards=...)."
            )
        _check_block_size(block_size)
        _check_context_size(context_size, block_size)
        _end_mark(tokenizer)
        if shuffle_buffer < 0:
            raise ValueError(f"shuffle_buffer is {shuffle_buffer}; it is a number of blocks, 0 for no shuffling")
        if passes is not None and passes < 1:
            raise ValueError(f"passes is {passes}; it must be at least 1, or None to read without end")
        self.corpus = corpus
        self.tokenizer = tokenizer
        self.encode = TextEncoder(tokenizer)
        self.block_size = block_size
        self.seed = seed
        self.shuffle_buffer = shuffle_buffer
        self.passes = passes
        self.context_size = context_size

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        worker = torch.utils.data.get_worker_info()
        worker_id = worker.id if worker else 0
        for pass_number in itertools.count() if self.passes is None else range(self.passes):
            blocks = self._blocks()
            if self.shuffle_buffer:
                draws = randomness.generator(self.seed, pass_number, worker_id, type(self).__name__)
                blocks = _shuffled(blocks, self.shuffle_buffer, draws)
            empty = True
            for block in blocks:
                empty = False
                yield block
            if empty:
                self._stop_without_blocks(worker_id)
                return

    def _blocks(self):
        end = np.array([self.tokenizer.eos_token_id], np.int32)
        pending, only_read = end, 1
        for texts in self._batches_of_texts():
            pending = np.concatenate([pending, *(part for ids in self.encode(texts) for part in (ids, end))])
            while len(pending) >= self.block_size:
                yield _causal_block(pending[: self.block_size], only_read)
                pending, only_read = pending[self.block_size - self.context_size :], self.context_size

    def _batches_of_texts(self):
        # not corpus.iter(batch_size), which does not share the shards among workers
        rows = enumerate(iter(self.corpus))
        while batch := list(itertools.islice(rows, _READ_AHEAD)):
            for row, example in batch:
                _check_text(row, example["text"])
            yield [example["text"] for _, example in batch]

    def _stop_without_blocks(self, worker_id):
        # other workers may have no shard to read
        if worker_id == 0:
            raise CorpusError(
                f"the corpus has fewer tokens than one block of block_size={self.block_size}: "
                "use a smaller block_size or more text."
            )


def _shuffled(blocks, buffer_size, draws):
    buffer = []
    for block in blocks:
        if len(buffer) < buffer_size:
            buffer.append(block)
        else:
            chosen = draws.integers(buffer_size)
            yield buffer[chosen]
            buffer[chosen] = block
    yield from (buffer[index] for index in draws.permutation(len(buffer)))


def _as_tensor(tokens):
    return torch.from_numpy(tokens.astype(np.int64))
