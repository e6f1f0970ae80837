"""Trainer whose runs survive a kill: sealed checkpoints, the right epoch after a resume, no training on NaN."""

import math
from collections.abc import Sized
from pathlib import Path

from torch.optim.lr_scheduler import LambdaLR
from transformers import Trainer, TrainerCallback, TrainerState
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, TrainOutput, rotate_checkpoints

from ..data.randomness import EpochCallback, EpochDataset
from .checkpoints import check_same_run, seal
from .schedules import flat_then_decay


class StopOnNonFinite(TrainerCallback):
    """Ends the run as soon as a logged loss or gradient norm is NaN or infinite."""

    def on_log(self, args, state, control, logs=None, **kwargs):
        for name in ("loss", "grad_norm"):
            value = (logs or {}).get(name, 0.0)
            if not math.isfinite(value):
                raise FloatingPointError(
                    f"{name} is {value} at step {state.global_step}: training stops here; the checkpoints in "
                    f"{args.output_dir} are from before. Lower learning_rate or max_grad_norm."
                )


class LineageTrainer(Trainer):
    """transformers' Trainer for `LineageTrainingArguments`.

    Checkpoints are sealed (`last_complete_checkpoint` finds the newest whole one) and are refused by a run with other
    settings; an `EpochDataset` is told its epoch; the schedule may decay by epoch.

    Raises:
        FloatingPointError: the loss, the gradient or a weight is no longer finite; nothing is saved from then on.
    """

    def __init__(self, model, *args, **kwargs):
        # Trainer turns the cache off for training, and would save that for good
        self.saved_use_cache = model.config.use_cache
        super().__init__(model, *args, **kwargs)
        if isinstance(self.train_dataset, EpochDataset):
            self.add_callback(EpochCallback(self.train_dataset))
        self.add_callback(StopOnNonFinite())

    def run_identity(self) -> dict:
        """What must not change when a run is continued."""
        return {
            "seed": self.args.seed,
            "processes": self.args.world_size,
            "per_device_train_batch_size": self.args.per_device_train_batch_size,
            "gradient_accumulation_steps": self.args.gradient_accumulation_steps,
            "training_examples": len(self.train_dataset) if isinstance(self.train_dataset, Sized) else None,
        }

    def updates_per_epoch(self) -> int:
        return math.ceil(len(self.get_train_dataloader()) / self.args.gradient_accumulation_steps)

    def train(self, resume_from_checkpoint=None, **kwargs):
        """Trainer.train; a checkpoint of the finished run is loaded and left alone.

        Raises:
            ValueError: the checkpoint comes from a run with other settings.
        """
        if isinstance(resume_from_checkpoint, str | Path):
            check_same_run(resume_from_checkpoint, self.run_identity())
            state = TrainerState.load_from_json(str(Path(resume_from_checkpoint) / TRAINER_STATE_NAME))
            last = self.args.max_steps
            if last <= 0:
                last = math.ceil(self.args.num_train_epochs * self.updates_per_epoch())
            if state.global_step >= last:
                self._load_from_checkpoint(str(resume_from_checkpoint))
                self.state = state
                return TrainOutput(state.global_step, math.nan, {})
        return super().train(resume_from_checkpoint=resume_from_checkpoint, **kwargs)

    def create_scheduler(self, num_training_steps, optimizer=None):
        if self.args.flat_epochs is None or self.lr_scheduler is not None:
            return super().create_scheduler(num_training_steps, optimizer)
        factor = flat_then_decay(self.updates_per_epoch(), self.args.flat_epochs, self.args.epoch_decay)
        self.lr_scheduler = LambdaLR(optimizer or self.optimizer, factor)
        self._created_lr_scheduler = True
        return self.lr_scheduler

    def _save(self, output_dir=None, state_dict=None):
        in_training, self.model.config.use_cache = self.model.config.use_cache, self.saved_use_cache
        super()._save(output_dir, state_dict)
        self.model.config.use_cache = in_training

    def _save_checkpoint(self, model, trial):
        for name, parameter in self.model.named_parameters():
            if not parameter.isfinite().all():
                raise FloatingPointError(
                    f"{name} is not finite at step {self.state.global_step}: training stops here and nothing is "
                    "saved; the checkpoints from before are whole. Lower learning_rate or max_grad_norm."
                )
        # older checkpoints may go only once the new one is sealed
        limit, self.args.save_total_limit = self.args.save_total_limit, None
        super()._save_checkpoint(model, trial)
        self.args.save_total_limit = limit
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            run_dir = self._get_output_dir(trial=trial)
            seal(Path(run_dir) / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}", self.run_identity())
            rotate_checkpoints(
                output_dir=run_dir,
                save_total_limit=limit,
                best_model_checkpoint=self.state.best_model_checkpoint,
                use_mtime=True,
            )
