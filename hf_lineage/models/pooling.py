"""One vector for a text, of the vectors of its tokens."""

import torch
from torch import Tensor


def vectors_at_last_token(vectors: Tensor, attention_mask: Tensor | None) -> Tensor:
    """[B, T, D] -> [B, D]: the vector at each row's last token that is not padding."""
    if vectors.shape[1] == 0:
        return vectors.new_zeros(vectors.shape[0], vectors.shape[2])
    if attention_mask is None:
        return vectors[:, -1]
    rows = torch.arange(vectors.shape[0], device=vectors.device)
    return vectors[rows, vectors.shape[1] - 1 - attention_mask.bool().int().flip(1).argmax(1)]


def largest_and_mean(
    vectors: Tensor, attention_mask: Tensor | None, cu_seq_lens: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """[B, T, D] -> two of [B, D]: the largest and the mean value of each feature; zero without tokens.

    Packed texts [1, T, D] with the bounds `cu_seq_lens` [texts + 1], none of them empty, give [texts, D]. Sums are at
    least in float32: a sum in bfloat16 stops growing, one in float16 overflows.
    """
    dtype, vectors = vectors.dtype, vectors.to(torch.promote_types(vectors.dtype, torch.float32))
    if cu_seq_lens is not None:
        bounds = cu_seq_lens.long()
        largest, mean = (torch.segment_reduce(vectors[0], kind, offsets=bounds) for kind in ("max", "mean"))
        return largest.to(dtype), mean.to(dtype)
    if vectors.shape[1] == 0:
        nothing = vectors.new_zeros(vectors.shape[0], vectors.shape[2], dtype=dtype)
        return nothing, nothing
    if attention_mask is None:
        return vectors.amax(1).to(dtype), vectors.mean(1).to(dtype)
    mask = attention_mask.bool()[..., None]
    largest = vectors.masked_fill(~mask, torch.finfo(vectors.dtype).min).amax(1) * mask.any(1)
    mean = (vectors * mask).sum(1) / mask.sum(1).clamp(min=1)
    return largest.to(dtype), mean.to(dtype)


def pooled(
    config, whole: Tensor | None, vectors: Tensor, attention_mask: Tensor | None, cu_seq_lens: Tensor | None = None
) -> Tensor:
    """The vector of each text that a classifier reads, by `config.classifier_pooling`.

    `whole` [B, D] is the one of the station's paper. "mean" takes the mean of `vectors` [B, T, D] in its place, and
    "concat" both of them and the largest values [B, 3·D] (concat pooling; Howard and Ruder, 2018, section 3.3).
    """
    if config.classifier_pooling not in ("mean", "concat"):
        return whole
    largest, mean = largest_and_mean(vectors, attention_mask, cu_seq_lens)
    return mean if config.classifier_pooling == "mean" else torch.cat([whole, largest, mean], dim=1)


def pooled_size(config, size: int) -> int:
    """Length of a vector of `pooled`, of vectors of `size`."""
    return 3 * size if config.classifier_pooling == "concat" else size
