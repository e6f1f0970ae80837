"""Perplexity of a causal language model on a whole text, per token and in units that suit any vocabulary."""

import math
from itertools import groupby

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from tqdm.auto import tqdm
from transformers import DynamicCache, PreTrainedModel

from hf_lineage.data.token_stream import TokenStream


def exponential(nats: float) -> float:
    """The perplexity of a loss; infinite beyond the largest float."""
    try:
        return math.exp(nats)
    except OverflowError:
        return math.inf


def perplexities(
    *, nll: float, num_tokens: int, num_words: int, num_characters: int, num_unknown: int
) -> dict[str, float]:
    """Perplexities for the summed negative log-likelihood of a text (in nats) and the counts to divide it by.

    Returns the arguments, perplexity_per_token, perplexity_per_word and bits_per_character.

    Words and characters are counted on the raw text, with one end mark per document. Compare models with different
    tokens per word or by bits, not per token. In a text written without blanks, each Chinese or Japanese character is
    a word. A perplexity too large for a float is infinite, and null in results.json, which still has `nll` and
    `bits_per_character`. Text that the tokenizer maps to its unknown token is scored as that token, which lowers the
    perplexity: see `num_unknown`.

    Raises:
        ValueError: there are no tokens, words or characters.
    """
    for name, number in (("num_tokens", num_tokens), ("num_words", num_words), ("num_characters", num_characters)):
        if number < 1:
            raise ValueError(f"{name} is {number}: a text without any has no perplexity")
    return {
        "nll": nll,
        "num_tokens": num_tokens,
        "num_words": num_words,
        "num_characters": num_characters,
        "num_unknown": num_unknown,
        "perplexity_per_token": exponential(nll / num_tokens),
        "perplexity_per_word": exponential(nll / num_words),
        "bits_per_character": nll / math.log(2) / num_characters,
    }


def measure_perplexity(
    model: PreTrainedModel,
    stream: TokenStream,
    *,
    block_size: int,
    stride: int | None = None,
    batch_size: int = 8,
    show_progress: bool = True,
) -> dict[str, float]:
    """Scores every token of `stream` once, given as much of the text before it as the model can use.

    Returns `perplexities`. See `log_probabilities` for details and errors.
    """
    log_p = log_probabilities(
        model, stream, block_size=block_size, stride=stride, batch_size=batch_size, show_progress=show_progress
    )
    return perplexity_of(log_p, stream)


def perplexity_of(log_p: np.ndarray, stream: TokenStream) -> dict[str, float]:
    """`perplexities` for log-probabilities [N − 1], from any model, of the tokens of `stream` except the first."""
    return perplexities(
        nll=-float(log_p.sum()),
        num_tokens=len(log_p),
        num_words=stream.num_words,
        num_characters=stream.num_characters,
        num_unknown=stream.num_unknown,
    )


@torch.no_grad()
def log_probabilities(
    model: PreTrainedModel,
    stream: TokenStream,
    *,
    block_size: int,
    stride: int | None = None,
    batch_size: int = 8,
    show_progress: bool = True,
) -> np.ndarray:
    """log p of every token of `stream` except the first, in order: float64 [N − 1].

    A model that carries a state reads the text as one stream. Any other model reads windows of `block_size` tokens
    that advance by `stride` (default: half a window); only the new predictions of a window count.

    Raises:
        ValueError: stride is not in 1..block_size.
    """
    stride = max(block_size // 2, 1) if stride is None else stride
    if not 1 <= stride <= block_size:
        raise ValueError(f"stride is {stride}; it must lie between 1 and block_size {block_size}")
    was_training = model.training
    model.eval()
    tokens = torch.from_numpy(stream.tokens).long()
    score = (
        _score_carried(model, tokens, block_size)
        if model._is_stateful
        else _score_windows(model, tokens, block_size, stride, batch_size)
    )
    log_p, done = np.empty(len(tokens) - 1), 0
    with tqdm(total=len(log_p), desc="Perplexity", unit="tok", disable=not show_progress) as progress:
        for losses in score:
            log_p[done : done + losses.numel()] = -losses.double().cpu().numpy()
            done += losses.numel()
            progress.update(losses.numel())
    model.train(was_training)
    return log_p


def _score_carried(model, tokens, block_size):
    cache = DynamicCache(config=model.config)
    for start in range(0, len(tokens) - 1, block_size):
        targets = tokens[start + 1 : start + 1 + block_size].to(model.device)
        inputs = tokens[start : start + len(targets)].to(model.device)
        logits = model(inputs[None], cache=cache, use_cache=True).logits[0]
        yield cross_entropy(logits.float(), targets, reduction="none")


def _score_windows(model, tokens, block_size, stride, batch_size):
    windows, scored = [], 0  # of inputs [start, end), whose last `new` positions are scored
    while scored < len(tokens) - 1:
        new = min(stride if windows else block_size, len(tokens) - 1 - scored)
        scored += new
        windows.append((max(scored - block_size, 0), scored, new))
    for (_, new), equal in groupby(windows, key=lambda window: (window[1] - window[0], window[2])):
        equal = list(equal)
        for first in range(0, len(equal), batch_size):
            batch = equal[first : first + batch_size]
            inputs = torch.stack([tokens[start:end] for start, end, _ in batch]).to(model.device)
            targets = torch.stack([tokens[end - new + 1 : end + 1] for _, end, _ in batch]).to(model.device)
            logits = model(inputs, logits_to_keep=new).logits
            yield cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction="none")
