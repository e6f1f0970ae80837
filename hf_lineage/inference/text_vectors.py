"""Vectors of many texts at once: sorted by length and packed into rows without padding."""

import inspect
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_lineage.data.collators import PackingCollator


POOLINGS = ("mean", "first", "pooler", None)


@torch.no_grad()
def embed_texts(
    texts: Sequence[str],
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    pooling: str | None = "mean",
    tokens_per_row: int = 1_024,
    show_progress: bool = False,
) -> Tensor | list[Tensor]:
    """One vector per text, [texts, D], in the order of the texts; with `pooling=None` one per token, a list of [T, D].

    The result is that of transformers' feature-extraction pipeline, but faster: texts of similar length are packed
    into rows of about `tokens_per_row` tokens without padding, and do not see each other. `pooling` is "mean" (over
    all tokens), "first" (the vector of [CLS]) or "pooler" (the model's own). A text longer than the tokenizer's
    model_max_length is cut. The model must read packed texts: `BERTModel`.

    Raises:
        ValueError: the model cannot read packed texts, or an argument is out of its range.
    """
    if "cu_seq_lens_q" not in inspect.signature(model.forward).parameters:
        raise ValueError(f"{type(model).__name__} cannot read packed texts: use BERTModel, or the pipeline")
    if pooling not in POOLINGS:
        raise ValueError(f"pooling is {pooling!r}; it must be one of {', '.join(map(repr, POOLINGS))}")
    if tokens_per_row < 1:
        raise ValueError(f"tokens_per_row is {tokens_per_row}; it must be at least 1")
    was_training = model.training
    model.eval()
    encoded = tokenizer(list(texts), truncation=True, return_attention_mask=False) if len(texts) else {"input_ids": []}
    lengths = [len(ids) for ids in encoded["input_ids"]]
    if 0 in lengths:
        raise ValueError(f"text {lengths.index(0)} has no tokens: {texts[lengths.index(0)]!r}")
    collate, vectors = PackingCollator(), [None] * len(lengths)
    with tqdm(total=len(lengths), desc="Embedding", unit=" texts", disable=not show_progress) as progress:
        for row in _rows(lengths, tokens_per_row):
            batch = collate([{name: values[text] for name, values in encoded.items()} for text in row])
            batch = {name: value.to(model.device) for name, value in batch.items()}
            outputs = model(**batch)
            if pooling == "pooler":
                found = outputs.pooler_output
            else:
                found = outputs.last_hidden_state[0].split([lengths[text] for text in row])
            for text, vector in zip(row, found, strict=True):
                # copies, since a view would keep the whole row in memory
                vectors[text] = {"mean": lambda v: v.mean(0), "first": lambda v: v[0].clone()}.get(
                    pooling, torch.clone
                )(vector)
            progress.update(len(row))
    model.train(was_training)
    if pooling is None:
        return vectors
    return torch.stack(vectors) if vectors else torch.empty(0, model.config.hidden_size)


def _rows(lengths: list[int], tokens_per_row: int) -> Iterator[list[int]]:
    """Groups of texts, longest first: a row has up to `tokens_per_row` tokens or a single text."""
    row, used = [], 0
    for text in sorted(range(len(lengths)), key=lambda text: -lengths[text]):
        if row and used + lengths[text] > tokens_per_row:
            yield row
            row, used = [], 0
        row.append(text)
        used += lengths[text]
    if row:
        yield row
