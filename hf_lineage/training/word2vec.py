"""word2vec in the Trainer: callbacks, checkpoints, schedules and several processes around the fast updates."""

from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import TrainerCallback, default_data_collator

from hf_lineage.data.randomness import EpochCallback
from hf_lineage.data.windows import WordWindows
from hf_lineage.models import Word2VecForPreTraining
from hf_lineage.training.run_settings import plain, settings_of_data
from hf_lineage.training.trainer import LineageTrainer
from hf_lineage.training.word2vec_fast import FastPath, update


class BlockNumbers(Dataset):
    """Gives the DataLoader only positions in `blocks`: the thread that trains on a block also makes it."""

    def __init__(self, blocks: WordWindows):
        self._blocks = blocks

    def __len__(self) -> int:
        return len(self._blocks)

    def __getitem__(self, position: int) -> dict[str, int]:
        return {"position": position}


class EpochLoss(TrainerCallback):
    """Logs the mean loss of each whole epoch: the summed loss divided by the measured pairs, over all processes."""

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
    """Trains a `Word2VecForPreTraining` on `WordWindows` without autograd; the batch size counts blocks of words.

    The TrainingArguments set the learning rate and its schedule; there is no optimizer state. The logged `loss` is the
    mean in nats over a fixed sixteenth of the pairs. After each epoch, `epoch_loss` is the mean over all its steps; a
    resumed run logs none for the epoch in which it resumes. With several processes, each trains its own copy of the
    model on its own blocks; the copies are averaged every `average_steps` steps and before each checkpoint.

    The blocks of a batch are trained in turn or, with `num_threads` > 1, in parallel: the threads change the matrices
    without locks (Hogwild; Niu et al., 2011), so that speed grows with the cores, but no two runs are equal. One
    process with one thread gives the same bits every time.

    Raises:
        ValueError: gradient_accumulation_steps is not 1, muon_learning_rate is set, num_threads is below 1 or above
            the blocks of a batch, the data were prepared for another `path`, or FSDP or DeepSpeed is on.
    """

    model: Word2VecForPreTraining
    optimizer: torch.optim.Optimizer

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
        if num_threads < 1:
            raise ValueError(f"num_threads is {num_threads}; it must be at least 1")
        if args.gradient_accumulation_steps != 1:
            raise ValueError(
                f"gradient_accumulation_steps is {args.gradient_accumulation_steps}; word2vec accumulates no "
                "gradient: set it to 1"
            )
        if args.muon_learning_rate is not None:
            raise ValueError("muon_learning_rate is set, but word2vec has no hidden matrices, and no optimizer")
        if args.per_device_train_batch_size < num_threads:
            raise ValueError(
                f"per_device_train_batch_size is {args.per_device_train_batch_size} (blocks per step); it must be at "
                f"least num_threads, which is {num_threads}"
            )
        self.path = path or FastPath.of(model.config, device=args.device)
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
        self.blocks, self.average_steps = train_dataset, average_steps
        self.map = map if num_threads == 1 else ThreadPoolExecutor(num_threads).map
        # keep the positions, which the model's forward does not take, and the last, smaller batch
        args.remove_unused_columns, args.dataloader_drop_last = False, False
        super().__init__(
            model, args, train_dataset=BlockNumbers(train_dataset), data_collator=default_data_collator, **kwargs
        )
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            raise ValueError(
                "word2vec changes whole matrices in place, and FSDP or DeepSpeed would shard them: launch it with "
                "recipes/accelerate/multi_gpu.yaml or cpu_2procs.yaml"
            )
        self.add_callback(EpochCallback(train_dataset))
        self.epoch_loss = EpochLoss(self)
        self.add_callback(self.epoch_loss)

    def run_settings(self) -> dict:
        settings = super().run_settings() | settings_of_data(self.blocks) | settings_of_data(self.path, "path")
        if self.args.world_size > 1:
            # the processes' matrices are averaged at each save too
            settings |= {"average_steps": self.average_steps}
            settings |= {name: plain(getattr(self.args, name)) for name in ("save_strategy", "save_steps")}
        return settings

    def create_optimizer(self, *args, **kwargs):
        """Creates an optimizer that only carries the learning rate: no parameter has a gradient."""
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=self.args.learning_rate)
        return self.optimizer

    def training_step(self, model, inputs, num_items_in_batch=None) -> Tensor:
        """Trains on some blocks at the schedule's learning rate; returns the mean loss of their pairs."""
        rate = self.optimizer.param_groups[0]["lr"]
        positions = inputs["position"].tolist()
        sums = list(self.map(lambda position: update(self.model, self.blocks[position], self.path, rate), positions))
        loss, pairs = (sum(column) for column in zip(*sums, strict=True))
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
