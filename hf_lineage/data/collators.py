"""Batches without padding, and what a GPU should not have to tell Python about a batch."""

from collections.abc import Callable, Collection

import torch
from transformers import default_data_collator

from hf_lineage.data.packing import IGNORED


# fields that tokenizers give per token
TOKEN_FIELDS = ("input_ids", "token_type_ids", "position_ids", "special_tokens_mask", "char_ids")


class PackingCollator:
    """Joins texts into one row without padding, for models that take `cu_seq_lens_q` and keep the texts apart.

    Examples {"input_ids": [T], ...} give {"input_ids": [1, total], ..., "cu_seq_lens_q": int32 [texts + 1]}. Fields
    with one entry per token are joined, "attention_mask" is dropped, and all others are stacked [texts, ...]; "label"
    becomes "labels", as in transformers' collators.

    These fields have one entry per token: those that tokenizers give, those named in `per_token`, and "labels" that
    are lists of whole numbers. Other labels belong to the whole text: a number is its class, a list of floating-point
    numbers says which of several classes it has.

    Raises:
        ValueError: an example has no tokens, or a field with one entry per token has another number of entries.
    """

    def __init__(self, per_token: Collection[str] = ()):
        self.per_token = {*TOKEN_FIELDS, *per_token}

    def __call__(self, examples: list[dict]) -> dict[str, torch.Tensor]:
        lengths = [len(example["input_ids"]) for example in examples]
        if 0 in lengths:
            raise ValueError(f"example {lengths.index(0)} of the batch has no tokens: leave such texts out")
        batch = {}
        for name in examples[0]:
            if name == "attention_mask":
                continue
            values = [torch.as_tensor(example[name]) for example in examples]
            name = "labels" if name == "label" else name
            batch[name] = (
                self._joined(name, values, lengths) if self._is_per_token(name, values) else torch.stack(values)
            )
        bounds = torch.tensor([0, *lengths], dtype=torch.int32)
        return {**batch, "cu_seq_lens_q": bounds.cumsum(0, dtype=torch.int32)}

    def _is_per_token(self, name, values):
        is_label_list = name == "labels" and values[0].dim() > 0 and not values[0].is_floating_point()
        return is_label_list or name in self.per_token

    @staticmethod
    def _joined(name, values, lengths):
        for number, (value, length) in enumerate(zip(values, lengths, strict=True)):
            if value.shape[:1] != (length,):
                raise ValueError(
                    f"{name} of example {number} of the batch has the shape {list(value.shape)}, its text {length} "
                    "tokens: there must be one entry per token (several classes of a text are floating-point numbers)"
                )
        return torch.cat(values)[None]


class TranslationPackingCollator:
    """Joins sentence pairs without padding, all sources into one row and all targets into another (Transformer).

    Examples {"input_ids": [S], "labels": [T]} give {"input_ids": [1, total], "labels": [1, total]}. They also give
    "cu_seq_lens_k" and "cu_seq_lens_q", int32 [pairs + 1]: where each source and each target begins, then the length
    of the row.

    Raises ValueError for a source or target without tokens.
    """

    def __call__(self, examples: list[dict]) -> dict[str, torch.Tensor]:
        batch = {}
        for name, bounds in {"input_ids": "cu_seq_lens_k", "labels": "cu_seq_lens_q"}.items():
            texts = [torch.as_tensor(example[name]) for example in examples]
            lengths = [len(text) for text in texts]
            if 0 in lengths:
                raise ValueError(
                    f"{name} of example {lengths.index(0)} of the batch has no tokens: leave such pairs out"
                )
            batch[name] = torch.cat(texts)[None]
            batch[bounds] = torch.tensor([0, *lengths], dtype=torch.int32).cumsum(0, dtype=torch.int32)
        return batch


class WithScoredPositions:
    """Gives `collator`'s batches "scored_positions": the columns of each row's labels that are not −100.

    For models that predict only some tokens, such as BERT's masked words. Their number decides the shape of what they
    compute; here it is known, while a GPU would have to be asked in every step. `LineageTrainer` does this by itself
    for models whose forward takes `scored_positions`.

    A batch with "labels" [B, T] gets int64 [B, P], P columns for the row that has most, −1 after the last of the
    others. A packed row has no −1. Other batches stay as they are.
    """

    def __init__(self, collator: Callable[[list[dict]], dict]):
        self.collator = collator

    def __call__(self, examples: list[dict]) -> dict:
        batch = self.collator(examples)
        labels = batch.get("labels")
        if not isinstance(labels, torch.Tensor) or labels.dim() != 2 or labels.is_floating_point():
            return batch
        scored = labels != IGNORED
        row, column = scored.nonzero(as_tuple=True)
        place = scored.cumsum(1)[scored] - 1
        positions = labels.new_full((len(labels), int(place.max()) + 1 if len(place) else 0), -1, dtype=torch.int64)
        positions[row, place] = column
        # not into the collator's own batch, which may be of another class
        return {**batch, "scored_positions": positions}


def collate_rows(examples: list[dict]) -> dict[str, torch.Tensor]:
    """transformers' `default_data_collator`, for examples whose rows of numbers have one length.

    Raises:
        ValueError: rows of different lengths; the message names the column and a collator that pads.
    """
    try:
        return default_data_collator(examples)
    except (ValueError, RuntimeError) as error:
        for name, first in examples[0].items():
            if not isinstance(first, list | tuple) and not getattr(first, "shape", ()):
                continue
            lengths = sorted({len(example[name]) for example in examples})
            if len(lengths) > 1:
                raise ValueError(
                    f"{name} has rows of {', '.join(map(str, lengths))} tokens in one batch: give the trainer "
                    "data_collator=DataCollatorWithPadding(tokenizer), or "
                    "DataCollatorForTokenClassification(tokenizer), which pads labels too"
                ) from error
        raise
