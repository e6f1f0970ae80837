"""Tasks without training: the language model chooses the more likely answer (Radford et al., 2018, §5)."""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_lineage.metrics.likelihood import continuation_log_probabilities


def acceptability(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, sentences: Sequence[str], **options
) -> Tensor:
    """Mean log-probability of a sentence's tokens [B]; CoLA: acceptable if above a threshold (`best_threshold`)."""
    return _means(model, tokenizer, [("", sentence) for sentence in sentences], options)


def best_threshold(scores: Tensor, labels: Sequence[int]) -> float:
    """The threshold between two scores that predicts `labels` (0 or 1) best; the lowest one if several are equal.

    Raises:
        ValueError: there are no scores, or the number of labels differs.
    """
    labels = torch.as_tensor(labels)
    if not len(scores) or len(scores) != len(labels):
        raise ValueError(f"{len(scores)} scores and {len(labels)} labels; the numbers must be equal and above 0")
    scores, order = scores.double().sort()
    # right answers if the k lowest scores predict 0: the zeros among them, and the ones among the others
    ones = torch.nn.functional.pad(labels[order].cumsum(0), (1, 0))
    right = torch.arange(len(ones)) - ones + ones[-1] - ones
    right[1:-1][scores[1:] == scores[:-1]] = -1
    bounds = torch.cat([scores[:1] - 1, (scores[1:] + scores[:-1]) / 2, scores[-1:] + 1])
    return bounds[right.argmax()].item()


def sentiment(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    prompt: str = " very",
    words: tuple[str, str] = ("negative", "positive"),
    **options,
) -> Tensor:
    """Which of two words is more likely after "<text> very" [B]: 0 for negative, 1 for positive (SST-2)."""
    return _best(model, tokenizer, [[(text + prompt, f" {word}") for word in words] for text in texts], sum, options)


def answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[str],
    choices: Sequence[Sequence[str]],
    **options,
) -> Tensor:
    """The answer [B] whose tokens are most likely on average after the document and its question (RACE).

    Raises:
        ValueError: the numbers of questions and lists of choices differ, or a list is empty.
    """
    pairs = [[(question, f" {choice}") for choice in each] for question, each in zip(questions, choices, strict=True)]
    return _best(model, tokenizer, pairs, torch.mean, options)


def referents(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    candidates: Sequence[Sequence[str]],
    *,
    pronoun: str = "_",
    **options,
) -> Tensor:
    """Which candidate [B], in place of the first `pronoun` of a text, makes the rest most likely (Winograd).

    Raises:
        ValueError: a text has no `pronoun`, or nothing after it.
    """
    pairs = []
    for text, each in zip(texts, candidates, strict=True):
        before, found, rest = text.partition(pronoun)
        if not found or not rest.strip():
            raise ValueError(f"{text!r:.80} must have the pronoun {pronoun!r} and something after it")
        pairs.append([(before + candidate, rest) for candidate in each])
    return _best(model, tokenizer, pairs, torch.mean, options)


def _means(model, tokenizer, pairs, options) -> Tensor:
    return torch.stack([score.mean() for score in continuation_log_probabilities(model, tokenizer, pairs, **options)])


def _best(model, tokenizer, pairs: list[list[tuple[str, str]]], summarise, options) -> Tensor:
    """The alternative with the highest score in each list [B]."""
    if empty := [index for index, each in enumerate(pairs) if not each]:
        raise ValueError(f"example {empty[0]} has no alternatives to choose from")
    flat = [pair for each in pairs for pair in each]
    scores = [float(summarise(score)) for score in continuation_log_probabilities(model, tokenizer, flat, **options)]
    groups = torch.tensor(scores).split([len(each) for each in pairs])
    return torch.tensor([group.argmax().item() for group in groups])
