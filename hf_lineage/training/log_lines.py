"""A line of words for each entry of the log, in place of transformers' printed dicts."""

import math
import sys
from collections.abc import Mapping

from transformers import Trainer, TrainerState
from transformers.trainer_callback import PrinterCallback, ProgressCallback


# of an entry these are times, rates and counts, which trainer_state.json has
UNSAID = ("epoch", "total_flos", "grad_norm")
UNSAID_ENDINGS = ("_runtime", "_per_second", "_time", "_flos")
# kinds of losses that are means per token
PER_TOKEN = ("ForCausalLM", "ForConditionalGeneration")
NAMES = {"learning_rate": "learning rate", "epoch_loss": "loss of the epoch", "train_loss": "mean loss"}


def log_line(logs: Mapping, state: TrainerState, per_token: bool = False) -> str | None:
    """`{"loss": 5.31, "learning_rate": 1e-3}` -> "step 50 of 300: loss 5.31, learning rate 0.001".

    None if nothing is left to say. `per_token`: an evaluation's loss is a mean per token, so its perplexity follows.
    """
    step = f"step {state.global_step} of {state.max_steps}"
    if "train_runtime" in logs:
        step = f"{state.global_step} steps in {logs['train_runtime']:.0f} s"
    elif any(name.startswith("eval_") for name in logs):
        step += ", evaluation"
    said = []
    for name, value in logs.items():
        if name in UNSAID or name.endswith(UNSAID_ENDINGS):
            continue
        short = name.removeprefix("eval_")
        number = f"{value:.4g}" if isinstance(value, float) else value
        said.append(f"{NAMES.get(short, short.replace('_', ' '))} {number}")
        if name == "eval_loss" and per_token:
            said.append(f"perplexity {math.exp(value) if value < 700 else math.inf:.4g}")
    return f"{step}: {', '.join(said)}" if said else None


class LogLines(PrinterCallback):
    """Prints a line for each entry of the log."""

    def on_log(self, args, state, control, logs=None, model=None, **kwargs):
        if state.is_world_process_zero and (line := log_line(logs or {}, state, has_perplexity(model))):
            sys.stdout.write(line + "\n")
            sys.stdout.flush()


class ProgressWithLogLines(ProgressCallback):
    """transformers' bar of progress, with a line above it for each entry of the log."""

    def on_log(self, args, state, control, logs=None, model=None, **kwargs):
        line = log_line(logs or {}, state, has_perplexity(model))
        if state.is_world_process_zero and self.training_bar is not None and line:
            self.training_bar.write(line)


def has_perplexity(model) -> bool:
    return getattr(model, "loss_type", None) in PER_TOKEN


def say_in_words(trainer: Trainer):
    """Puts lines in the place of the dicts that `trainer` prints; a callback of one's own stays."""
    callbacks = trainer.callback_handler.callbacks
    for place, callback in enumerate(callbacks):
        if type(callback) is PrinterCallback:
            callbacks[place] = LogLines()
        elif type(callback) is ProgressCallback:
            callbacks[place] = ProgressWithLogLines()
