"""Training that grows: short texts before long ones, small batches before large ones, in one run."""

import bisect
import itertools
from collections.abc import Callable, Sequence

import numpy as np
import torch

from hf_lineage.data.packing import IGNORED
from hf_lineage.data.randomness import EpochDataset


class Phases(torch.utils.data.Dataset):
    """`examples[i]` examples of `parts[i]`, over as many of its epochs as needed, then the next part.

    BERT reads texts of 128 tokens for nine tenths of its steps, and of 512 for the rest (Devlin et al., 2019, appendix
    A.2). Position p is always the same example, so that a resumed run, or one with another number of processes, sees
    the same examples. Train one epoch, in order.
    """

    def __init__(self, parts: Sequence[EpochDataset], examples: Sequence[int]):
        self.parts = list(parts)
        self.examples = list(map(int, examples))

    def __len__(self) -> int:
        return sum(self.examples)

    def __getitem__(self, position: int) -> dict:
        if not 0 <= position < len(self):
            raise IndexError(f"position {position} is outside the {len(self)} examples")
        ends = list(itertools.accumulate(self.examples))
        phase = bisect.bisect_right(ends, position)
        part, start = self.parts[phase], ends[phase] - self.examples[phase]
        return part.at(*divmod(int(position) - start, len(part)))


def batch_sizes(steps: int, batch_size: int, first_batch_size: int | None = None, growth_steps: int = 0) -> np.ndarray:
    """Examples in each update, int64 [steps]: from `first_batch_size` evenly up to `batch_size` after `growth_steps`.

    Raises:
        ValueError: `first_batch_size` lies outside [1, batch_size], or `growth_steps` outside [0, steps].
    """
    sizes = np.full(steps, batch_size, dtype=np.int64)
    if first_batch_size is None:
        return sizes
    if not 1 <= first_batch_size <= batch_size:
        raise ValueError(f"first_batch_size is {first_batch_size}; it must lie in [1, {batch_size}], the whole batch")
    if not 0 <= growth_steps <= steps:
        raise ValueError(f"growth_steps is {growth_steps}; it must lie in [0, {steps}], the updates of the run")
    grown = np.arange(growth_steps) * (batch_size - first_batch_size) // max(growth_steps, 1)
    sizes[:growth_steps] = first_batch_size + grown
    return sizes


class GrowingBatches(torch.utils.data.Dataset):
    """Examples of `data` for batches that grow: an update asks for `batch_size` examples and gets `sizes[update]`.

    Blank examples, without a label, fill the rest, evenly spread over the update. `WithoutBlanks` drops them from the
    batches. So position p is always the same example, as in `Phases`. Train one epoch, in order.
    """

    def __init__(self, data: Phases, sizes: np.ndarray, batch_size: int):
        self.data = data
        self.sizes = sizes
        self.batch_size = batch_size
        self.starts = np.concatenate([[0], np.cumsum(sizes)])

    def __len__(self) -> int:
        return len(self.sizes) * self.batch_size

    def __getitem__(self, position: int) -> dict:
        if not 0 <= position < len(self):
            raise IndexError(f"position {position} is outside the {len(self)} examples")
        update, place = divmod(int(position), self.batch_size)
        size = int(self.sizes[update])
        before, through = (place * size // self.batch_size, (place + 1) * size // self.batch_size)
        example = self.data[int(self.starts[update]) + min(before, size - 1)]
        return example if through > before else blank(example)


def growing_data(
    parts: Sequence[EpochDataset], steps: Sequence[int], batch_size: int, sizes: np.ndarray
) -> Phases | GrowingBatches:
    """`steps[i]` updates of `parts[i]`, the next part after it, with `sizes[update]` examples (`batch_sizes`)."""
    ends = list(itertools.accumulate(steps))
    examples = [int(sizes[end - number : end].sum()) for number, end in zip(steps, ends, strict=True)]
    phases = Phases(parts, examples)
    return phases if (sizes == batch_size).all() else GrowingBatches(phases, sizes, batch_size)


def blank(example: dict) -> dict:
    """The example without a label."""
    labels = {name: value for name, value in example.items() if name.endswith(("labels", "label"))}
    return {**example, **{name: torch.full_like(torch.as_tensor(label), IGNORED) for name, label in labels.items()}}


class WithoutBlanks:
    """Gives `collator` the examples that have a label, at least one example."""

    def __init__(self, collator: Callable[[list[dict]], dict]):
        self.collator = collator

    def __call__(self, examples: list[dict]) -> dict:
        labelled = [example for example in examples if torch.as_tensor(example["labels"]).ne(IGNORED).any()]
        return self.collator(labelled or examples[:1])
