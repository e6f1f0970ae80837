"""A translation model's attention between the words of a sentence and those of a given translation."""

import contextlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from hf_lineage.data.cjk import lacks_blanks
from hf_lineage.tokenization import is_word_level


class NoAttentionError(ValueError):
    """The model has no attention between target and source, like the encoder-decoders before RNNsearch."""


@dataclass(frozen=True)
class Alignment:
    """Words of both sentences, and the attention of each target word to each source word, [T, S]."""

    source: list[str]
    target: list[str]
    weights: np.ndarray

    def links(self) -> str:
        """The source word that each target word attends to most, in the Pharaoh format: `0-0 2-1`."""
        if not self.source:
            return ""
        return " ".join(f"{i}-{j}" for j, i in enumerate(self.weights.argmax(1)))


@contextlib.contextmanager
def eager_attention(model: PreTrainedModel):
    """Uses eager attention, the only implementation that returns its weights, within the block."""
    implementation = model.config._attn_implementation
    if implementation != "eager":
        model.set_attn_implementation("eager")
    try:
        yield
    finally:
        if implementation != "eager":
            model.set_attn_implementation(implementation)


@torch.no_grad()
def align(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    sources: Sequence[str],
    targets: Sequence[str],
    *,
    layer: int | None = None,
    by_token: bool = False,
    batch_size: int = 32,
) -> list[Alignment]:
    """Attention of an encoder-decoder from each word of the given `targets` to the words of `sources`.

    Words stand between blanks. Weights are summed over the pieces of a source word and averaged over those of a target
    word; the weight of the end mark belongs to no word. `by_token` keeps single tokens, for languages without blanks.
    The result is the mean over the heads of `layer`. The default is the last layer, or with six layers or more the one
    before it, where a Transformer's attention is most like an alignment (Garg et al., 2019, section 4.1).

    Raises:
        NoAttentionError: the model has no attention between target and source.
    """
    was_training, alignments = model.training, []
    model.eval()
    with eager_attention(model):
        for start in range(0, len(sources), batch_size):
            batch = sources[start : start + batch_size], targets[start : start + batch_size]
            read, written = (
                tokenizer(
                    list(texts),
                    padding=True,
                    padding_side="right",
                    return_tensors="pt",
                    return_offsets_mapping=True,
                    return_special_tokens_mask=True,
                )
                for texts in batch
            )
            labels = written.input_ids.masked_fill(written.attention_mask == 0, -100).to(model.device)
            outputs = model(
                read.input_ids.to(model.device),
                attention_mask=read.attention_mask.to(model.device),
                labels=labels,
                output_attentions=True,
            )
            weights = cross_attention(outputs, layer).float().cpu()  # [B, T, S]
            for row, texts in enumerate(zip(*batch, strict=True)):
                (source_words, source), (target_words, target) = (
                    _tokens(tokenizer, side, row) if by_token else _words(text, side, row)
                    for text, side in zip(texts, (read, written), strict=True)
                )
                per_word = target @ weights[row] @ source.T / target.sum(1, keepdim=True).clamp(min=1)
                alignments.append(Alignment(source_words, target_words, per_word.numpy()))
    model.train(was_training)
    return alignments


def has_words_without_blanks(tokenizer: PreTrainedTokenizerFast, *texts: str) -> bool:
    """Whether only single tokens can be aligned: a text lacks blanks between its words, and tokens are parts of words.

    A Chinese text has none, or stretches longer than a word.
    """
    return not is_word_level(tokenizer) and any(map(lacks_blanks, texts))


def cross_attention(outputs, layer: int | None = None) -> Tensor:
    """Weights [B, T, S] of one layer, by default the most alignment-like (`align`), the mean over its heads.

    Raises:
        NoAttentionError: the outputs hold no attention between target and source.
    """
    layers = outputs.get("cross_attentions")
    if layers is None or len(layers) == 0:
        raise NoAttentionError("the model gives no cross_attentions: it has no attention between target and source")
    if isinstance(layers, Tensor):
        layers = [layers]
    if layer is None:
        layer = -2 if len(layers) >= 6 else -1
    weights = layers[layer]
    return weights.mean(1) if weights.dim() == 4 else weights


def _words(text: str, encoding, row: int) -> tuple[list[str], Tensor]:
    """The W words of a text, and 1 where a token [column] is part of a word [row], float [W, T]."""
    words = list(re.finditer(r"\S+", text))
    ends = [word.end() for word in words]
    offsets, special = encoding.offset_mapping[row], encoding.special_tokens_mask[row]
    membership = torch.zeros(len(ends), len(offsets))
    for token, ((start, end), is_special) in enumerate(zip(offsets.tolist(), special.tolist(), strict=True)):
        if not is_special and end > start:
            membership[int(np.searchsorted(ends, start, side="right")), token] = 1
    return [word.group() for word in words], membership


def _tokens(tokenizer, encoding, row: int) -> tuple[list[str], Tensor]:
    """The W tokens of a text that are not special, and 1 at each one's place, float [W, T]."""
    kept = (encoding.special_tokens_mask[row] == 0).nonzero()[:, 0]
    names = tokenizer.convert_ids_to_tokens(encoding.input_ids[row, kept].tolist())
    return names, torch.eye(encoding.input_ids.shape[1])[kept]
