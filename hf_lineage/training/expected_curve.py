"""Is my pre-training working? Compares the validation loss with the curve that a preset is expected to follow."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from transformers import TrainerCallback


# a run may be this much above the curve: other text, other seed
MARGIN = 0.05
CAUSES = (
    "a learning rate that is too high or, more often, too low (it must warm up and decay within the run)",
    "a tokenizer that does not fit the text (look at its pieces of a sentence)",
    "text in a sorted order, or repeated text",
    "masks that hide too much or too little (BERT: mask_probability 0.15 to 0.4)",
    "batches that are too large for so few updates",
)


class ExpectedCurve(TrainerCallback):
    """Warns once when an evaluation's loss lies above the expected curve.

    The file at `path` has {"points": [[tokens, share], …]}. A point gives a number of training tokens, and the
    validation loss after them as a share of `chance`. `chance` is the loss of a model that knows the words'
    frequencies alone, so the curve holds for other texts and vocabularies too. The callback says nothing before the
    first point. `tokens_after(updates)` are those that the model was trained on. A file that is not at `path` is
    sought in `folder`, where the presets have theirs.

    Raises:
        ValueError: the file is missing or holds something else.
    """

    def __init__(self, path: str | Path, chance: float, tokens_after: Callable[[int], float], folder: Path = Path()):
        path = path if Path(path).is_file() else folder / path
        try:
            points = json.loads(Path(path).read_text(encoding="utf-8"))["points"]
            self.tokens, self.shares = (np.array(column, dtype=float) for column in zip(*points, strict=True))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f'expected_curve is {path}, which has no {{"points": [[tokens, share], …]}}: {error}'
            ) from error
        self.path, self.chance, self.tokens_after = Path(path), chance, tokens_after
        self.has_warned = False

    def on_train_begin(self, args, state, control, **kwargs):
        if args.eval_strategy == "no" and state.is_world_process_zero:
            warnings.warn(
                f"expected_curve is {self.path}, but eval_strategy is no: nothing is compared; set it to steps",
                stacklevel=2,
            )

    def on_evaluate(self, args, state, control, metrics=None, **kwargs):
        if not state.global_step:
            return
        tokens, loss = float(self.tokens_after(state.global_step)), metrics["eval_loss"]
        if self.has_warned or tokens < self.tokens[0] or not state.is_world_process_zero:
            return
        expected = self.chance * float(np.interp(np.log(tokens), np.log(self.tokens), self.shares))
        if loss > expected * (1 + MARGIN):
            self.has_warned = True
            causes = "\n".join(f"- {cause}" for cause in CAUSES)
            warnings.warn(
                f"After {tokens:,.0f} tokens the validation loss is {loss:.2f}; {self.path.stem} expects at most "
                f"{expected:.2f} (the words' frequencies alone give {self.chance:.2f}). Usual causes:\n{causes}",
                stacklevel=2,
            )


def loss_by_frequency(train_tokens: np.ndarray, held_out: np.ndarray, vocab_size: int) -> float:
    """Mean loss, in nats, of `held_out` tokens under the training text's frequencies, each count one higher."""
    counts = np.bincount(train_tokens, minlength=vocab_size) + 1
    return float(-np.log(counts[held_out] / counts.sum()).mean())
