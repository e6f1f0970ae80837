"""Blocks of a token stream, tokenized while training, in constant memory."""

import itertools
from collections.abc import Iterator

import datasets
import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from hf_lineage.data import randomness
from hf_lineage.data.blocks import causal_block, check_block_size, check_context_size
from hf_lineage.data.encoding import TextEncoder
from hf_lineage.data.text_files import CorpusError
from hf_lineage.data.token_stream import check_row_text, end_mark
from hf_lineage.text_parts import Part, whole_texts


# documents tokenized at a time when streaming
_READ_AHEAD = 256


class StreamedBlocks(torch.utils.data.IterableDataset):
    """`ContiguousBlocks` of a corpus too large for memory: read and tokenized while training, in constant memory.

    `corpus` has a column "text", and "continues" if `load_corpus` was called with `longest`. The tokens at the end of
    a pass that do not fill a block are dropped. Blocks come in the order of the corpus; with `shuffle_buffer` > 0,
    memory holds that many blocks, and the next one is drawn from them by (seed, pass). The order is reproducible, so
    that the Trainer's skipping on resume is exact, but only within one of its epochs: train with `passes=None`
    (without end) and `max_steps`; `passes=1` suits evaluation. For `context_size` see `ContiguousBlocks`.

    No block is given twice. DataLoader workers share the corpus's shards (its files), so workers beyond the number of
    shards are idle. With several processes, accelerate lets one process read for all, or each take its slice of the
    blocks.

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
        check_block_size(block_size)
        check_context_size(context_size, block_size)
        end_mark(tokenizer)
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
        pending, only_read, encoded = end, 1, []
        texts = self._texts() if self.encode.by_chunk else whole_texts(self._texts())
        while batch := list(itertools.islice(texts, _READ_AHEAD)):
            for text, ids in zip(batch, self.encode(batch), strict=True):
                encoded.append(ids if isinstance(text, Part) else np.append(ids, end))
            pending = np.concatenate([pending, *encoded])
            encoded.clear()
            while len(pending) >= self.block_size:
                yield causal_block(pending[: self.block_size], only_read)
                pending, only_read = pending[self.block_size - self.context_size :], self.context_size

    def _texts(self):
        # not corpus.iter(batch_size), which does not divide the shards among workers
        for row, example in enumerate(iter(self.corpus)):
            check_row_text(row, example["text"])
            yield Part(example["text"]) if example.get("continues") else example["text"]

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
