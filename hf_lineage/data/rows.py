"""The rows of a data set, in a new order each epoch."""

import datasets

from hf_lineage.data.randomness import EpochDataset


class Rows(EpochDataset):
    """A datasets.Dataset, such as labelled texts, shuffled as a pure function of (seed, epoch)."""

    def __init__(self, dataset: datasets.Dataset, seed: int = 0, shuffle: bool = True):
        super().__init__(seed, shuffle)
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def example(self, index: int, generator) -> dict:
        return self.dataset[index]
