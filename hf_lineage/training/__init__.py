"""What transformers' Trainer lacks for the lineage: exact resume, per-epoch schedules, truncated BPTT, word2vec."""

from .arguments import LineageTrainingArguments
from .averaging import AverageCheckpoints, average_checkpoints, load_average
from .bert_adam import BertAdam
from .bert_pretraining import BERTPretrainingTrainer
from .checkpoints import last_complete_checkpoint
from .nt_asgd import NonMonotonicAverage
from .schedules import flat_then_decay, inverse_time, noam
from .tbptt import TruncatedBPTTTrainer
from .trainer import LineageTrainer
from .translation import TranslationTrainer, TranslationTrainingArguments
from .word2vec import Word2VecTrainer
from .word2vec_fast import FastPath


__all__ = [
    "AverageCheckpoints",
    "BERTPretrainingTrainer",
    "BertAdam",
    "FastPath",
    "LineageTrainer",
    "LineageTrainingArguments",
    "NonMonotonicAverage",
    "TranslationTrainer",
    "TranslationTrainingArguments",
    "TruncatedBPTTTrainer",
    "Word2VecTrainer",
    "average_checkpoints",
    "flat_then_decay",
    "inverse_time",
    "last_complete_checkpoint",
    "load_average",
    "noam",
]
