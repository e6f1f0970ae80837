"""Encoded sentence pairs, and batches of them with a limited number of tokens (Vaswani et al., 2017, section 5.1)."""

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from tqdm.auto import tqdm

from hf_lineage.data.collators import TranslationPackingCollator
from hf_lineage.data.encoding import TextEncoder
from hf_lineage.data.packing import IGNORED
from hf_lineage.data.randomness import EpochDataset, permutation
from hf_lineage.data.text_files import CorpusError


class TranslationPairs(torch.utils.data.Dataset):
    """Sentence pairs as token ids: {"input_ids": [S], "labels": [T]}, with the end marks of the tokenizer's template.

    Pairs with more than `max_length` tokens on a side are left out, as the papers do in training. `source_lengths` and
    `target_lengths`, both [N], count tokens.

    Raises:
        CorpusError: no pair is left.
    """

    def __init__(self, corpus, tokenizer, max_length: int | None = None, show_progress: bool = True):
        self.sides, self.offsets = [], []
        encoded = {"source": [], "target": []}
        encode = _encoder(tokenizer)
        for start in tqdm(range(0, len(corpus), 1_000), desc="Encoding", unit="k pairs", disable=not show_progress):
            rows = corpus[start : start + 1_000]
            for side, ids in encoded.items():
                ids += encode(rows[side])
        pairs = list(zip(encoded["source"], encoded["target"], strict=True))
        if not pairs:
            raise CorpusError("the corpus has no sentence pair: both sides of a pair must have text")
        if max_length is not None:
            pairs = [pair for pair in pairs if max(map(len, pair)) <= max_length]
        if not pairs:
            raise CorpusError(
                f"none of the {len(corpus)} sentence pairs has at most {max_length} tokens per side: raise max_length"
            )
        for side in zip(*pairs, strict=True):
            self.sides.append(np.concatenate(side))
            self.offsets.append(np.cumsum([0, *map(len, side)]))

    @property
    def source_lengths(self) -> np.ndarray:
        return np.diff(self.offsets[0])

    @property
    def target_lengths(self) -> np.ndarray:
        return np.diff(self.offsets[1])

    def __len__(self) -> int:
        return len(self.offsets[0]) - 1

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        ids = [
            side[offsets[index] : offsets[index + 1]] for side, offsets in zip(self.sides, self.offsets, strict=True)
        ]
        return dict(
            zip(("input_ids", "labels"), (torch.from_numpy(side.astype(np.int64)) for side in ids), strict=True)
        )


def _encoder(tokenizer):
    """`tokenizer(texts)["input_ids"]` as arrays, but faster: a text's own ids between those of the template."""
    encode = TextEncoder(tokenizer)
    around, inner = tokenizer("a").input_ids, tokenizer("a", add_special_tokens=False).input_ids
    before = next(i for i in range(len(around)) if around[i : i + len(inner)] == inner)
    first, last = (np.array(ids, np.int32) for ids in (around[:before], around[before + len(inner) :]))
    return lambda texts: [np.concatenate([first, ids, last]) for ids in encode(texts)]


class PairCollator:
    """Pads pairs to {"input_ids": [B, S], "attention_mask": [B, S], "labels": [B, T]}; leaves a batch unchanged."""

    def __init__(self, pad_token_id: int):
        self.pad_token_id = pad_token_id

    def __call__(self, pairs: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        if pairs[0]["input_ids"].dim() == 2:
            (batch,) = pairs
            return batch
        sources, targets = ([pair[name] for pair in pairs] for name in ("input_ids", "labels"))
        masks = [torch.ones_like(source) for source in sources]
        return {
            "input_ids": pad_sequence(sources, batch_first=True, padding_value=self.pad_token_id),
            "attention_mask": pad_sequence(masks, batch_first=True),
            "labels": pad_sequence(targets, batch_first=True, padding_value=IGNORED),
        }


class TokenBuckets(EpochDataset):
    """Batches of pairs of similar length: at most `tokens_per_batch` source tokens and as many target tokens each.

    An example is a padded batch (`PairCollator`), so that the DataLoader's batch size is 1. Pairs are sorted by their
    longer side (equal ones in a new order each epoch) and cut into batches that are full, padding included; then the
    batches are shuffled. The batches are a pure function of (seed, epoch), and their number is the same in every
    epoch. With `packing` the same pairs come without padding (`TranslationPackingCollator`).

    The rows of a batch are divided among `parts`, the processes times the accumulated batches of an update: the update
    is the same for any number of parts. A part without a row gets one that is not scored. With `number_pairs` a batch
    also has "pair" [B], each row's number among the pairs, to draw randomness per pair.

    Raises:
        ValueError: a pair does not fit into a batch, or `parts` is below 1.
    """

    def __init__(
        self,
        pairs: TranslationPairs,
        tokens_per_batch: int,
        pad_token_id: int,
        parts: int = 1,
        seed: int = 0,
        number_pairs: bool = False,
        packing: bool = False,
    ):
        super().__init__(seed, shuffle=True)
        self.number_pairs, self.packing = number_pairs, packing
        self.pairs, self.parts = pairs, parts
        self.collate = TranslationPackingCollator() if packing else PairCollator(pad_token_id)
        self.lengths = np.maximum(pairs.source_lengths, pairs.target_lengths)
        if parts < 1:
            raise ValueError(f"parts is {parts}; it must be at least 1")
        if self.lengths.max() > tokens_per_batch:
            raise ValueError(
                f"tokens_per_batch is {tokens_per_batch}, but a text has {self.lengths.max()} tokens: raise it, or "
                "leave long texts out (max_length)"
            )
        self.starts = [0]
        for index, length in enumerate(np.sort(self.lengths)):
            # the last row is the longest
            if (index + 1 - self.starts[-1]) * length > tokens_per_batch:
                self.starts.append(index)
        self.starts.append(len(pairs))
        self._sorted_epoch: int | None = None
        self._sorted = np.empty(0, np.int64)

    def __len__(self) -> int:
        return (len(self.starts) - 1) * self.parts

    def rows(self, batch: int) -> np.ndarray:
        """The numbers of the pairs in a batch of this epoch."""
        epoch = self.epoch
        if self._sorted_epoch != epoch:
            # a stable sort keeps the order of the epoch among equal lengths
            order = permutation(self.seed, epoch, len(self.pairs))
            self._sorted = order[np.argsort(self.lengths[order], kind="stable")]
            self._sorted_epoch = epoch
        return self._sorted[self.starts[batch] : self.starts[batch + 1]]

    def example(self, index: int, generator: np.random.Generator) -> dict[str, Tensor]:
        batch, part = divmod(index, self.parts)
        rows = self.rows(batch)
        own = rows[part :: self.parts]
        taken = own if len(own) else rows[:1]
        collated = self.collate([self.pairs[int(row)] for row in taken])
        if self.number_pairs:
            collated["pair"] = torch.from_numpy(taken)
        if not len(own):
            collated["labels"].fill_(IGNORED)
        return collated

    def _order_of(self, epoch):
        # the parts of a batch stay together
        if self._order_epoch != epoch:
            batches = permutation(self.seed, epoch, len(self.starts) - 1)
            self._order = (batches[:, None] * self.parts + np.arange(self.parts)).ravel()
            self._order_epoch = epoch
        return self._order
