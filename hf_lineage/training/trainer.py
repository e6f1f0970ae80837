"""A Trainer whose runs survive a kill: sealed checkpoints, the right epoch after a resume, no training on NaN."""

import inspect
import json
import logging
import math
import shutil
import sys
import time
from collections.abc import Callable, Sized
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import IterableDataset, SequentialSampler
from transformers import (
    EarlyStoppingCallback,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Trainer,
    TrainerCallback,
    TrainerState,
    default_data_collator,
)
from transformers.trainer import TRAINER_STATE_NAME, TRAINING_ARGS_NAME
from transformers.trainer_callback import ExportableState
from transformers.trainer_pt_utils import find_batch_size
from transformers.trainer_utils import (
    PREFIX_CHECKPOINT_DIR,
    HubStrategy,
    TrainOutput,
    align_special_tokens,
    rotate_checkpoints,
)
from transformers.utils.hub import PushInProgress, hf_api

from hf_lineage.data.collators import WithScoredPositions, collate_rows
from hf_lineage.data.packing import IGNORED
from hf_lineage.data.randomness import EpochCallback, EpochDataset, updates_per_epoch
from hf_lineage.files import json_text
from hf_lineage.hub.model_card import (
    RunFacts,
    code_for,
    has_scores_of,
    last_lines,
    model_card,
    read_results,
    write_card,
)
from hf_lineage.models.classification import answer_labels, answer_nll, answers_in
from hf_lineage.models.losses import mean_cross_entropy, next_labels
from hf_lineage.models.replaced_files import MANIFEST, naming_the_disk, replaced_together
from hf_lineage.models.saved_models import read_manifest
from hf_lineage.training.averaging import AverageCheckpoints
from hf_lineage.training.checkpoints import check_same_run, check_whole, last_complete_checkpoint, read_seal, seal
from hf_lineage.training.compiled_blocks import CompiledBlocks, compiler_failed
from hf_lineage.training.known_sizes import WithTextLengths
from hf_lineage.training.log_lines import say_in_words
from hf_lineage.training.losses_only import LOSSES_ONLY, give_losses_only
from hf_lineage.training.muon import MuonWithAdamW, muon_groups
from hf_lineage.training.nt_asgd import NonMonotonicAverage
from hf_lineage.training.run_lock import hold
from hf_lineage.training.run_settings import (
    digest_of,
    plain,
    scores_decide,
    settings_of_arguments,
    settings_of_config,
    settings_of_data,
)
from hf_lineage.training.schedules import flat_then_decay, inverse_time
from hf_lineage.training.sharding import in_own_class, tied_weights_in_one_unit, units_to_shard
from hf_lineage.training.signals import StopOnSignal
from hf_lineage.training.training_arguments import LineageTrainingArguments
from hf_lineage.training.transfer import GradualUnfreezing, Transfer
from hf_lineage.training.weight_averages import MovingAverage, WeightAverage


# what takes the numbers of a bidirectional language model's targets: of the forward, and of the backward direction
OF_BILM = ("num_items_in_batch", "num_backward_in_batch")
logger = logging.getLogger(__name__)


def first_not_finite(model: torch.nn.Module) -> str | None:
    """The name of the first weight or buffer that holds NaN or infinity."""
    return next((name for name, tensor in model.state_dict().items() if not tensor.isfinite().all()), None)


class StopOnNonFinite(TrainerCallback):
    """Raises FloatingPointError as soon as a logged loss or gradient norm is NaN or infinite."""

    def on_log(self, args, state, control, logs=None, model=None, **kwargs):
        for name in ("loss", "grad_norm"):
            value = (logs or {}).get(name, 0.0)
            if not math.isfinite(value):
                spoilt = first_not_finite(model)
                raise FloatingPointError(
                    f"{name} is {value} at step {state.global_step}"
                    + (f", and so is {spoilt}" if spoilt else ", with finite weights")
                    + f": training stops here; the checkpoints in {args.output_dir} are from before. Lower "
                    "learning_rate or max_grad_norm."
                )


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


def stopped_early(state: TrainerState, callbacks: list[TrainerCallback]) -> bool:
    """Whether the EarlyStoppingCallback among `callbacks` ended the run at the checkpoint with this state."""
    stored: Any = state.stateful_callbacks or {}
    counted = stored.get(EarlyStoppingCallback.__name__, {})
    counter = ([*counted] if isinstance(counted, list) else [counted])[0].get("attributes", {})
    waited = counter.get("early_stopping_patience_counter", 0)
    return any(
        isinstance(callback, EarlyStoppingCallback) and waited >= callback.early_stopping_patience
        for callback in callbacks
    )


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
        if self.data_collator is default_data_collator:
            self.data_collator = collate_rows
        say_in_words(self)
        self.compiled_blocks = CompiledBlocks(self.model)
        self.drops_logits = self.is_station and self.accelerator.native_amp
        if self.drops_logits:
            give_losses_only(model)
        if self.is_fsdp_enabled and self.accelerator.state.fsdp_plugin.transformer_cls_names_to_wrap is None:
            self.accelerator.state.fsdp_plugin.transformer_cls_names_to_wrap = units_to_shard(model)
        if transfer is not None and transfer.mode == "gradual":
            self.add_callback(GradualUnfreezing(transfer))
        if self.args.muon_learning_rate is not None:
            if self.is_fsdp_enabled or self.is_deepspeed_enabled:
                raise ValueError("muon_learning_rate is set, but Muon needs whole matrices, and processes share them")
            if self.optimizer_cls_and_kwargs is not None or transfer is not None:
                raise ValueError("muon_learning_rate is set, but this run has an optimizer or rates of its own")
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
        # how long the run has trained: before this command, until its newest checkpoint (with its step), in all
        self.seconds_before, self.started = 0.0, time.perf_counter()
        self.sealed: tuple[int | None, float] = None, 0.0
        self.train_seconds = 0.0
        # by an earlier command
        self.was_finished = False
        # of the run that trains, for its checkpoints
        self.settings: dict[str, Any] | None = None
        self.average: WeightAverage | None = None
        if self.args.average_after is not None:
            self.average = NonMonotonicAverage(self.model, self.args.average_after)
        elif self.args.ema_decay is not None:
            self.average = MovingAverage(self.model, self.args.ema_decay)
        if self.average is not None:
            if self.is_fsdp_enabled or self.is_deepspeed_enabled:
                raise ValueError(f"{self.average.asked}, but a mean of weights that processes share is not kept")
            self.add_callback(self.average)

    def create_model_card(self, language=None, license=None, tags=None, model_name=None, **others):
        """README.md from the run's arguments, `facts` and results.json; of other models without `facts` Trainer's.

        Without results.json the scores are those of the last evaluation. `push_to_hub` calls it. A card that an
        earlier command finished stays while its scores do: people may have written into it.
        """
        if not self.is_station and self.facts is None:
            super().create_model_card(language=language, license=license, tags=tags, model_name=model_name, **others)
        elif self.is_world_process_zero():
            folder = Path(self.args.output_dir)
            card = model_card(
                self.model,
                self.args,
                self.facts,
                read_results(folder) or self.last_evaluation(),
                name=model_name or folder.name,
                opened_as=self.hub_model_id or self.args.hub_model_id or str(folder),
                language=language or self.args.model_language,
                license=license or self.args.model_license,
                tags=[tags] if isinstance(tags, str) else tags,
            )
            asks_for_another = any((language, license, tags, model_name, self.args.push_to_hub))
            if asks_for_another or not (self.was_finished and has_scores_of(folder, card)):
                write_card(folder, card)

    def last_evaluation(self) -> dict[str, dict[str, float]]:
        """What the log has of the last evaluation, as an entry of results.json; empty if there was none."""
        rows = [{name[5:]: row[name] for name in row if name.startswith("eval_")} for row in self.state.log_history]
        evaluations = [scores for scores in rows if scores]
        return {"evaluation": evaluations[-1]} if evaluations else {}

    def last_lines(self, score: str) -> str:
        """The end of a recipe with `facts`: where the model is, its score, and a command that asks it."""
        assert self.facts is not None
        code = "; ".join(code_for(self.model, str(self.args.output_dir), self.facts.sample))
        return last_lines(str(self.args.output_dir), score, ["python", "-c", code])

    def evaluate(self, *args, **kwargs):
        """Trainer.evaluate, with the averaged weights if there are any (`average_after`, `ema_decay`)."""
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

    def _get_dataloader(self, dataset, *args, is_training=False, **kwargs):
        """As in Trainer, but `dataloader_drop_last` holds only for training: an evaluation sees every example."""
        drop_last, collator = self.args.dataloader_drop_last, self.data_collator
        self.args.dataloader_drop_last = drop_last and is_training
        self.data_collator = self.given_to(collator, dataset, is_training)
        try:
            return super()._get_dataloader(dataset, *args, is_training=is_training, **kwargs)
        finally:
            self.args.dataloader_drop_last, self.data_collator = drop_last, collator

    def _get_train_sampler(self, train_dataset=None):
        """Trainer's; `dataloader_drop_last` drops the last incomplete update of an epoch, as if it were one batch."""
        sampler = super()._get_train_sampler(train_dataset)
        if self.args.dataloader_drop_last and isinstance(sampler, SequentialSampler):
            rows = self.args.rows_per_update
            return SequentialSampler(range(len(sampler) // rows * rows))
        return sampler

    def given_to(self, collator: Callable, dataset, is_training: bool) -> Callable:
        """`collator`, whose training batches also say what a GPU would have to be asked in every step.

        Not where one process reads for all: it joins and divides batches, whose sizes differ in these columns.
        """
        dealing: Any = self.args.accelerator_config
        is_dealt = dealing.dispatch_batches or (
            isinstance(dataset, IterableDataset) and dealing.dispatch_batches is not False
        )
        if not self.is_station or not is_training or (is_dealt and self.args.world_size > 1):
            return collator
        model = self.model.get_encoder() if self.model.config.is_encoder_decoder else self.model
        taken = inspect.signature(model.forward).parameters
        if "cu_seq_lens_q" in taken:
            is_whole = getattr(self.model.config, "_attn_implementation", None) == "eager"
            collator = WithTextLengths(collator, documents=self.model.loss_type == "ForCausalLM" and not is_whole)
        return WithScoredPositions(collator) if "scored_positions" in taken else collator

    def _save_rng_state(self, output_dir):
        super()._save_rng_state(output_dir)
        if self.average is not None and self.args.should_save:
            self.average.save(output_dir)

    def _load_rng_state(self, checkpoint):
        super()._load_rng_state(checkpoint)
        if self.average is not None and checkpoint is not None:
            self.average.load(checkpoint)

    def run_settings(self) -> dict[str, Any]:
        """What decides the result, by name; it must not change when a run is continued (`check_same_run`)."""
        settings = settings_of_arguments(self.args) | settings_of_config(self.model.config)
        settings |= settings_of_data(self.train_dataset) | settings_of_data(self.data_collator, "collator")
        settings |= {
            "trainer": type(self).__name__,
            "processes": self.args.world_size,
            "training_examples": len(self.train_dataset) if isinstance(self.train_dataset, Sized) else None,
            "tokenizer": None if self.processing_class is None else digest_of(self.processing_class),
            "transfer": None if self.transfer is None else self.transfer.identity(),
        }
        if scores_decide(self.args):
            settings |= settings_of_data(self.eval_dataset, "eval_data")
        if not isinstance(self.train_dataset, Sized):
            # the workers divide a stream among them
            settings["dataloader_num_workers"] = self.args.dataloader_num_workers
        if self.optimizer_cls_and_kwargs is not None:
            optimizer, options = self.optimizer_cls_and_kwargs
            settings |= {"optimizer": optimizer.__name__} | {f"optimizer.{k}": plain(v) for k, v in options.items()}
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, ExportableState):
                settings |= {f"{type(callback).__name__}.{k}": plain(v) for k, v in callback.state()["args"].items()}
        # as a seal gives them back
        return json.loads(json_text(settings))

    def updates_per_epoch(self) -> int:
        return updates_per_epoch(self.get_train_dataloader(), self.args.gradient_accumulation_steps)

    def train(self, resume_from_checkpoint=None, **kwargs):
        """Trainer.train; True resumes from the newest whole checkpoint, and that of a finished run is left alone.

        No other run may train in output_dir meanwhile.

        Raises:
            ValueError: the checkpoint is not whole or comes from a run with other settings (`ignore_changed` accepts
                some), or there is none; another run is at work in output_dir; the training set has no full update, or
                no label.
            SystemExit: SIGTERM or SIGINT came (`StopOnSignal`).
        """
        lock = hold(self.args.output_dir) if self.is_world_process_zero() else None
        self.started = time.perf_counter()
        try:
            output = self.train_alone(resume_from_checkpoint, **kwargs)
            step, seconds = self.sealed
            # the command of a finished run says the same
            self.train_seconds = seconds if step == self.state.global_step else self.seconds_until_now()
            return output
        finally:
            if lock is not None:
                lock.release()

    def seconds_until_now(self) -> float:
        """How long the run has trained, with what came before it was interrupted."""
        return self.seconds_before + time.perf_counter() - self.started

    def train_alone(self, resume_from_checkpoint, **kwargs):
        self.say_precision()
        # before the training changes the model
        self.settings = self.run_settings()
        if isinstance(resume_from_checkpoint, str) and not Path(resume_from_checkpoint).is_dir():
            # on the command line every value is a text
            words = {"true": True, "false": None}
            resume_from_checkpoint = words.get(resume_from_checkpoint.lower(), resume_from_checkpoint)
        if resume_from_checkpoint is True:
            resume_from_checkpoint = last_complete_checkpoint(self.args.output_dir)
            if resume_from_checkpoint is None:
                raise ValueError(f"resume_from_checkpoint is True, but {self.args.output_dir} has no whole checkpoint")
        elif resume_from_checkpoint:
            check_whole(resume_from_checkpoint)
        if isinstance(resume_from_checkpoint, str | Path):
            check_same_run(resume_from_checkpoint, self.settings, self.args.ignore_changed or ())
            # of an earlier version's checkpoint it is not known
            self.seconds_before = read_seal(resume_from_checkpoint).get("seconds", 0.0)
            state = TrainerState.load_from_json(str(Path(resume_from_checkpoint) / TRAINER_STATE_NAME))
            last = self.args.max_steps
            if last <= 0:
                last = math.ceil(self.args.num_train_epochs * self.updates_per_epoch())
            if state.global_step >= last or stopped_early(state, self.callback_handler.callbacks):
                self._load_from_checkpoint(str(resume_from_checkpoint))
                self.state = state
                self.sealed, self.was_finished = (state.global_step, self.seconds_before), True
                self.finish_again(resume_from_checkpoint)
                return TrainOutput(state.global_step, math.nan, {})
        if isinstance(self.train_dataset, Sized):
            self.check_data()
        with self.stop_on_signal.listening(), self.compiling():
            return super().train(resume_from_checkpoint=resume_from_checkpoint or None, **kwargs)

    def compiling(self):
        """A context in which the blocks are compiled, if `compile_blocks` says so; prints it."""
        if self.args.compile_blocks != "always" or not self.compiled_blocks.blocks:
            return nullcontext()
        if self.is_world_process_zero():
            reason = f" ({self.args.compile_reason})" if self.args.compile_reason else ""
            sys.stdout.write(f"compiles {len(self.compiled_blocks.blocks)} blocks{reason}\n")
        return self.compiled_blocks.compiled()

    def training_step(self, model, inputs, *args, **kwargs):
        """As in Trainer; where the blocks cannot be compiled, they run as they are from this step on."""
        if not self.compiled_blocks.are_compiled:
            return super().training_step(model, inputs, *args, **kwargs)
        # what earlier batches of this update have added
        is_first = all(parameter.grad is None for parameter in self.model.parameters())
        try:
            return super().training_step(model, inputs, *args, **kwargs)
        except Exception as error:
            if not compiler_failed(error):
                raise
            if not is_first:
                error.add_note("Run the same command with --compile_blocks never.")
                raise
            self.compiled_blocks.give_up(error)
        self.model.zero_grad()
        return super().training_step(model, inputs, *args, **kwargs)

    def _prepare_for_training(self, *args, **kwargs):
        with tied_weights_in_one_unit(self.model) if self.is_fsdp_enabled else nullcontext():
            return super()._prepare_for_training(*args, **kwargs)

    def say_precision(self):
        """Prints the precision, if it was chosen here.

        Raises:
            ValueError: the processes have chosen differently.
        """
        chosen = self.accelerator.gather(torch.tensor([self.args.bf16], dtype=torch.int, device=self.args.device))
        if chosen.min() != chosen.max():
            raise ValueError("precision auto: the processes' machines differ; give --precision bf16 or fp32")
        if self.args.precision_reason is not None and self.is_world_process_zero():
            sys.stdout.write(f"precision {self.args.precision} ({self.args.precision_reason})\n")

    def _load_callback_state(self):
        if self.args.restore_callback_states_from_checkpoint:
            super()._load_callback_state()
            return
        # what callbacks count, such as evaluations without gain, is part of the run; their settings are the command's
        callbacks: Any = self.state.stateful_callbacks or {}
        stored = {name: [*data] if isinstance(data, list) else [data] for name, data in callbacks.items()}
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, ExportableState) and stored.get(type(callback).__name__):
                for name, value in stored[type(callback).__name__].pop(0).get("attributes", {}).items():
                    setattr(callback, name, value)

    def _load_optimizer_and_scheduler(self, checkpoint):
        """As in Trainer, but rates and the like that `ignore_changed` accepts are those of this run."""
        hyperparameters = {
            **dict.fromkeys(("learning_rate", "muon_learning_rate"), ("lr", "initial_lr")),
            "weight_decay": ("weight_decay",),
            **dict.fromkeys(("adam_beta1", "adam_beta2"), ("betas",)),
            "adam_epsilon": ("eps",),
        }
        new = [dict(group) for group in self.optimizer.param_groups]
        rates = getattr(self.lr_scheduler, "base_lrs", None)
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is None:
            return
        accepted = set(self.args.ignore_changed or ())
        for group, group_before in zip(self.optimizer.param_groups, new, strict=True):
            for name in accepted & hyperparameters.keys():
                group |= {key: group_before[key] for key in hyperparameters[name] if key in group_before}
        if accepted & {"learning_rate", "muon_learning_rate"} and isinstance(self.lr_scheduler, LambdaLR):
            self.lr_scheduler.base_lrs = rates
            factors = [factor(self.lr_scheduler.last_epoch) for factor in self.lr_scheduler.lr_lambdas]
            self.lr_scheduler._last_lr = [rate * factor for rate, factor in zip(rates, factors, strict=True)]
            for group, rate in zip(self.optimizer.param_groups, self.lr_scheduler._last_lr, strict=True):
                group["lr"] = rate

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
            if isinstance(callback, AverageCheckpoints | WeightAverage):
                callback.on_train_end(self.args, self.state, self.control, model=self.model)

    def check_data(self):
        """Refuses a training set without a full update, or without a label (which it reads up to the first one)."""
        size, accumulated = len(self.train_dataset), self.args.gradient_accumulation_steps > 1
        if self.args.dataloader_drop_last and size < self.args.rows_per_update:
            raise ValueError(
                f"the {size} training examples do not fill one {'update' if accumulated else 'batch'} of "
                f"{self.args.rows_per_update}: lower per_device_train_batch_size"
                f"{' or gradient_accumulation_steps' if accumulated else ''}, use more text, or set "
                "dataloader_drop_last=False"
            )
        for position in range(size):
            labels = self.train_dataset[position].get("labels")
            if labels is None or torch.as_tensor(labels).ne(IGNORED).any():
                return
        raise ValueError(
            f"every label of the {size} training examples is {IGNORED}, which is not scored: there is nothing to "
            "learn; look at how the labels are made"
        )

    def over_processes(self, number: torch.Tensor, device: torch.device) -> torch.Tensor:
        """Sums a number of this process's batches over all processes whenever Trainer sums the labels."""
        number = number.to(device)
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
        try:
            batches, num_items = super().get_batch_samples(*args, **kwargs)
        except (EOFError, ConnectionError) as error:
            # what a dataset raises in a worker has that worker's traceback in its message
            if not self.args.dataloader_num_workers or "in DataLoader worker process" in str(error):
                raise
            raise RuntimeError(
                "A DataLoader worker exited unexpectedly while it handed over a batch. Where memory ran out, set a "
                f"smaller dataloader_num_workers than {self.args.dataloader_num_workers} or smaller batches."
            ) from error
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
        if self.drops_logits:
            inputs = {LOSSES_ONLY: not return_outputs, **inputs}
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
        if is_new and self.args.muon_learning_rate is not None:
            decaying = self.get_decay_parameter_names(self.model)
            groups = muon_groups(self.model, decaying, self.args.muon_learning_rate, self.args.weight_decay)
            betas = (self.args.adam_beta1, self.args.adam_beta2)
            self.optimizer = MuonWithAdamW(groups, lr=self.args.learning_rate, betas=betas, eps=self.args.adam_epsilon)
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
        if name := first_not_finite(self.model):
            raise FloatingPointError(
                f"{name} is not finite at step {self.state.global_step}: training stops here and nothing is "
                "saved; the checkpoints from before are whole. Lower learning_rate or max_grad_norm."
            )

    def save_model(self, output_dir=None, _internal_call=False):
        """Trainer.save_model, of finite weights only.

        Raises:
            FloatingPointError: a weight is NaN or infinite.
            ValueError: FSDP saves its parts only, and Trainer would save nothing.
        """
        self.check_weights()
        plugin = self.accelerator.state.fsdp_plugin if self.is_fsdp_enabled else None
        if plugin is not None and (output_dir is None or not _internal_call):
            kind = plugin.state_dict_type.name
            if kind != "FULL_STATE_DICT":
                raise ValueError(
                    f"fsdp_state_dict_type is {kind}, which from_pretrained cannot open; the checkpoints are whole: "
                    "run the same command with FULL_STATE_DICT, or call "
                    "trainer.accelerator.state.fsdp_plugin.set_state_dict_type first"
                )
        super().save_model(output_dir, _internal_call)

    def save_state(self):
        """Trainer.save_state; of a finished run the state stays, with the last lines of its log."""
        if not (self.was_finished and Path(str(self.args.output_dir), TRAINER_STATE_NAME).is_file()):
            super().save_state()

    def forget_last_call(self):
        """Takes the settings of its last call from the tokenizer, which would save them."""
        if backend := getattr(self.processing_class, "backend_tokenizer", None):
            backend.no_padding()
            backend.no_truncation()

    def _save(self, output_dir=None, state_dict=None):
        """As in Trainer, but replaces the files of an earlier save only after all new ones are written; no pickle."""
        if not self.args.should_save:
            super()._save(output_dir, state_dict)
            return
        if output_dir in (None, self.args.output_dir):
            # it reads these files
            self._finish_current_push()
        in_training, self.model.config.use_cache = self.model.config.use_cache, self.saved_use_cache
        try:
            with in_own_class(self.model), replaced_together(output_dir or self.args.output_dir) as temporary:
                self.forget_last_call()
                super()._save(str(temporary), state_dict)
                # a pickle; README.md and the seals of checkpoints have what it says
                (temporary / TRAINING_ARGS_NAME).unlink(missing_ok=True)
        finally:
            self.model.config.use_cache = in_training

    def _save_checkpoint(self, model, trial):
        self.check_weights()
        run_dir = self._get_output_dir(trial=trial)
        # remove older checkpoints only after the new one is sealed
        limit, self.args.save_total_limit = self.args.save_total_limit, None
        try:
            with naming_the_disk(run_dir):
                super()._save_checkpoint(model, trial)
        finally:
            self.args.save_total_limit = limit
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            checkpoint = Path(run_dir) / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
            self.sealed = self.state.global_step, self.seconds_until_now()
            seal(checkpoint, self.settings or self.run_settings(), self.sealed[1])
            rotate_checkpoints(
                output_dir=run_dir,
                save_total_limit=limit,
                best_model_checkpoint=self.state.best_model_checkpoint,
                use_mtime=True,
            )

    def _push_from_checkpoint(self, checkpoint_folder):
        """As in Trainer, but output_dir's files are replaced together, with a card, and no pickle of the arguments."""
        if not self.is_world_process_zero() or self.args.hub_strategy == HubStrategy.END:
            return
        is_busy = self.push_in_progress is not None and not self.push_in_progress.is_done()
        if is_busy and not self.args.hub_always_push:
            return
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        if not self.is_fsdp_enabled and not self.is_deepspeed_enabled:
            self._save(self.args.output_dir)
        elif not self.take_model_of(Path(checkpoint_folder)):
            logger.warning("%s has no whole weights, so nothing is pushed", checkpoint_folder)
            return
        self.create_model_card(model_name=self.hub_model_id.partition("/")[2])
        message = f"Training in progress, step {self.state.global_step}"
        options = {"token": self.args.hub_token, "revision": self.args.hub_revision, "run_as_future": True}
        jobs = [
            hf_api().upload_folder(
                repo_id=self.hub_model_id,
                folder_path=self.args.output_dir,
                commit_message=message,
                ignore_patterns=["_*", f"{PREFIX_CHECKPOINT_DIR}-*"],
                **options,
            )
        ]
        if self.args.hub_strategy in (HubStrategy.CHECKPOINT, HubStrategy.ALL_CHECKPOINTS):
            is_last = self.args.hub_strategy == HubStrategy.CHECKPOINT
            jobs.append(
                hf_api().upload_folder(
                    repo_id=self.hub_model_id,
                    folder_path=checkpoint_folder,
                    path_in_repo="last-checkpoint" if is_last else Path(checkpoint_folder).name,
                    commit_message=f"{message}, checkpoint",
                    **options,
                )
            )
        self.push_in_progress = PushInProgress(jobs)

    def take_model_of(self, checkpoint: Path) -> bool:
        """Copies the model of a checkpoint into output_dir, and says whether the checkpoint has its whole weights.

        All processes have gathered them there, and would have to do it again.
        """
        manifest = checkpoint / MANIFEST
        files = [checkpoint / name for name in read_manifest(manifest)] if manifest.is_file() else []
        if not files or not all(file.is_file() for file in files):
            return False
        self._finish_current_push()
        with replaced_together(str(self.args.output_dir)) as temporary:
            for file in (*files, manifest):
                shutil.copyfile(file, temporary / file.name)
            if self.processing_class is not None:
                self.forget_last_call()
                self.processing_class.save_pretrained(temporary)
        return True

    def _finish_current_push(self):
        """As in Trainer, but a push that failed is named."""
        super()._finish_current_push()
        push = getattr(self, "push_in_progress", None)
        for job in [] if push is None else push.jobs:
            if error := job.exception():
                reason = f"{type(error).__name__}: {error}"
                logger.warning("a push to %s failed (%s); the next one sends all files", self.hub_model_id, reason)
        self.push_in_progress = None
