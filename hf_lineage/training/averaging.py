"""Checkpoint averaging (Vaswani et al., 2017, section 6.1): the mean of the last checkpoints translates better."""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor
from transformers import PreTrainedModel, TrainerCallback

from hf_lineage.training.checkpoints import complete_checkpoints


def average_checkpoints(folders: Sequence[str | Path]) -> dict[str, Tensor]:
    """The mean of the weights saved in each folder (safetensors, in one file or several), summed in float64.

    Raises:
        ValueError: no folder, or their weights differ in name or shape.
        FileNotFoundError: a folder has no weights.
    """
    if not folders:
        raise ValueError("there is no checkpoint to average")
    total = {}
    for number, folder in enumerate(map(Path, folders)):
        files = sorted(folder.glob("model*.safetensors"))
        if not files:
            raise FileNotFoundError(f"{folder} has no model.safetensors: was it saved by save_pretrained?")
        seen = set()
        for path in files:
            with safe_open(path, "pt") as file:
                for name in file.keys():
                    tensor = file.get_tensor(name)
                    if number and (name not in total or total[name][0].shape != tensor.shape):
                        raise ValueError(f"{path}: {name} {list(tensor.shape)} is not in {folders[0]}")
                    # the sum, and the dtype to convert it back to
                    total[name] = (tensor.double() + total[name][0] if number else tensor.double(), tensor.dtype)
                    seen.add(name)
        if missing := total.keys() - seen:
            raise ValueError(f"{folder} lacks {', '.join(sorted(missing))}, which {folders[0]} has")
    return {name: (sums / len(folders)).to(dtype) for name, (sums, dtype) in total.items()}


def load_average(model: PreTrainedModel, folders: Sequence[str | Path]):
    """Gives `model` the mean of the weights in `folders`; tied weights stay tied.

    Raises:
        ValueError: the checkpoints belong to another model, or differ from each other.
    """
    average = average_checkpoints(folders)
    missing, unexpected = model.load_state_dict(average, strict=False)
    if wrong := (set(missing) - set(model.all_tied_weights_keys)) | set(unexpected):
        raise ValueError(f"{folders[0]} is of another model: {', '.join(sorted(wrong))} differ")
    model.tie_weights()


class AverageCheckpoints(TrainerCallback):
    """At the end of training, gives the model the mean of the newest `last` whole checkpoints of the run.

    `save_total_limit` must keep that many. A run with fewer checkpoints averages all of them.

    Raises:
        ValueError: `last` is below 1, or (when training begins) checkpoints are not saved or not kept.
    """

    def __init__(self, last: int):
        if last < 1:
            raise ValueError(f"last is {last}; it must be at least 1")
        self.last = last

    def on_train_begin(self, args, state, control, **kwargs):
        if args.save_strategy == "no" or (args.save_total_limit or self.last) < self.last:
            raise ValueError(
                f"the run averages its last {self.last} checkpoints, but save_strategy is {args.save_strategy!s}, "
                f"save_total_limit {args.save_total_limit}: save and keep at least {self.last}"
            )

    def on_train_end(self, args, state, control, model=None, **kwargs):
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            # one process seals the newest checkpoint, and the others wait for it
            torch.distributed.barrier()
        folders = list(islice(complete_checkpoints(args.output_dir), self.last))
        if folders:
            with torch.no_grad():
                load_average(model, folders)
