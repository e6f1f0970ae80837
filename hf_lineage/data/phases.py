"""Training in phases: one run reads several data sets in turn, under one learning-rate schedule."""

import bisect
import itertools
from collections.abc import Sequence

import torch

from hf_lineage.data.randomness import EpochDataset


class Phases(torch.utils.data.Dataset):
    """`examples[i]` examples of `parts[i]`, over as many of its epochs as needed, then the next part.

    BERT reads texts of 128 tokens for nine tenths of its steps, and of 512 for the rest (Devlin et al., 2019, appendix
    A.2). Position p is always the same example, so that a resumed run, or one with another number of processes, sees
    the same examples. Train one epoch, in order.
    """

    def __init__(self, parts: Sequence[EpochDataset], examples: Sequence[int]):
        self.parts = list(parts)
        self.examples = list(examples)

    def __len__(self) -> int:
        return sum(self.examples)

    def __getitem__(self, position: int) -> dict:
        if not 0 <= position < len(self):
            raise IndexError(f"position {position} is outside the {len(self)} examples")
        ends = list(itertools.accumulate(self.examples))
        phase = bisect.bisect_right(ends, position)
        part, start = self.parts[phase], ends[phase] - self.examples[phase]
        return part.at(*divmod(int(position) - start, len(part)))
