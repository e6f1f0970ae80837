"""What transformers' Trainer lacks for the lineage: exact resume, per-epoch schedules, truncated BPTT, word2vec."""

from .arguments import LineageTrainingArguments
from .averaging import NonMonotonicAverage
from .checkpoints import last_complete_checkpoint
from .schedules import flat_then_decay
from .tbptt import TruncatedBPTTTrainer
from .trainer import LineageTrainer
from .word2vec import Word2VecTrainer
from .word2vec_fast import FastPath


__all__ = [
    "FastPath",
    "LineageTrainer",
    "LineageTrainingArguments",
    "NonMonotonicAverage",
    "TruncatedBPTTTrainer",
    "Word2VecTrainer",
    "flat_then_decay",
    "last_complete_checkpoint",
]
