"""The likelihood of texts under a model: token by token from the left, or each token given all others."""

import inspect
import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_lineage.data.packing import IGNORED


@torch.no_grad()
def continuation_log_probabilities(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[tuple[str, str]],
    *,
    batch_size: int = 64,
    show_progress: bool = True,
) -> list[Tensor]:
    """For each (context, continuation), the natural log-probabilities [T] of the continuation's tokens.

    A causal language model reads bos_token (eos_token if there is none), then the context, which may be empty, then
    the continuation. Without either token, the first token of an empty context has no probability and is left out.

    Raises:
        ValueError: a text is longer than the model can read, or batch_size is below 1.
    """
    start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    start = [] if start is None else [start]
    contexts, continuations = (
        (_token_ids(tokenizer, texts) for texts in zip(*pairs, strict=True)) if pairs else ([], [])
    )
    rows = [start + context + continuation for context, continuation in zip(contexts, continuations, strict=True)]
    scored = [len(ids) if len(ids) < len(row) else len(ids) - 1 for row, ids in zip(rows, continuations, strict=True)]
    results = [torch.empty(0)] * len(rows)
    for batch in _batches([len(row) for row in rows], batch_size, "Scoring texts", show_progress):
        ids, mask = _padded([rows[index] for index in batch], tokenizer, model.device)
        with _evaluating(model):
            logits = model(ids, attention_mask=mask, use_cache=False).logits[:, :-1]  # [B, T - 1, V]
        of_next = -cross_entropy(logits.float().transpose(1, 2), ids[:, 1:], reduction="none").cpu()  # [B, T - 1]
        for row, index in enumerate(batch):
            end = len(rows[index]) - 1
            results[index] = of_next[row, end - scored[index] : end].clone()
    return results


@torch.no_grad()
def pseudo_log_probabilities(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    word_l2r: bool = False,
    batch_size: int = 64,
    show_progress: bool = True,
) -> list[Tensor]:
    """Natural log-probability of each token, masked, given all others: one [T] per text.

    For masked language models; the sum is the pseudo-log-likelihood of Salazar et al. (2020). With `word_l2r`, the
    later tokens of the same word are masked too (Kauf and Ivanova, 2023), so that the end of a rare word does not give
    away its beginning. Special tokens that the tokenizer puts around a text are read but not scored.

    Raises:
        ValueError: the tokenizer has no mask_token, a text is longer than the model can read, or batch_size is below
            1.
    """
    if tokenizer.mask_token_id is None:
        raise ValueError("the tokenizer has no mask_token, which hides the token that is scored")
    encoded = tokenizer(list(texts), return_special_tokens_mask=True, verbose=False) if texts else {"input_ids": []}
    rows = encoded["input_ids"]
    results = [torch.empty(len(row)) for row in rows]
    hidden = [
        (index, place)
        for index, row in enumerate(rows)
        for place, is_special in enumerate(encoded["special_tokens_mask"][index])
        # an unknown token of the text is marked as special too
        if not is_special or row[place] == tokenizer.unk_token_id
    ]
    words = [encoded.word_ids(index) for index in range(len(rows))] if word_l2r else None
    for batch in _batches([len(rows[index]) for index, _ in hidden], batch_size, "Scoring tokens", show_progress):
        places = [hidden[position] for position in batch]
        ids, mask = _padded([rows[index] for index, _ in places], tokenizer, model.device)
        column = torch.tensor([place for _, place in places], device=ids.device)[:, None]
        targets = ids.gather(1, column)  # [B, 1]
        ids.scatter_(1, column, tokenizer.mask_token_id)
        if words is not None:
            for row, (index, place) in enumerate(places):
                after = itertools.takewhile(
                    lambda i, w=words[index], p=place: w[i] == w[p], range(place, len(words[index]))
                )
                ids[row, [*after]] = tokenizer.mask_token_id
        for (index, place), value in zip(places, _guessed(model, ids, mask, column, targets).tolist(), strict=True):
            results[index][place] = value
    is_scored = [torch.zeros(len(row), dtype=torch.bool) for row in rows]
    for index, place in hidden:
        is_scored[index][place] = True
    return [result[scored] for result, scored in zip(results, is_scored, strict=True)]


@torch.no_grad()
def directional_log_probabilities(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    batch_size: int = 64,
    show_progress: bool = True,
) -> list[tuple[Tensor, Tensor]]:
    """For each text of n words and a bidirectional language model (ELMo), natural log-probabilities [n + 1] twice.

    First of each word and the end mark from the left, then of each word and the start mark from the right, both in the
    order of the text.

    Raises:
        ValueError: batch_size is below 1.
    """
    rows = tokenizer(list(texts), verbose=False)["input_ids"] if texts else []
    results = [(torch.empty(0), torch.empty(0))] * len(rows)
    for batch in _batches([len(row) for row in rows], batch_size, "Scoring texts", show_progress):
        inputs = tokenizer([texts[index] for index in batch], padding=True, padding_side="right", return_tensors="pt")
        with _evaluating(model):
            outputs = model(**inputs.to(model.device))
        ids = inputs["input_ids"]
        pairs = (outputs.logits[:, :-1], ids[:, 1:]), (outputs.backward_logits[:, 1:], ids[:, :-1])
        left, right = (-cross_entropy(x.float().transpose(1, 2), of, reduction="none").cpu() for x, of in pairs)
        for row, index in enumerate(batch):
            end = len(rows[index]) - 1
            results[index] = left[row, :end].clone(), right[row, :end].clone()
    return results


def _guessed(model, ids: Tensor, mask: Tensor, column: Tensor, targets: Tensor) -> Tensor:
    """Log-probability [B] of `targets` [B, 1] at `column` [B, 1] of `ids` [B, T]."""
    with _evaluating(model):
        if "cu_seq_lens_q" in inspect.signature(model.forward).parameters:
            # packed texts: the output layer, most of a small model's work, reads only the masked tokens
            is_token = mask.bool()
            labels = torch.full_like(ids, IGNORED).scatter(1, column, targets)
            bounds = torch.nn.functional.pad(mask.sum(1).cumsum(0), (1, 0)).int()
            logits = model(ids[is_token][None], labels=labels[is_token][None], cu_seq_lens_q=bounds).logits  # [B, V]
        else:
            logits = model(ids, attention_mask=mask).logits
            logits = logits.gather(1, column[:, :, None].expand(-1, -1, logits.shape[2]))[:, 0]
    return logits.float().log_softmax(1).gather(1, targets)[:, 0]


def _token_ids(tokenizer, texts: Sequence[str]) -> list[list[int]]:
    return tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]


def _batches(lengths: list[int], batch_size: int, description: str, show_progress: bool) -> Iterator[list[int]]:
    """Indices of texts of similar length, the longest first, so that too little memory shows at once."""
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    with tqdm(total=len(order), desc=description, disable=not show_progress) as progress:
        for first in range(0, len(order), batch_size):
            batch = order[first : first + batch_size]
            yield batch
            progress.update(len(batch))


def _padded(rows: list[list[int]], tokenizer, device) -> tuple[Tensor, Tensor]:
    """Token ids and mask [B, T], padded on the right."""
    ids = [torch.tensor(row, dtype=torch.long) for row in rows]
    mask = [torch.ones(len(row), dtype=torch.long) for row in rows]
    padding = tokenizer.pad_token_id or 0
    return (
        torch.nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=padding).to(device),
        torch.nn.utils.rnn.pad_sequence(mask, batch_first=True).to(device),
    )


@contextmanager
def _evaluating(model):
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
