"""SGD that averages the weights once validation stalls (NT-ASGD; Merity et al., 2017, algorithm 1)."""

from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from transformers import TrainerCallback


class NonMonotonicAverage(TrainerCallback):
    """Averages the weights once an evaluation is worse than the best one more than `patience` evaluations earlier.

    From this stall on, training continues with the raw weights; evaluation uses the mean (`in_place_of`), and at the
    end of training the model gets the mean. Without a stall there is no mean, and nothing changes.

    Raises:
        ValueError: `patience` is below 1.
    """

    def __init__(self, model: nn.Module, patience: int):
        if patience < 1:
            raise ValueError(f"patience is {patience}; it must be at least 1 evaluation")
        self.patience = patience
        self.model = model
        self.losses = []
        # name -> mean of that parameter since the stall
        self.mean: dict[str, torch.Tensor] | None = None
        self.num_averaged = 0

    def parameters(self) -> dict[str, nn.Parameter]:
        return {name: parameter for name, parameter in self.model.named_parameters() if parameter.requires_grad}

    def on_evaluate(self, args, state, control, metrics=None, **kwargs):
        loss = metrics["eval_loss"]
        earlier = self.losses[: -self.patience]
        self.losses.append(loss)
        # with n = patience: t > n and v_t > min(v_0, …, v_{t − n − 1})
        if self.mean is None and earlier and loss > min(earlier):
            self.mean = {name: torch.zeros_like(parameter) for name, parameter in self.parameters().items()}

    def on_step_end(self, args, state, control, **kwargs):
        if self.mean is None:
            return
        self.num_averaged += 1
        for name, parameter in self.parameters().items():
            self.mean[name].lerp_(parameter.detach(), 1 / self.num_averaged)

    @contextmanager
    def in_place_of(self):
        """Gives the model the mean weights, if there are any, within the block; then the raw ones again."""
        if not self.num_averaged:
            yield
            return
        raw = {name: parameter.detach().clone() for name, parameter in self.parameters().items()}
        self.put(self.mean)
        try:
            yield
        finally:
            self.put(raw)

    @torch.no_grad()
    def put(self, weights: dict[str, torch.Tensor]):
        for name, parameter in self.parameters().items():
            parameter.copy_(weights[name])

    def on_train_end(self, args, state, control, **kwargs):
        if self.mean is not None and self.num_averaged:
            self.put(self.mean)

    def save(self, checkpoint: str | Path):
        """Writes the mean and the losses so far to the checkpoint, next to the raw weights."""
        metadata = {"num_averaged": str(self.num_averaged), "losses": " ".join(map(repr, self.losses))}
        metadata["stalled"] = str(int(self.mean is not None))
        tensors = {name: tensor.contiguous() for name, tensor in (self.mean or {}).items()}
        save_file(tensors, self.file(checkpoint), metadata)

    def load(self, checkpoint: str | Path):
        """Reads what `save` wrote.

        Raises:
            ValueError: the checkpoint is of a run that did not average.
        """
        if not self.file(checkpoint).is_file():
            raise ValueError(
                f"average_after is {self.patience}, but {checkpoint} has no {self.file(checkpoint).name}: its run did "
                "not average; leave average_after out, or use another output_dir for a new run"
            )
        device = str(next(self.model.parameters()).device)
        with safe_open(self.file(checkpoint), "pt", device=device) as file:
            metadata = file.metadata()
            self.losses = [float(loss) for loss in metadata["losses"].split()]
            self.num_averaged = int(metadata["num_averaged"])
            self.mean = {name: file.get_tensor(name) for name in file.keys()} if int(metadata["stalled"]) else None

    @staticmethod
    def file(checkpoint: str | Path) -> Path:
        return Path(checkpoint) / "average.safetensors"
