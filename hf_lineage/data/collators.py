"""Batches without padding."""

import torch


class PackingCollator:
    """Joins texts into one row without padding, for models that take `cu_seq_lens_q` and let none see another.

    Examples of {"input_ids": [T], ...} give {"input_ids": [1, total], ..., "cu_seq_lens_q": int32 [texts + 1]}: what
    has an entry for each token is joined, "attention_mask" left out, and everything else stacked [texts, ...];
    "label" becomes "labels", as in transformers' collators.

    Raises ValueError for an example without tokens.
    """

    def __call__(self, examples: list[dict]) -> dict[str, torch.Tensor]:
        lengths = [len(example["input_ids"]) for example in examples]
        if 0 in lengths:
            raise ValueError(f"example {lengths.index(0)} of the batch has no tokens: leave such texts out")
        batch = {}
        for name in examples[0]:
            values = [torch.as_tensor(example[name]) for example in examples]
            name = "labels" if name == "label" else name
            if all(value.shape[:1] == (length,) for value, length in zip(values, lengths, strict=True)):
                batch[name] = torch.cat(values)[None]
            else:
                batch[name] = torch.stack(values)
        batch.pop("attention_mask", None)
        bounds = torch.tensor([0, *lengths], dtype=torch.int32)
        return {**batch, "cu_seq_lens_q": bounds.cumsum(0, dtype=torch.int32)}


class TranslationPackingCollator:
    """Joins sentence pairs without padding, sources into one row and targets into another, for the Transformer.

    Examples of {"input_ids": [S], "labels": [T]} give {"input_ids": [1, total], "labels": [1, total], "cu_seq_lens_k"
    and "cu_seq_lens_q": int32 [pairs + 1], where each source and each target begins, and the row's length}.

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
