"""TrainingArguments with defaults that make resumed runs exact, and results independent of the process count."""

import os
from dataclasses import dataclass, field
from typing import Literal

import torch
from transformers import TrainingArguments
from transformers.integrations import get_available_reporting_integrations
from transformers.utils import is_torch_tf32_available
from transformers.utils.import_utils import enable_tf32

from hf_lineage.training.compiled_blocks import compiled_before, compiling_pays
from hf_lineage.training.precision import faster_precision, precision_before
from hf_lineage.training.restarts import join_after_restart


# below these, transformers would fail after the work on the data, or train nothing
LEAST = {
    "learning_rate": 0,
    "num_train_epochs": 0,
    "per_device_train_batch_size": 1,
    "per_device_eval_batch_size": 1,
    "gradient_accumulation_steps": 1,
}


@dataclass
class LineageTrainingArguments(TrainingArguments):
    """Hugging Face's TrainingArguments; changed defaults keep runs reproducible (see data/randomness.py).

    `precision` "auto" becomes "bf16" where this machine multiplies faster in bfloat16 (autocast: the weights and the
    optimizer's state stay in float32), else "fp32"; a run that continues keeps that of its checkpoint.
    `precision_reason` says why. `compile_blocks` "auto" becomes "always" or "never" in the same way, and
    `compile_reason` says why. On a GPU that has TF32, products of float32 numbers use it, unless `tf32` is False.

    Raises:
        ValueError: a rate or a number is below its `LEAST`; a tool of `report_to` is not installed; `precision`
            contradicts `bf16` or `fp16`; only one of `flat_epochs` and `epoch_decay` is given, one of them,
            `inverse_time_decay`, `ema_decay` or `muon_learning_rate` is out of range, or both schedules are asked for;
            `average_after` without evaluations during training; both averages, or one of them with
            `load_best_model_at_end`.
    """

    output_dir: str | None = field(
        default=None,
        # of the recipes; in Python transformers' default holds
        metadata={"help": "Folder of the model, its checkpoints and its scores.", "required": True},
    )
    overwrite_output_dir: bool = field(
        default=False, metadata={"help": "Start anew in a folder that holds a run; its checkpoints are removed."}
    )
    ignore_changed: list[str] | None = field(
        default=None,
        metadata={"help": "Settings, by name, that may differ from those of the checkpoint that this run continues."},
    )
    model_language: str | None = field(
        default=None, metadata={"help": "Language of the text, such as de, for the model card."}
    )
    model_license: str | None = field(
        default=None, metadata={"help": "Licence of the model, such as apache-2.0, for the model card."}
    )
    precision: Literal["auto", "fp32", "bf16"] | None = field(
        default=None,
        metadata={
            "help": "Numbers to compute in; auto: bf16 where it is faster on this machine, asked at the start; "
            "default: fp32, or what bf16 and fp16 say."
        },
    )
    compile_blocks: Literal["auto", "always", "never"] = field(
        default="auto",
        metadata={
            "help": "Compile the blocks of BERT, GPT and the Transformer for training; auto: on a GPU with Triton, or "
            "as the checkpoint says."
        },
    )
    # the data sets order their examples themselves, as a pure function of (seed, epoch, index)
    train_sampling_strategy: str = field(default="sequential", metadata={"help": "The data sets shuffle themselves."})
    # a last, smaller batch would differ between 1 process and 2
    dataloader_drop_last: bool = field(
        default=True, metadata={"help": "Drop the last incomplete batch of an epoch (evaluations keep it)."}
    )
    # the filter would log a NaN loss as a number; LineageTrainer stops instead
    logging_nan_inf_filter: bool = field(default=False, metadata={"help": "Hide NaN losses from the log."})
    flat_epochs: float | None = field(
        default=None, metadata={"help": "Epochs at the full learning rate, before `epoch_decay` starts."}
    )
    epoch_decay: float | None = field(
        default=None, metadata={"help": "Factor on the learning rate per `decay_epochs` epochs after `flat_epochs`."}
    )
    decay_epochs: float = field(default=1.0, metadata={"help": "Apply `epoch_decay` every `decay_epochs` epochs."})
    inverse_time_decay: float | None = field(
        default=None,
        metadata={"help": "r: divide the learning rate by 1 + r t after t updates (Bengio et al., 2003)."},
    )
    sum_over_time: bool = field(
        default=False,
        metadata={
            "help": "Sum the loss over the time steps of a block (truncated BPTT, Zaremba et al., 2014) or of a "
            "target sentence (translation, Sutskever et al., 2014); the papers' rates and clipping assume it."
        },
    )

    average_after: int | None = field(
        default=None,
        metadata={"help": "NT-ASGD: average the weights after this many evaluations in a row without a new best."},
    )
    ema_decay: float | None = field(
        default=None,
        metadata={"help": "Use the exponential moving average of the weights, with this decay, such as 0.999."},
    )
    muon_learning_rate: float | None = field(
        default=None,
        metadata={"help": "Muon at this rate for the matrices between embeddings and output; AdamW for the rest."},
    )

    @property
    def rows_per_update(self) -> int:
        """Training examples of all processes and accumulated batches in one update of the weights."""
        return self.train_batch_size * self.world_size * self.gradient_accumulation_steps

    def __post_init__(self):
        for name, least in LEAST.items():
            if (value := getattr(self, name)) < least:
                raise ValueError(f"{name} is {value}; it must be at least {least}")
        if (self.flat_epochs is None) != (self.epoch_decay is None):
            raise ValueError("flat_epochs and epoch_decay belong together: give both or neither")
        if self.flat_epochs is not None and (self.flat_epochs < 0 or not 0 < self.epoch_decay <= 1):
            raise ValueError(
                f"flat_epochs is {self.flat_epochs} and epoch_decay {self.epoch_decay}; flat_epochs must be at least "
                "0, epoch_decay in (0, 1]"
            )
        if self.decay_epochs <= 0:
            raise ValueError(f"decay_epochs is {self.decay_epochs}; it must be above 0")
        if self.inverse_time_decay is not None and self.inverse_time_decay < 0:
            raise ValueError(f"inverse_time_decay is {self.inverse_time_decay}; it must be at least 0")
        if self.inverse_time_decay is not None and self.flat_epochs is not None:
            raise ValueError("inverse_time_decay and flat_epochs are two schedules: give one of them")
        # without this, processes started by accelerate on a machine without accelerator train independently
        self.use_cpu = self.use_cpu or not torch.accelerator.is_available()
        self.choose_precision()
        if torch.distributed.is_available():
            join_after_restart("gloo" if self.use_cpu else "nccl")
        super().__post_init__()
        # transformers would say so only when the data are ready; it cannot tell whether these two are there
        there = {*get_available_reporting_integrations(), "azure_ml", "flyte"}
        if missing := [name for name in self.report_to if name not in there]:
            raise ValueError(f"report_to is {', '.join(missing)}, which is not installed: install it, or give none")
        self.choose_compilation()
        if self.tf32 is None and self.device.type == "cuda" and is_torch_tf32_available():
            enable_tf32(True)
        if self.average_after is not None and self.eval_strategy == "no":
            raise ValueError(
                f"average_after is {self.average_after}, but there are no evaluations to wait for: set eval_strategy"
            )
        for name in ("average_after", "ema_decay"):
            if getattr(self, name) is not None and self.load_best_model_at_end:
                # evaluation scores the mean, but the checkpoint's model holds the raw weights
                raise ValueError(
                    f"{name} ({getattr(self, name)}) and load_best_model_at_end exclude each other: the run ends "
                    "with the averaged weights; choose one"
                )
        if self.average_after is not None and self.ema_decay is not None:
            raise ValueError("average_after and ema_decay are two averages: give one of them")
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise ValueError(f"ema_decay is {self.ema_decay}; it must lie in (0, 1)")
        if self.muon_learning_rate is not None and self.muon_learning_rate <= 0:
            raise ValueError(f"muon_learning_rate is {self.muon_learning_rate}; it must be above 0")
        if self.muon_learning_rate is not None and not str(self.optim.value).startswith("adamw_torch"):
            raise ValueError(
                f"muon_learning_rate is {self.muon_learning_rate}, but optim is {self.optim.value}: Muon trains the "
                "hidden matrices, and AdamW the rest; leave optim out"
            )

    def choose_compilation(self):
        """Sets `compile_blocks` "auto" to what was chosen."""
        self.compile_reason = None
        if self.compile_blocks != "auto":
            return
        before = None
        if not self.overwrite_output_dir:
            before = compiled_before(self.output_dir or "trainer_output", self.resume_from_checkpoint)
        if self.torch_compile:
            pays, self.compile_reason = False, "torch_compile compiles the whole model"
        elif before is not None:
            pays, self.compile_reason = before, "as in the checkpoint"
        else:
            pays, self.compile_reason = compiling_pays(self.device)
        self.compile_blocks = "always" if pays else "never"

    def choose_precision(self):
        """Sets `bf16` by `precision`, and `precision` to what was chosen.

        Raises:
            ValueError: `precision` contradicts `bf16` or `fp16`.
        """
        # `accelerate launch --mixed_precision` says it in the environment
        launched = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
        asked = "bf16" if self.bf16 else "fp16" if self.fp16 else launched if launched in ("bf16", "fp16") else None
        self.precision_reason = None
        if self.precision is None:
            return
        if self.precision == "auto" and asked is not None:
            # fp16 is not a value of this argument: it stays with its flag
            self.precision = "bf16" if asked == "bf16" else "auto"
        elif self.precision == "auto":
            resumed = (
                None
                if self.overwrite_output_dir
                else precision_before(self.output_dir or "trainer_output", self.resume_from_checkpoint)
            )
            if resumed in ("bf16", "fp32"):
                self.precision, self.precision_reason = resumed, "as in the checkpoint"
            else:
                device = torch.device("cpu") if self.use_cpu else torch.accelerator.current_accelerator()
                self.precision, self.precision_reason = faster_precision(device)
        elif asked not in (None, self.precision):
            raise ValueError(f"precision is {self.precision}, but {asked} is asked for too: give one of them")
        self.bf16 = self.bf16 or self.precision == "bf16"
