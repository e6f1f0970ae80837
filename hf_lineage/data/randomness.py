"""Randomness of the data: every choice is a pure function of (seed, epoch, example index).

Masks, negative samples, window sizes and the order of the examples are all drawn from `generator(...)`, never from
a global random state or a stateful collator. So a run that is killed and resumed, a run with another number of
DataLoader workers and a run on another number of processes see exactly the same examples, on the stock Trainer:

    class MaskedText(EpochDataset):
        def __len__(self): ...
        def example(self, index, generator): ...  # draw from `generator` only

    dataset = MaskedText(seed=0)
    arguments = TrainingArguments(train_sampling_strategy="sequential", ...)
    Trainer(model, arguments, train_dataset=dataset, callbacks=[EpochCallback(dataset)])

An evaluation dataset needs no callback: it stays in epoch 0, so each evaluation sees the same draws.
"""

import hashlib
from collections.abc import Sized

import numpy as np
import torch
from transformers import TrainerCallback


def generator(seed: int, epoch: int, index: int, purpose: str = "") -> np.random.Generator:
    """The generator of (seed, epoch, index, purpose), the same in every process and on every machine.

    `purpose` names what is drawn, so that two uses with equal numbers are independent. Philox (counter-based; Salmon
    et al., 2011, "Parallel random numbers: as easy as 1, 2, 3"), keyed by a BLAKE2b digest; about 8 µs per call.
    """
    digest = hashlib.blake2b(f"{seed},{epoch},{index},{purpose}".encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))


def permutation(seed: int, epoch: int, size: int) -> np.ndarray:
    """The order of `size` examples in `epoch`, int64 [size]."""
    return generator(seed, epoch, size, "permutation").permutation(size)


def log_uniform(generator: np.random.Generator, size: int, vocab_size: int) -> np.ndarray:
    """Word numbers, int64 [size], each k < V with probability log((k + 2) / (k + 1)) / log(V + 1).

    This is close to Zipf's law if the words are numbered by falling frequency.
    """
    draws = np.exp(generator.random(size) * np.log(vocab_size + 1)).astype(np.int64) - 1
    # rounding can reach the end of the half-open interval
    return np.minimum(draws, vocab_size - 1)


def updates_per_epoch(train_dataloader: Sized, gradient_accumulation_steps: int) -> int:
    """Updates of the weights per epoch; the last update may have fewer batches."""
    return -(-len(train_dataloader) // gradient_accumulation_steps)


class EpochDataset(torch.utils.data.Dataset):
    """A map-style dataset whose order and draws depend on (seed, epoch, example index) alone.

    A subclass defines `__len__` and `example`. The dataset orders its examples itself (`shuffle`), so the sampler must
    be sequential; `EpochCallback` checks that and sets the epoch.
    """

    def __init__(self, seed: int = 0, shuffle: bool = True):
        self.seed = seed
        self.shuffle = shuffle
        # in shared memory, so that DataLoader workers, forked or spawned, see the main process's epoch
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self._order_epoch = None
        self._order = None

    def __len__(self) -> int:
        raise NotImplementedError

    def example(self, index: int, generator: np.random.Generator) -> dict:
        """Example `index`, with every random choice drawn from `generator`."""
        raise NotImplementedError

    @property
    def epoch(self) -> int:
        return int(self._epoch)

    # not named `set_epoch`: accelerate would call that with its own count, and only the callback sets the epoch
    @epoch.setter
    def epoch(self, epoch: int):
        self._epoch.fill_(epoch)

    def __getitem__(self, position: int) -> dict:
        if not 0 <= position < len(self):
            raise IndexError(f"position {position} is outside a dataset of {len(self)} examples")
        return self.at(self.epoch, position)

    def at(self, epoch: int, position: int) -> dict:
        """The example at `position` of `epoch`, whatever the current epoch."""
        return self.example(*self.drawn(epoch, position))

    def drawn(self, epoch: int, position: int) -> tuple[int, np.random.Generator]:
        """The index of the example at `position` of `epoch`, and its generator."""
        index = int(self._order_of(epoch)[position]) if self.shuffle else int(position)
        return index, generator(self.seed, epoch, index, type(self).__name__)

    def _order_of(self, epoch):
        if self._order_epoch != epoch:
            self._order = permutation(self.seed, epoch, len(self))
            self._order_epoch = epoch
        return self._order


class EpochCallback(TrainerCallback):
    """Tells `dataset` the Trainer's exact epoch, in a fresh run and in a resumed one.

    Raises ValueError at the start of training if the Trainer's settings would break the order or the epoch.
    """

    def __init__(self, dataset: EpochDataset):
        self.dataset = dataset
        self._next_epoch = 0

    def on_train_begin(self, args, state, control, train_dataloader=None, **kwargs):
        if args.train_sampling_strategy != "sequential":
            raise ValueError(
                f"train_sampling_strategy is {args.train_sampling_strategy!r}, but {type(self.dataset).__name__} "
                'orders its examples itself: set train_sampling_strategy="sequential" (and shuffle in the dataset).'
            )
        if args.dataloader_persistent_workers:
            raise ValueError(
                "dataloader_persistent_workers is True, but a resumed run would then differ from an unbroken one "
                "(starting workers draws from torch's random state, and so changes dropout): "
                "set dataloader_persistent_workers=False."
            )
        # state.epoch is a rounded fraction
        self._next_epoch = state.global_step // updates_per_epoch(train_dataloader, args.gradient_accumulation_steps)

    def on_epoch_begin(self, args, state, control, **kwargs):
        self.dataset.epoch = self._next_epoch
        self._next_epoch += 1
