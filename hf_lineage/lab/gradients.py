"""View c: how far back a language model feels and uses the words it has read."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from hf_lineage.lab.opened import MOST_UNKNOWN, LabModel
from hf_lineage.lab.view import Given, View, passages


WINDOW = 48
WINDOWS = 48
DISTANCES = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 46]


def compute(models: Sequence[LabModel], given: Given) -> dict | None:
    """Per causal model the mean gradient by distance, and how much another word there changes the prediction.

    `given.recall` stands beside them.
    """
    shown = []
    for model in models:
        text = _readable(model, passages(given)) if model.is_causal else None
        windows = None if text is None else windows_of(model, text)
        if windows is not None:
            gradients = gradients_by_distance(model, windows)
            influence = influence_by_distance(model, windows)
            shown.append(
                {
                    "name": model.name,
                    "windows": len(windows),
                    "gradients": [float(f"{value:.4g}") for value in gradients.tolist()],
                    "influence": [[d, float(f"{value:.4g}")] for d, value in influence.items()],
                }
            )
    return {"models": shown, "recall": given.recall} if shown else None


def _readable(model: LabModel, texts: Sequence[str]) -> str | None:
    """The first text whose tokens the model knows; it may be longer than what the model reads at once."""
    unknown = model.tokenizer.unk_token_id
    for text in texts:
        ids = model.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        if sum(token == unknown for token in ids) <= MOST_UNKNOWN * len(ids):
            return text
    return None


def windows_of(model: LabModel, text: str) -> Tensor | None:
    """Stretches of the text's tokens [B, T + 1], spread evenly; the last token is predicted from the T before it."""
    ids = torch.tensor(model.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
    length = min(WINDOW, model.longest, len(ids) - 1)
    if length < 4:
        return None
    begins = np.unique(np.linspace(0, len(ids) - length - 1, WINDOWS).round().astype(int))
    return torch.stack([ids[begin : begin + length + 1] for begin in begins.tolist()])


def gradients_by_distance(model: LabModel, windows: Tensor) -> Tensor:
    """The mean over windows [B, T + 1] of ‖∂ loss of the last token / ∂ vector of the token d back‖, d = 1 … T."""
    vectors = model.model.get_input_embeddings()(windows[:, :-1]).detach().requires_grad_()  # [B, T, E]
    logits = model.model(inputs_embeds=vectors, use_cache=False).logits[:, -1]
    # rows do not depend on each other: the gradient of the sum is that of each row's loss
    loss = cross_entropy(logits, windows[:, -1], reduction="sum")
    [gradient] = torch.autograd.grad(loss, vectors)
    return gradient.norm(dim=2).mean(0).flip(0)


@torch.no_grad()
def influence_by_distance(model: LabModel, windows: Tensor) -> dict[int, float]:
    """By how many nats the last token's log-probability changes, on average, if the token d before it is another one.

    The other token is the one at the same place of another window, so that it is as frequent.
    """
    read, last = windows[:, :-1], windows[:, -1:]

    def log_p(ids):
        return model.model(ids, use_cache=False).logits[:, -1].log_softmax(1).gather(1, last)

    before, changes = log_p(read), {}
    for distance in [d for d in DISTANCES if d <= read.shape[1]]:
        other = read.clone()
        other[:, -distance] = read[:, -distance].roll(len(read) // 2)
        changed = other[:, -distance] != read[:, -distance]
        if changed.any():
            changes[distance] = (log_p(other) - before)[changed].abs().mean().item()
    return changes


VIEW = View(
    "gradients",
    "Gradients",
    "How far back a model looks",
    "The left curve is the gradient of the last word's loss at each earlier word, the right one how much the "
    "prediction changes when that word is another one. NNLM ends at its window; an RNN's gradient fades faster than "
    "that of LSTM and GRU, if these have learned to use it, and a third curve, if given, shows what each recalls.",
    "Hochreiter & Schmidhuber (1997), section 3; Bengio et al. (2003), section 2 for the window",
    compute,
)
