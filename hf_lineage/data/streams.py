"""Token streams as a causal language model reads them: blocks, parallel streams, blocks of varying length."""

from typing import Protocol

import numpy as np
import torch

from hf_lineage.data import randomness
from hf_lineage.data.blocks import as_tensor, causal_block, check_block_size, check_context_size
from hf_lineage.data.text_files import CorpusError
from hf_lineage.data.token_stream import TokenStream


class Predictions(Protocol):
    """A text as numbers, [N], and how many of them can be predicted: a `TokenStream` or a `BiLMStream`."""

    @property
    def tokens(self) -> np.ndarray: ...

    @property
    def num_predictions(self) -> int: ...


class ContiguousBlocks(randomness.EpochDataset):
    """The stream in blocks of `block_size` tokens that ignore the documents' bounds.

    Gives {"input_ids": [T], "labels": [T]}, both equal, for models that shift the labels themselves. Neighbouring
    blocks share one token: the last token of a block is only predicted, and is the first of the next block, where it
    is only read. So each token is predicted exactly once, except the last `num_dropped`, which do not fill a block.

    For a model that reads a window of `context_size` tokens, neighbouring blocks share that many tokens, so that the
    window is always full. Only the first block predicts them; in all others their label is -100.

    Raises ValueError for a block_size that leaves nothing to predict and CorpusError for a stream shorter than a
    block.
    """

    def __init__(
        self, stream: TokenStream, block_size: int, seed: int = 0, shuffle: bool = True, context_size: int = 1
    ):
        super().__init__(seed, shuffle)
        check_block_size(block_size)
        check_context_size(context_size, block_size)
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
        return causal_block(self.tokens[start : start + self.block_size], self.context_size if index else 1)


class BlocksWithNegatives(ContiguousBlocks):
    """`ContiguousBlocks` with "negative_ids" [K], noise words for all targets of the block.

    For `sampled_softmax` and `nce`. The words are drawn with repetition from the log-uniform distribution over the
    vocabulary, as a function of (seed, epoch, block). Evaluation needs none.

    Raises ValueError as `ContiguousBlocks` does, and if num_negatives is below 1.
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
    """The stream cut into `num_streams` equal pieces that are read in parallel, for truncated BPTT.

    Gives {"input_ids": [T], "labels": [T], "shift_labels": [T], "stream": int, "stream_step": int}. The labels equal
    the input. The shift_labels are one token ahead, and models use them unshifted, so that the last token of a block
    is scored too.

    Position p holds step p // num_streams of stream p % num_streams. Read in order with a global batch of num_streams,
    row r of each batch continues row r of the batch before, so that a recurrent state can be carried over. Accelerate
    gives consecutive batches of num_streams / W examples to W processes in turn, so that each process keeps its own
    streams.

    The last `num_dropped` predictions, which do not fill a step of each stream, are left out, as in Zaremba et al.
    (2014). Raises ValueError for num_streams or block_size below 1, CorpusError for a stream that is too short.
    """

    def __init__(self, stream: Predictions, num_streams: int, block_size: int):
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
        input_ids = as_tensor(self.tokens[start : start + self.block_size])
        return {
            "input_ids": input_ids,
            "labels": input_ids.clone(),
            "shift_labels": as_tensor(self.tokens[start + 1 : start + self.block_size + 1]),
            "stream": stream,
            "stream_step": step,
        }


class VariableStreams(ParallelStreams, randomness.EpochDataset):
    """`ParallelStreams` whose blocks vary in length, so that no token always ends a block (Merity et al., 2017, 4.1).

    A block's length is drawn around `block_size`, or with probability 0.05 around half of it, with a standard
    deviation of 5 and at least 5. It is a function of (seed, epoch, step), the same for all streams. The lengths of an
    epoch are then scaled a little so that they fill the streams: each epoch has the same number of steps, and drops
    only the tokens that do not divide among the streams.

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
        self._bounds_epoch: int | None = None
        self._bounds = np.empty(0, np.int64)

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
        input_ids = as_tensor(self.tokens[start:end])
        return {
            "input_ids": input_ids,
            "labels": input_ids.clone(),
            "shift_labels": as_tensor(self.tokens[start + 1 : end + 1]),
            "stream": stream,
            "stream_step": step,
        }
