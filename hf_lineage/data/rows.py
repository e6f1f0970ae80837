"""The rows of a data set: in a new order each epoch, or only some of them."""

import datasets

from hf_lineage.data.randomness import EpochDataset, permutation


class Rows(EpochDataset):
    """A datasets.Dataset, such as labelled texts, shuffled as a pure function of (seed, epoch)."""

    def __init__(self, dataset: datasets.Dataset, seed: int = 0, shuffle: bool = True):
        super().__init__(seed, shuffle)
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def example(self, index: int, generator) -> dict:
        return self.dataset[index]

    def __getitems__(self, positions: list[int]) -> list[dict]:
        """Reads a DataLoader's batch at once, which is cheaper than row by row."""
        order = self._order_of(self.epoch) if self.shuffle else None
        return self.dataset.__getitems__(
            [int(position if order is None else order[position]) for position in positions]
        )


def draw_rows(rows, number: int | None, seed: int = 0):
    """`number` rows of a data set or a list, or all if that is None; the same `seed` always draws the same ones."""
    return rows if number is None else rows_at(rows, permutation(seed, 0, len(rows))[:number])


def rows_at(rows, numbers):
    """The rows of a data set or a list that have these numbers."""
    return rows.select(numbers) if isinstance(rows, datasets.Dataset) else [rows[number] for number in numbers]


def joined_rows(first, second):
    """The rows of two data sets, or of two lists, one after the other."""
    if isinstance(first, datasets.Dataset):
        return datasets.concatenate_datasets([first, second])
    return [*first, *second]
