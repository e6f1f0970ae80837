"""Packing: whole documents in blocks, each document read by itself."""

import numpy as np
import torch

from hf_lineage.data.blocks import IGNORED
from hf_lineage.data.randomness import EpochDataset
from hf_lineage.data.token_stream import TokenStream


class PackedDocuments(EpochDataset):
    """Blocks of `block_size` tokens that hold whole documents, each read by itself (block-diagonal attention).

    Gives {"input_ids": [T], "labels": [T], "position_ids": [T]} for models that shift the labels themselves. A
    document is its start mark (the end mark before it), its tokens and its end mark, so that each token and each end
    mark of the corpus is predicted exactly once. Only a document longer than a block is cut: each piece begins with
    the last token of the piece before. Documents are placed best fit decreasing (Ding et al., 2024, "Fewer
    truncations improve language modeling"): the longest first, each into the block that it fills best.

    Positions restart from 0 at each document, and there is no attention mask: transformers makes the block-diagonal
    mask from the positions (with sdpa and eager attention; use_cache=False). The label of a document's first position
    is -100. So are the labels of the padding, which consists of end marks with their own positions.

    `efficiency` is the share of positions that are not padding. Raises ValueError for a block_size below 2.
    """

    def __init__(self, stream: TokenStream, block_size: int, seed: int = 0, shuffle: bool = True):
        super().__init__(seed, shuffle)
        if block_size < 2:
            raise ValueError(f"block_size is {block_size}; it must be at least 2: a start mark and one token")
        self.tokens = stream.tokens
        self.eos_token_id = stream.eos_token_id
        self.block_size = block_size
        self.starts, self.lengths = _pieces(stream, block_size)
        self.blocks = _best_fit_decreasing(self.lengths, block_size)
        self.efficiency = float(self.lengths.sum() / (len(self.blocks) * block_size))

    def __len__(self) -> int:
        return len(self.blocks)

    def example(self, index: int, generator: np.random.Generator) -> dict[str, torch.Tensor]:
        input_ids = np.full(self.block_size, self.eos_token_id)
        labels = np.full(self.block_size, IGNORED)
        position_ids = np.empty(self.block_size, dtype=np.int64)
        end = 0
        for piece in self.blocks[index]:
            start, length = self.starts[piece], self.lengths[piece]
            begin, end = end, end + length
            input_ids[begin:end] = self.tokens[start : start + length]
            labels[begin + 1 : end] = input_ids[begin + 1 : end]
            position_ids[begin:end] = np.arange(length)
        position_ids[end:] = np.arange(self.block_size - end)
        return {
            "input_ids": torch.from_numpy(input_ids),
            "labels": torch.from_numpy(labels),
            "position_ids": torch.from_numpy(position_ids),
        }


def _pieces(stream, block_size):
    """The start of each piece in the stream, and its length with the token before it, both int64."""
    # a document starts with the end mark before it and ends with its own
    document_starts = stream.document_starts - 1
    num_predictions = np.diff(document_starts, append=len(stream.tokens) - 1)
    pieces_each = -(-num_predictions // (block_size - 1))
    first_piece = np.cumsum(pieces_each) - pieces_each
    piece_in_document = np.arange(pieces_each.sum()) - np.repeat(first_piece, pieces_each)
    offsets = piece_in_document * (block_size - 1)
    lengths = np.minimum(np.repeat(num_predictions, pieces_each) - offsets, block_size - 1) + 1
    return np.repeat(document_starts, pieces_each) + offsets, lengths


def _best_fit_decreasing(lengths, block_size):
    """One list of pieces per block; their lengths sum to at most `block_size`."""
    blocks = []
    # with_room[n]: the blocks with room for n more tokens; bit n of `rooms` is set if there is such a block
    with_room = [[] for _ in range(block_size + 1)]
    rooms = 0
    for piece in np.argsort(-lengths, kind="stable").tolist():
        length = int(lengths[piece])
        fitting = rooms >> length
        if fitting:
            # the lowest bit: the smallest room that is large enough
            room = length + (fitting & -fitting).bit_length() - 1
            block = with_room[room].pop()
            if not with_room[room]:
                rooms ^= 1 << room
        else:
            room = block_size
            block = len(blocks)
            blocks.append([])
        blocks[block].append(piece)
        left = room - length
        with_room[left].append(block)
        rooms |= 1 << left
    return blocks
