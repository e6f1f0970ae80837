"""Averages of the weights along a run, used in place of the weights for evaluation and at the end."""

from abc import abstractmethod
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from transformers import TrainerCallback


class WeightAverage(TrainerCallback):
    """A mean of the weights that learn; training continues with the raw ones.

    Evaluation uses the mean (`in_place_of`), and the model has it at the end of training. A subclass says in `update`
    how the mean moves. `asked` is the setting that asks for it, such as "ema_decay is 0.999", for errors.
    """

    def __init__(self, model: nn.Module, asked: str):
        self.model = model
        self.asked = asked
        # name -> mean of that parameter
        self.mean: dict[str, torch.Tensor] | None = None
        self.num_averaged = 0
        # the raw weights, while the mean ones stand in their place
        self.raw: dict[str, torch.Tensor] | None = None

    @abstractmethod
    def update(self):
        """Takes the weights after an update into the mean."""

    def move(self, share: float):
        """mean ← (1 − share) · mean + share · weights; a weight that has just begun to learn is its own mean."""
        assert self.mean is not None
        for name, parameter in self.parameters().items():
            if name in self.mean:
                self.mean[name].lerp_(parameter.detach(), share)
            else:
                self.mean[name] = parameter.detach().clone()

    def parameters(self) -> dict[str, nn.Parameter]:
        return {name: parameter for name, parameter in self.model.named_parameters() if parameter.requires_grad}

    def on_step_end(self, args, state, control, **kwargs):
        self.update()

    @contextmanager
    def in_place_of(self):
        """Gives the model the mean weights, if there are any, within the block; then the raw ones again."""
        if not self.num_averaged:
            yield
            return
        self.raw = {name: parameter.detach().clone() for name, parameter in self.parameters().items()}
        self.put(self.mean)
        try:
            yield
        finally:
            self.put_raw_back()

    def put_raw_back(self):
        """Ends `in_place_of` early, before a checkpoint: training continues from the raw weights."""
        if self.raw is not None:
            self.put(self.raw)
            self.raw = None

    @torch.no_grad()
    def put(self, weights: dict[str, torch.Tensor]):
        for name, parameter in self.parameters().items():
            # one that has just begun to learn has no mean yet
            if name in weights:
                parameter.copy_(weights[name])

    def on_train_end(self, args, state, control, **kwargs):
        if self.mean is not None and self.num_averaged:
            self.put(self.mean)

    def facts(self) -> dict[str, str]:
        """What a checkpoint keeps beside the mean."""
        return {"num_averaged": str(self.num_averaged)}

    def take(self, facts: dict[str, str]):
        """Takes back what `facts` gave."""
        self.num_averaged = int(facts["num_averaged"])

    def save(self, checkpoint: str | Path):
        """Writes the mean to the checkpoint, next to the raw weights."""
        tensors = {name: tensor.contiguous() for name, tensor in (self.mean or {}).items()}
        save_file(tensors, self.file(checkpoint), self.facts())

    def load(self, checkpoint: str | Path):
        """Reads what `save` wrote.

        Raises:
            ValueError: the checkpoint is of a run that did not average.
        """
        if not self.file(checkpoint).is_file():
            raise ValueError(
                f"{self.asked}, but {checkpoint} has no {self.file(checkpoint).name}: its run did not average; leave "
                f"{self.asked.split()[0]} out, or use another output_dir for a new run"
            )
        device = str(next(self.model.parameters()).device)
        with safe_open(self.file(checkpoint), "pt", device=device) as file:
            self.mean = {name: file.get_tensor(name) for name in file.keys()} or None
            self.take(file.metadata())

    @staticmethod
    def file(checkpoint: str | Path) -> Path:
        return Path(checkpoint) / "average.safetensors"


class MovingAverage(WeightAverage):
    """The exponential moving average of the weights: mean ← d · mean + (1 − d) · weights after every update.

    d is `decay`, but at most (1 + t) / (10 + t) after t updates, so that the first weights are soon forgotten (as
    TensorFlow's ExponentialMovingAverage does with `num_updates`).

    Raises:
        ValueError: `decay` lies outside (0, 1).
    """

    def __init__(self, model: nn.Module, decay: float):
        if not 0 < decay < 1:
            raise ValueError(f"decay is {decay}; it must lie in (0, 1)")
        super().__init__(model, f"ema_decay is {decay}")
        self.decay = decay

    def update(self):
        self.mean = {} if self.mean is None else self.mean
        self.num_averaged += 1
        self.move(1 - min(self.decay, (1 + self.num_averaged) / (10 + self.num_averaged)))
