"""Training that grows: batches that become larger, each example a pure function of its position."""

import numpy as np
import pytest
import torch

from hf_lineage.data import EpochDataset, GrowingBatches, Phases, WithoutBlanks, batch_sizes, growing_data
from hf_lineage.data.packing import IGNORED


class Numbers(EpochDataset):
    """{"number": 100 · epoch + index, "labels": [that number]}."""

    def __init__(self, size):
        super().__init__(shuffle=False)
        self.size = size

    def __len__(self):
        return self.size

    def at(self, epoch, position):
        number = 100 * epoch + position
        return {"number": number, "labels": torch.tensor([number])}


def real(examples):
    return [example["number"] for example in examples if example["labels"].ne(IGNORED).any()]


def test_batches_grow_evenly_and_stay_whole():
    sizes = batch_sizes(10, 8, first_batch_size=2, growth_steps=6)
    assert sizes.tolist() == [2, 3, 4, 5, 6, 7, 8, 8, 8, 8]
    assert batch_sizes(3, 8).tolist() == [8, 8, 8]
    assert batch_sizes(4, 8, first_batch_size=8, growth_steps=2).tolist() == [8] * 4


@pytest.mark.parametrize("first", [0, 9])
def test_a_first_batch_outside_the_whole_batch_is_refused(first):
    with pytest.raises(ValueError, match=f"first_batch_size is {first}"):
        batch_sizes(4, 8, first, 2)


def test_growth_longer_than_the_run_is_refused():
    with pytest.raises(ValueError, match=r"growth_steps is 5; it must lie in \[0, 4\]"):
        batch_sizes(4, 8, 2, 5)


def test_every_example_comes_once_in_order_whatever_the_batches():
    sizes = batch_sizes(7, 8, first_batch_size=1, growth_steps=5)
    data = growing_data([Numbers(9)], [7], 8, sizes)
    assert isinstance(data, GrowingBatches)
    assert len(data) == 7 * 8
    expected = [100 * epoch + index for epoch, index in (divmod(n, 9) for n in range(sizes.sum()))]
    assert real(data[position] for position in range(len(data))) == expected
    for update, size in enumerate(sizes):
        examples = [data[position] for position in range(8 * update, 8 * update + 8)]
        assert len(real(examples)) == size
        # two processes, or two accumulated batches, share the examples of an update
        halves = [len(real(examples[:4])), len(real(examples[4:]))]
        assert abs(halves[0] - halves[1]) <= 1


def test_phases_grow_too():
    sizes = batch_sizes(4, 4, first_batch_size=2, growth_steps=2)
    data = growing_data([Numbers(50), Numbers(60)], [3, 1], 4, sizes)
    assert data.data.examples == [2 + 3 + 4, 4]
    assert real(data[position] for position in range(12, 16)) == [0, 1, 2, 3]
    whole = growing_data([Numbers(50)], [2], 4, np.array([4, 4]))
    assert isinstance(whole, Phases)


def test_blanks_cost_nothing_but_a_batch_is_never_empty():
    data = growing_data([Numbers(9)], [1], 4, np.array([1]))
    seen = []
    collate = WithoutBlanks(lambda examples: seen.append(examples) or examples)
    collate([data[position] for position in range(4)])
    assert [len(examples) for examples in seen] == [1]
    assert collate([data[0], data[1]]) == [data[0]]
    [kept] = collate([data[1], data[2]])
    assert kept["labels"].tolist() == [IGNORED]
