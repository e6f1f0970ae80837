"""Vectors of many texts at once: packed into rows without padding, or as averages of word vectors."""

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
    sif: float | None = None,
    word_counts: Tensor | Sequence[int] | None = None,
    remove_first_component: bool | Tensor = False,
) -> Tensor | list[Tensor]:
    """One vector per text, [texts, D], in the order of the texts; with `pooling=None` one per token, a list of [T, D].

    The result is that of transformers' feature-extraction pipeline, but faster: texts of similar length are packed
    into rows of about `tokens_per_row` tokens without padding, and do not see each other. `pooling` is "mean" (over
    all tokens), "first" (the vector of [CLS]) or "pooler" (the model's own). A text longer than the tokenizer's
    model_max_length is cut. The model must read packed texts: `BERTModel`.

    Of word2vec, a text's vector is the mean of the vectors of its words; special tokens, unknown words among them, do
    not count, and a text without a word is zero. Only word2vec has these options (Arora et al., 2017, algorithm 1):

    - `sif`: a, such as 1e-3; a word of probability p weighs a / (a + p). The probabilities are those of `word_counts`
      [V], by default those of `Word2VecForPreTraining`;
    - `remove_first_component`: takes from each vector its part along a direction [D]: True, the first singular vector
      of these very texts; or one that `first_component` gave for other texts, such as those of training. In the paper
      it is that of the whole corpus: new texts need the same one.

    Raises:
        ValueError: the model cannot read packed texts, an argument is out of its range, only word2vec has it, or there
            are too few texts for a first component of their own.
    """
    if model.config.model_type == "lineage_word2vec":
        return _averages_of_words(texts, model, tokenizer, pooling, sif, word_counts, remove_first_component)
    if sif is not None or word_counts is not None or remove_first_component is not False:
        raise ValueError(
            f"sif, word_counts and remove_first_component are for word2vec, not {model.config.model_type}: leave them "
            "out"
        )
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


@torch.no_grad()
def first_component(
    texts: Sequence[str],
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    sif: float | None = None,
    word_counts: Tensor | Sequence[int] | None = None,
) -> Tensor:
    """What word2vec's vectors of `texts` share, their first singular vector [D], of length 1.

        component = first_component(training_texts, model, tokenizer, sif=1e-3)
        vectors = embed_texts(new_texts, model, tokenizer, sif=1e-3, remove_first_component=component)

    The other arguments are those of `embed_texts` (Arora et al., 2017, algorithm 1).

    Raises:
        ValueError: the model is no word2vec, or fewer than two texts differ in their words.
    """
    if model.config.model_type != "lineage_word2vec":
        raise ValueError(f"first_component is for word2vec, not {model.config.model_type}: give a word2vec model")
    return _component(_averages_of_words(texts, model, tokenizer, "mean", sif, word_counts, False))


def _component(vectors: Tensor) -> Tensor:
    """The first singular vector of the rows [N, D]; taken from a single one, it would leave nothing."""
    # a text without a known word is zero
    number = len(torch.unique(vectors[vectors.any(1)], dim=0))
    if number < 2:
        raise ValueError(
            f"the first component is that of texts with different known words, here {number}; there must be at least "
            "2: take it from many texts by first_component, and give it as remove_first_component"
        )
    precise = vectors.to(torch.promote_types(vectors.dtype, torch.float32))
    return torch.linalg.svd(precise, full_matrices=False).Vh[0].to(vectors.dtype)


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


def _averages_of_words(texts, model, tokenizer, pooling, sif, word_counts, remove_first_component) -> Tensor:
    if pooling != "mean":
        raise ValueError(f"pooling is {pooling!r}; of word2vec, texts have the mean of their word vectors: 'mean'")
    vectors = model.get_input_embeddings().weight
    weights = torch.ones(len(vectors), dtype=vectors.dtype, device=vectors.device)
    if sif is not None:
        weights = _sif_weights(
            sif, getattr(model, "word_counts", None) if word_counts is None else word_counts, weights
        )
    special = set(tokenizer.all_special_ids)
    if not len(texts):
        return vectors.new_empty(0, vectors.shape[1])
    encoded = tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
    words = [[word for word in ids if word not in special] for ids in encoded]
    sizes = torch.tensor([len(ids) for ids in words], device=vectors.device)
    flat = torch.tensor([word for ids in words for word in ids], dtype=torch.long, device=vectors.device)
    sums = torch.nn.functional.embedding_bag(
        flat, vectors, sizes.cumsum(0) - sizes, mode="sum", per_sample_weights=weights[flat]
    )
    found = sums / sizes.clamp(min=1)[:, None]
    if remove_first_component is False:
        return found
    first = _component(found) if remove_first_component is True else remove_first_component.to(found)
    if first.shape != found.shape[1:]:
        raise ValueError(
            f"remove_first_component is of shape {list(first.shape)}; it must be True or of shape "
            f"[{found.shape[1]}], as first_component gives it for this model"
        )
    return found - torch.outer(found @ first, first)


def _sif_weights(sif: float, counts, like: Tensor) -> Tensor:
    """a / (a + p) of each word [V]."""
    if sif <= 0:
        raise ValueError(f"sif is {sif}; it must be above 0, such as 1e-3")
    counts = None if counts is None else torch.as_tensor(counts, dtype=torch.float64, device=like.device)
    if counts is None or counts.shape != like.shape or counts.min() < 0 or counts.sum() == 0:
        found = "missing" if counts is None else f"of shape {list(counts.shape)}"
        raise ValueError(
            f"sif is {sif}, but word_counts are {found}: give how often each of the {len(like)} tokens occurs, or a "
            "Word2VecForPreTraining"
        )
    return (sif / (sif + counts / counts.sum())).to(like.dtype)
