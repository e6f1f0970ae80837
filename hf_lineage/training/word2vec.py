"""word2vec under the Trainer: callbacks, checkpoints, schedules and several processes around the fast updates."""

import torch
from torch import Tensor
from transformers import TrainerCallback

from ..data.windows import WordWindows
from ..models import Word2VecForPreTraining
from .trainer import LineageTrainer
from .word2vec_fast import FastPath, update


def single_block(examples: list[dict]) -> dict[str, Tensor]:
    """Collates a batch of one block (`WordWindows`)."""
    (example,) = examples
    return {name: torch.from_numpy(values) for name, values in example.items()}


class EpochLoss(TrainerCallback):
    """Logs the mean loss of each whole epoch: summed losses over measured pairs, of all processes."""

    def __init__(self, trainer):
        self.trainer, self.begun, self.sums = trainer, None, torch.zeros(2, dtype=torch.float64)

    def on_epoch_begin(self, args, state, control, **kwargs):
        self.begun = state.global_step
        self.sums.zero_()

    def on_epoch_end(self, args, state, control, **kwargs):
        sums = self.sums.clone()
        if args.world_size > 1:
            sums = sums.to(args.device)
            torch.distributed.all_reduce(sums)
        if state.global_step - self.begun == self.trainer.updates_per_epoch() and sums[1] > 0:
            self.trainer.log({"epoch_loss": (sums[0] / sums[1]).item()})


class Word2VecTrainer(LineageTrainer):
    """Trains a `Word2VecForPreTraining` on `WordWindows`, a block of words a step, without autograd.

    The learning rate and its schedule are the TrainingArguments'; no optimizer state exists. The logged `loss` is the
    mean in nats over a fixed sixteenth of the pairs. After each epoch `epoch_loss` is logged, that of all its steps,
    but for an epoch that a resumed run began in the middle of. Each of several processes trains its own copy on its
    own blocks; the copies are averaged every `average_steps` steps and before each checkpoint. One process and one
    thread give the same bits every time; `num_threads` > 1 (Hogwild) do not.

    Raises:
        ValueError: per_device_train_batch_size or gradient_accumulation_steps is not 1 (the block size is
            `WordWindows`' own), or the data were prepared for another `path`.
    """

    def __init__(
        self,
        model: Word2VecForPreTraining,
        args,
        *,
        train_dataset: WordWindows,
        path: FastPath | None = None,
        num_threads: int = 1,
        average_steps: int = 10,
        **kwargs,
    ):
        for name in ("per_device_train_batch_size", "gradient_accumulation_steps"):
            if getattr(args, name) != 1:
                raise ValueError(f"{name} is {getattr(args, name)}; word2vec takes a block a step: set it to 1")
        self.path = path or FastPath.of(model.config)
        prepared = (train_dataset.chunk, train_dataset.negatives_per_chunk)
        if prepared != (self.path.chunk, self.path.negatives_per_chunk):
            raise ValueError(
                f"the data have {prepared[1]} negatives for {prepared[0]} words, but the {self.path.backend} path "
                f"needs {self.path.negatives_per_chunk} for {self.path.chunk}: make WordWindows with its "
                "chunk and negatives_per_chunk"
            )
        if train_dataset.window != model.config.window:
            raise ValueError(
                f"the data have a window of {train_dataset.window}, the model's is {model.config.window}: "
                "they must be equal"
            )
        self.num_threads, self.average_steps = num_threads, average_steps
        # the blocks' columns are not arguments of the model's forward
        args.remove_unused_columns = False
        super().__init__(model, args, train_dataset=train_dataset, data_collator=single_block, **kwargs)
        self.epoch_loss = EpochLoss(self)
        self.add_callback(self.epoch_loss)

    def create_optimizer(self, *args, **kwargs):
        """Only carries the learning rate: no parameter ever has a gradient."""
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=self.args.learning_rate)
        return self.optimizer

    def training_step(self, model, inputs, num_items_in_batch=None) -> Tensor:
        """One block at the schedule's learning rate -> mean loss of its pairs."""
        rate = self.optimizer.param_groups[0]["lr"]
        loss, pairs = update(self.model, inputs, self.path, rate, self.num_threads)
        self.epoch_loss.sums += torch.tensor([loss, pairs], dtype=torch.float64)
        if (self.state.global_step + 1) % self.average_steps == 0:
            self.average_processes()
        return torch.tensor(loss / max(pairs, 1), device=self.args.device)

    def average_processes(self):
        """Gives every process the mean of all processes' matrices."""
        if self.args.world_size > 1:
            for parameter in self.model.parameters():
                torch.distributed.all_reduce(parameter.data)
                parameter.data /= self.args.world_size

    def train(self, *args, **kwargs):
        output = super().train(*args, **kwargs)
        self.average_processes()
        return output

    def _save_checkpoint(self, model, trial):
        self.average_processes()
        super()._save_checkpoint(model, trial)
