"""A Trainer whose runs survive a kill: sealed checkpoints, the right epoch after a resume, no training on NaN."""

import logging
import math
import os
import re
import shutil
from collections.abc import Sized
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR
from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer, TrainerCallback, TrainerState
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_pt_utils import find_batch_size
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, TrainOutput, align_special_tokens, rotate_checkpoints

from hf_lineage.data.packing import IGNORED
from hf_lineage.data.randomness import EpochCallback, EpochDataset, updates_per_epoch
from hf_lineage.models.classification import answer_labels, answer_nll, answers_in
from hf_lineage.models.losses import mean_cross_entropy, next_labels
from hf_lineage.training.averaging import AverageCheckpoints
from hf_lineage.training.checkpoints import check_same_run, last_complete_checkpoint, seal
from hf_lineage.training.model_card import RunFacts, code_for, last_lines, model_card, read_results, write_card
from hf_lineage.training.nt_asgd import NonMonotonicAverage
from hf_lineage.training.schedules import flat_then_decay, inverse_time
from hf_lineage.training.signals import StopOnSignal
from hf_lineage.training.training_arguments import LineageTrainingArguments
from hf_lineage.training.transfer import GradualUnfreezing, Transfer


# leftovers of a save in another number of files
WEIGHTS = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors(\.index\.json)?")
# what takes the numbers of a bidirectional language model's targets: of the forward, and of the backward direction
OF_BILM = ("num_items_in_batch", "num_backward_in_batch")
logger = logging.getLogger(__name__)


class StopOnNonFinite(TrainerCallback):
    """Raises FloatingPointError as soon as a logged loss or gradient norm is NaN or infinite."""

    def on_log(self, args, state, control, logs=None, **kwargs):
        for name in ("loss", "grad_norm"):
            value = (logs or {}).get(name, 0.0)
            if not math.isfinite(value):
                raise FloatingPointError(
                    f"{name} is {value} at step {state.global_step}: training stops here; the checkpoints in "
                    f"{args.output_dir} are from before. Lower learning_rate or max_grad_norm."
                )


def replace_files(source: Path, target: Path):
    """Moves all files below `source` into `target`, each in one piece; removes old weights that none replaces."""
    written = {path.relative_to(source) for path in source.rglob("*") if path.is_file()}
    for path in written:
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        os.replace(source / path, target / path)
    if any(WEIGHTS.fullmatch(path.name) for path in written):
        for path in list(target.iterdir()):
            if WEIGHTS.fullmatch(path.name) and path.relative_to(target) not in written:
                path.unlink()


def scored_labels(model, inputs: dict) -> dict[str, torch.Tensor]:
    """The labels of each mean in the loss of a batch, −100 where the model scores nothing.

    Each has the name of the argument of forward that takes their number in a whole update.
    """
    if "start_positions" in inputs:
        names = ("input_ids", "char_ids", "inputs_embeds", "elmo_layers")
        length = next(inputs[name] for name in names if inputs.get(name) is not None).shape[1]
        mask = inputs.get("attention_mask")
        starts, ends = (answer_labels(inputs[f"{side}_positions"], length, mask) for side in ("start", "end"))
        return {"num_items_in_batch": starts, "num_ends_in_batch": ends}
    if "backward_shift_labels" in inputs:
        return dict(zip(OF_BILM, (inputs["shift_labels"], inputs["backward_shift_labels"]), strict=True))
    if "shift_labels" in inputs:
        return {"num_items_in_batch": inputs["shift_labels"]}
    labels, mask = inputs.get("labels"), inputs.get("attention_mask")
    if labels is None:
        return {}
    if hasattr(model, "targets_in"):
        return dict(zip(OF_BILM, model.targets_in(labels, mask), strict=True))
    if "next_sentence_label" in inputs:
        return {"num_items_in_batch": labels, "num_pairs_in_batch": inputs["next_sentence_label"]}
    if model.loss_type == "ForCausalLM":
        labels, _ = next_labels(labels, mask, inputs.get("cu_seq_lens_q"))
    return {"num_items_in_batch": labels}


def number_scored(model, inputs: dict) -> torch.Tensor:
    """Number of items that the mean loss of a batch averages: scored tokens, or rows."""
    labels = scored_labels(model, inputs).get("num_items_in_batch")
    if labels is None:
        return torch.tensor(number_of_rows(inputs))
    return torch.tensor(labels.numel()) if labels.is_floating_point() else labels.ne(IGNORED).sum()


def answer_parts(loss: torch.Tensor, outputs, inputs: dict) -> torch.Tensor:
    """`loss_parts` of a head that marks answers: half of each side's loss, and the rest, which starts weigh."""
    parts, rest = [], loss.double()
    for side in ("start", "end"):
        positions, mask = inputs[f"{side}_positions"], inputs.get("attention_mask")
        log_p, labels = answers_in(outputs[f"{side}_logits"], positions, mask)
        total = answer_nll(log_p, labels).double() / 2
        number = labels.ne(IGNORED).sum().double()
        rest = rest - total / number.clamp(min=1)
        parts.append(torch.stack([total, number]))
    starts = parts[0][1]
    return torch.stack([*parts, torch.stack([rest * starts, starts])])


def number_of_rows(inputs: dict) -> int:
    """Number of rows of a batch, padded or packed into one row."""
    bounds = inputs.get("cu_seq_lens_q")
    return find_batch_size(inputs) if bounds is None else len(bounds) - 1


def first_rows(inputs: dict, rows: int) -> dict:
    """The first `rows` rows of a batch, padded or packed into one row."""
    bounds = inputs.get("cu_seq_lens_q")
    if bounds is None:
        return {name: value[:rows] if isinstance(value, torch.Tensor) else value for name, value in inputs.items()}
    first = {}
    for name, value in inputs.items():
        if name == "cu_seq_lens_q":
            first[name] = value[: rows + 1]
        else:
            # one row of all tokens, or one number per text
            first[name] = value[:, : bounds[rows]] if value.dim() == 2 and len(value) == 1 else value[:rows]
    return first


class LineageTrainer(Trainer):
    """transformers' Trainer for `LineageTrainingArguments`.

    Checkpoints are sealed (`last_complete_checkpoint` finds the newest whole one), and a run with other settings
    refuses them. The trainer tells an `EpochDataset` its epoch, can decay the learning rate by epoch or with time, and
    can average weights. It counts what the model scores in an update, so that 1 process x batch 8, 2 x 4 and 4
    accumulated batches of 2 train the same model. `transfer` says which weights of a pretrained model learn, and at
    which rates.

    Raises:
        ValueError: a setting that this trainer or the model's loss would ignore.
        FloatingPointError: the loss, the gradient or a weight is no longer finite; nothing is saved from then on.
    """

    args: LineageTrainingArguments
    model: PreTrainedModel

    # whether the trainer supports `sum_over_time`
    sums_over_time = False

    def __init__(self, model, args, *others, transfer: Transfer | None = None, **kwargs):
        # Trainer turns the cache off in training, even for a model without one, and would save that setting
        self.saved_use_cache = getattr(model.config, "use_cache", False)
        self.transfer = transfer
        self.other_numbers: dict[str, torch.Tensor] = {}
        # whether the model's own loss smooths labels and takes exact numbers of items
        self.is_station = model.config.model_type.startswith("lineage_")
        smoothing = args.label_smoothing_factor
        if self.is_station:
            # Trainer's own smoothing would take the labels from the model, and so drop the other terms of its loss
            args.label_smoothing_factor = 0.0
        try:
            super().__init__(model, args, *others, **kwargs)
        finally:
            args.label_smoothing_factor = smoothing
        if transfer is not None and transfer.mode == "gradual":
            self.add_callback(GradualUnfreezing(transfer))
        if self.args.sum_over_time and not self.sums_over_time:
            raise ValueError(
                f"sum_over_time is for truncated BPTT and for translation; {type(self).__name__} takes the mean"
            )
        if isinstance(self.train_dataset, EpochDataset):
            self.add_callback(EpochCallback(self.train_dataset))
        self.add_callback(StopOnNonFinite())
        self.stop_on_signal = StopOnSignal(self)
        self.add_callback(self.stop_on_signal)
        self.unlabelled_updates = 0
        self.evaluated: list[torch.Tensor] = []
        self.evaluated_batches, self.evaluated_rows = 0, None
        self.facts: RunFacts | None = None
        self.average = None
        if self.args.average_after is not None:
            self.average = NonMonotonicAverage(self.model, self.args.average_after)
            self.add_callback(self.average)

    def create_model_card(self, language=None, license=None, tags=None, model_name=None, **others):
        """README.md from the run's `facts`, its results.json and its arguments; without facts, transformers' draft.

        `push_to_hub` calls it.
        """
        if self.facts is None:
            super().create_model_card(language=language, license=license, tags=tags, model_name=model_name, **others)
        elif self.is_world_process_zero():
            folder = Path(self.args.output_dir)
            card = model_card(
                self.model,
                self.args,
                self.facts,
                read_results(folder),
                name=model_name or folder.name,
                opened_as=self.hub_model_id or self.args.hub_model_id or str(folder),
                language=language or self.args.model_language,
                license=license or self.args.model_license,
                tags=[tags] if isinstance(tags, str) else tags,
            )
            write_card(folder, card)

    def last_lines(self, score: str) -> str:
        """The end of a recipe with `facts`: where the model is, its score, and a command that asks it."""
        assert self.facts is not None
        code = "; ".join(code_for(self.model, str(self.args.output_dir), self.facts.sample))
        return last_lines(str(self.args.output_dir), score, ["python", "-c", code])

    def evaluate(self, *args, **kwargs):
        """Trainer.evaluate, with the averaged weights if there are any (`average_after`)."""
        try:
            with self.average.in_place_of() if self.average is not None else nullcontext():
                return super().evaluate(*args, **kwargs)
        except Exception as error:
            # several processes save together, and only one of them may have failed
            if self.is_in_train and self.args.world_size == 1:
                self._save_checkpoint(self.model, trial=None)
                step = f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
                error.add_note(
                    f"Kept from before this error: the model and its training in {self.args.output_dir}/{step}"
                )
            raise

    def _get_dataloader(self, *args, is_training=False, **kwargs):
        """As in Trainer, but `dataloader_drop_last` holds only for training: an evaluation sees every example."""
        drop_last = self.args.dataloader_drop_last
        self.args.dataloader_drop_last = drop_last and is_training
        try:
            return super()._get_dataloader(*args, is_training=is_training, **kwargs)
        finally:
            self.args.dataloader_drop_last = drop_last

    def _save_rng_state(self, output_dir):
        super()._save_rng_state(output_dir)
        if self.average is not None and self.args.should_save:
            self.average.save(output_dir)

    def _load_rng_state(self, checkpoint):
        super()._load_rng_state(checkpoint)
        if self.average is not None and checkpoint is not None:
            self.average.load(checkpoint)

    def run_identity(self) -> dict:
        """The settings that must not change when a run is continued."""
        return {
            "seed": self.args.seed,
            "processes": self.args.world_size,
            "per_device_train_batch_size": self.args.per_device_train_batch_size,
            "gradient_accumulation_steps": self.args.gradient_accumulation_steps,
            "training_examples": len(self.train_dataset) if isinstance(self.train_dataset, Sized) else None,
            "average_after": self.args.average_after,
            "transfer": None if self.transfer is None else self.transfer.identity(),
        }

    def updates_per_epoch(self) -> int:
        return updates_per_epoch(self.get_train_dataloader(), self.args.gradient_accumulation_steps)

    def train(self, resume_from_checkpoint=None, **kwargs):
        """Trainer.train; True resumes from the newest whole checkpoint, and that of a finished run is left alone.

        Raises:
            ValueError: the checkpoint comes from a run with other settings, or there is none; the training set has no
                full batch, or no label.
            SystemExit: SIGTERM or SIGINT came (`StopOnSignal`).
        """
        if resume_from_checkpoint is True:
            resume_from_checkpoint = last_complete_checkpoint(self.args.output_dir)
            if resume_from_checkpoint is None:
                raise ValueError(f"resume_from_checkpoint is True, but {self.args.output_dir} has no whole checkpoint")
        if isinstance(resume_from_checkpoint, str | Path):
            check_same_run(resume_from_checkpoint, self.run_identity())
            state = TrainerState.load_from_json(str(Path(resume_from_checkpoint) / TRAINER_STATE_NAME))
            last = self.args.max_steps
            if last <= 0:
                last = math.ceil(self.args.num_train_epochs * self.updates_per_epoch())
            if state.global_step >= last:
                self._load_from_checkpoint(str(resume_from_checkpoint))
                self.state = state
                self.finish_again(resume_from_checkpoint)
                return TrainOutput(state.global_step, math.nan, {})
        if isinstance(self.train_dataset, Sized):
            self.check_data()
        with self.stop_on_signal.listening():
            return super().train(resume_from_checkpoint=resume_from_checkpoint, **kwargs)

    def finish_again(self, checkpoint: str | Path):
        """Gives the model of a finished run, loaded from its last `checkpoint`, the run's final weights."""
        if isinstance(self.processing_class, PreTrainedTokenizerBase):
            # as Trainer.train does: without it config.json would lose the special tokens' ids
            align_special_tokens(self.model, self.processing_class)
        if self.args.load_best_model_at_end and self.state.best_model_checkpoint is not None:
            self._load_best_model()
        if self.average is not None:
            self.average.load(checkpoint)
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, AverageCheckpoints | NonMonotonicAverage):
                callback.on_train_end(self.args, self.state, self.control, model=self.model)

    def check_data(self):
        """Refuses a training set without a full batch, or without a label (which it reads up to the first one)."""
        size, batch_size = len(self.train_dataset), self.args.train_batch_size * self.args.world_size
        if self.args.dataloader_drop_last and size < batch_size:
            raise ValueError(
                f"the {size} training examples do not fill one batch of {batch_size}: lower "
                "per_device_train_batch_size, use more text, or set dataloader_drop_last=False"
            )
        for position in range(size):
            labels = self.train_dataset[position].get("labels")
            if labels is None or torch.as_tensor(labels).ne(IGNORED).any():
                return
        raise ValueError(
            f"every label of the {size} training examples is {IGNORED}, which is not scored: there is nothing to "
            "learn; look at how the labels are made"
        )

    def over_processes(self, number: int, device: torch.device) -> torch.Tensor:
        """Sums a number of this process's batches over all processes whenever Trainer sums the labels."""
        number = torch.tensor(number, device=device)
        return self.accelerator.gather(number).sum() if self.args.average_tokens_across_devices else number

    def _get_num_items_in_batch(self, batch_samples, device):
        """Trainer's count of an update's labels, but only of those that the model scores (see `scored_labels`)."""
        if not self.is_station:
            return super()._get_num_items_in_batch(batch_samples, device)
        scored = [scored_labels(self.model, batch) for batch in batch_samples]
        numbers = {}
        for name in scored[0] if scored else ():
            # Trainer takes shift_labels as they are
            labels = [{"labels": batch[name], "shift_labels": batch[name]} for batch in scored]
            numbers[name] = super()._get_num_items_in_batch(labels, device)
        num_items = numbers.pop("num_items_in_batch", None)
        self.other_numbers = numbers
        return num_items

    def get_batch_samples(self, *args, **kwargs):
        batches, num_items = super().get_batch_samples(*args, **kwargs)
        if num_items is not None:
            # counted on the device, and read only when the loss is logged: reading would stall every update
            self.unlabelled_updates += (num_items == 0).any()
        return batches, num_items

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        if not model.training:
            # for this batch only; `evaluation_loop` computes the mean over all batches
            loss, outputs = super().compute_loss(model, inputs, return_outputs=True)
            self.evaluated.append(self.loss_parts(loss, outputs, inputs))
            return (loss, outputs) if return_outputs else loss
        if self.is_station and self.args.label_smoothing_factor:
            inputs = {**inputs, "smoothing": self.label_smoothing()}
        if num_items_in_batch is not None:
            # without labels the sum is 0, but divided by their number it is NaN
            num_items_in_batch = num_items_in_batch.clamp(min=1)
            inputs = {**inputs, **{name: number.clamp(min=1) for name, number in self.other_numbers.items()}}
            if self.is_station and self.model.loss_type == "ForCausalLM" and not self.other_numbers:
                # the count is then exact for the model too
                inputs["shift_labels"] = scored_labels(self.model, inputs)["num_items_in_batch"]
        return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)

    def label_smoothing(self) -> float:
        """The share ε of the probability that moves from the label to all classes equally."""
        return self.args.label_smoothing_factor

    def loss_parts(self, loss: torch.Tensor, outputs, inputs) -> torch.Tensor:
        """Sum and number of items for each part of a batch's mean `loss`, float64 [parts, 2].

        The evaluation loss is the sum of the parts' means.
        """
        if outputs is not None and "start_positions" in inputs:
            return answer_parts(loss, outputs, inputs)
        if outputs is not None and outputs.get("backward_loss") is not None:
            labels = scored_labels(self.model, inputs)
            numbers = [labels[name].ne(IGNORED).sum().double().to(loss.device) for name in OF_BILM]
            halves = outputs["forward_loss"].double() / 2, outputs["backward_loss"].double() / 2
            return torch.stack([torch.stack([half * n, n]) for half, n in zip(halves, numbers, strict=True)])
        number = number_scored(self.model, inputs).double().to(loss.device)
        if outputs is not None and inputs.get("next_sentence_label") is not None:
            pairs = inputs["next_sentence_label"].flatten()
            of_pairs = mean_cross_entropy(outputs["seq_relationship_logits"], pairs).double()
            num_pairs = pairs.ne(IGNORED).sum().to(number)
            of_words = (loss.double() - of_pairs) * number
            return torch.stack([torch.stack([of_words, number]), torch.stack([of_pairs * num_pairs, num_pairs])])
        return torch.stack([loss.double() * number, number])[None]

    def prediction_step(self, model, inputs, *args, **kwargs):
        """As in Trainer, but rows that only fill up the last batch do not count in the loss."""
        before = len(self.evaluated)
        result = super().prediction_step(model, inputs, *args, **kwargs)
        if result[0] is not None and len(self.evaluated) == before:
            # Seq2SeqTrainer asks the model itself
            self.evaluated.append(self.loss_parts(result[0], None, inputs))
        real, rows = self.real_rows(), number_of_rows(inputs)
        self.evaluated_batches += 1
        if len(self.evaluated) > before and real is not None and real < rows:
            self.evaluated.pop()
            if real:
                with torch.no_grad(), self.compute_loss_context_manager():
                    self.compute_loss(model, self._prepare_inputs(first_rows(inputs, real)))
        return result

    def real_rows(self) -> int | None:
        """Number of rows in this process's next batch that are not repeated; the others repeat the data's first rows.

        None if the data have no length, or one process reads for all.
        """
        args = self.args
        # may still be a mapping or a file name, before the arguments read it
        dealing: Any = args.accelerator_config
        if self.evaluated_rows is None or dealing.split_batches or dealing.dispatch_batches:
            return None
        start = (self.evaluated_batches * args.world_size + args.process_index) * args.eval_batch_size
        return max(self.evaluated_rows - start, 0)

    def evaluation_loop(self, dataloader, *args, metric_key_prefix="eval", **kwargs):
        """As in Trainer, but the loss is a mean over all scored items, not over batches."""
        self.evaluated, self.evaluated_batches = [], 0
        self.evaluated_rows = len(dataloader.dataset) if isinstance(dataloader.dataset, Sized) else None
        output = super().evaluation_loop(dataloader, *args, metric_key_prefix=metric_key_prefix, **kwargs)
        name = f"{metric_key_prefix}_loss"
        if name in output.metrics:
            sums = sum(self.evaluated, torch.zeros(1, 2, dtype=torch.float64, device=self.args.device))
            totals, numbers = self.accelerator.reduce(sums, "sum").T
            output.metrics[name] = float((totals / numbers.clamp(min=1)).sum())
        return output

    def log(self, logs, *args, **kwargs):
        if self.is_world_process_zero() and self.unlabelled_updates:
            logger.warning(
                "%d updates up to step %d had no label to learn from (all were %d): their loss and gradient were 0",
                self.unlabelled_updates,
                self.state.global_step,
                IGNORED,
            )
            self.unlabelled_updates = 0
        super().log(logs, *args, **kwargs)

    def create_optimizer(self, *args, **kwargs):
        is_new = self.optimizer is None
        optimizer = super().create_optimizer(*args, **kwargs)
        if is_new and self.transfer is not None:
            self.transfer.split_groups(optimizer)
        return optimizer

    def create_scheduler(self, num_training_steps, optimizer=None):
        if self.lr_scheduler is not None:
            return super().create_scheduler(num_training_steps, optimizer)
        if self.args.flat_epochs is not None:
            factor = flat_then_decay(
                self.updates_per_epoch(), self.args.flat_epochs, self.args.epoch_decay, self.args.decay_epochs
            )
        elif self.args.inverse_time_decay is not None:
            factor = inverse_time(self.args.inverse_time_decay)
        else:
            return super().create_scheduler(num_training_steps, optimizer)
        self.lr_scheduler = LambdaLR(optimizer or self.optimizer, factor)
        self._created_lr_scheduler = True
        return self.lr_scheduler

    def check_weights(self):
        """Refuses to save weights that are not finite.

        Raises:
            FloatingPointError: one is NaN or infinite; the message names the step and the first such tensor.
        """
        for name, parameter in self.model.named_parameters():
            if not parameter.isfinite().all():
                raise FloatingPointError(
                    f"{name} is not finite at step {self.state.global_step}: training stops here and nothing is "
                    "saved; the checkpoints from before are whole. Lower learning_rate or max_grad_norm."
                )

    def save_model(self, output_dir=None, _internal_call=False):
        """Trainer.save_model, of finite weights only."""
        self.check_weights()
        super().save_model(output_dir, _internal_call)

    def _save(self, output_dir=None, state_dict=None):
        """As in Trainer, but replaces the files of an earlier save only after all new ones are written."""
        if not self.args.should_save:
            super()._save(output_dir, state_dict)
            return
        output_dir = Path(output_dir or self.args.output_dir)
        temporary = output_dir / ".saving"
        # left by a killed run
        shutil.rmtree(temporary, ignore_errors=True)
        in_training, self.model.config.use_cache = self.model.config.use_cache, self.saved_use_cache
        try:
            super()._save(str(temporary), state_dict)
            replace_files(temporary, output_dir)
        finally:
            self.model.config.use_cache = in_training
            shutil.rmtree(temporary, ignore_errors=True)

    def _save_checkpoint(self, model, trial):
        self.check_weights()
        # remove older checkpoints only after the new one is sealed
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
