"""What the lineage needs beyond transformers' Trainer: exact resume, per-epoch schedules, truncated BPTT, word2vec."""

from hf_lineage.hub.model_card import RunFacts, code_for, last_lines, page_command
from hf_lineage.training.averaging import AverageCheckpoints, average_checkpoints, load_average
from hf_lineage.training.bert_adam import BertAdam
from hf_lineage.training.bert_pretraining_trainer import BERTPretrainingTrainer
from hf_lineage.training.checkpoints import last_complete_checkpoint, prepare_output_dir
from hf_lineage.training.expected_curve import ExpectedCurve, loss_by_frequency
from hf_lineage.training.finetuning import FineTuningRun, finetune_all
from hf_lineage.training.muon import MuonWithAdamW
from hf_lineage.training.nt_asgd import NonMonotonicAverage
from hf_lineage.training.recipe_runs import RecipeRuns, run_recipe
from hf_lineage.training.results import Results
from hf_lineage.training.schedules import flat_then_decay, inverse_time, noam
from hf_lineage.training.tbptt import TruncatedBPTTTrainer
from hf_lineage.training.trainer import LineageTrainer
from hf_lineage.training.training_arguments import LineageTrainingArguments
from hf_lineage.training.transfer import Transfer, load_for_task, open_for_task, with_new_head
from hf_lineage.training.translation_trainer import TranslationTrainer, TranslationTrainingArguments
from hf_lineage.training.weight_averages import MovingAverage
from hf_lineage.training.word2vec import Word2VecTrainer
from hf_lineage.training.word2vec_fast import FastPath


__all__ = [
    "AverageCheckpoints",
    "BERTPretrainingTrainer",
    "BertAdam",
    "ExpectedCurve",
    "FastPath",
    "FineTuningRun",
    "LineageTrainer",
    "LineageTrainingArguments",
    "MovingAverage",
    "MuonWithAdamW",
    "NonMonotonicAverage",
    "RecipeRuns",
    "Results",
    "RunFacts",
    "Transfer",
    "TranslationTrainer",
    "TranslationTrainingArguments",
    "TruncatedBPTTTrainer",
    "Word2VecTrainer",
    "average_checkpoints",
    "code_for",
    "finetune_all",
    "flat_then_decay",
    "inverse_time",
    "last_complete_checkpoint",
    "last_lines",
    "load_average",
    "load_for_task",
    "loss_by_frequency",
    "noam",
    "open_for_task",
    "page_command",
    "prepare_output_dir",
    "run_recipe",
    "with_new_head",
]
