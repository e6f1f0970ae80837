"""What transformers' Trainer lacks for the lineage: exact resume, per-epoch schedules, truncated BPTT."""

from .arguments import LineageTrainingArguments
from .checkpoints import last_complete_checkpoint
from .schedules import flat_then_decay
from .tbptt import TruncatedBPTTTrainer
from .trainer import LineageTrainer


__all__ = [
    "LineageTrainer",
    "LineageTrainingArguments",
    "TruncatedBPTTTrainer",
    "flat_then_decay",
    "last_complete_checkpoint",
]
