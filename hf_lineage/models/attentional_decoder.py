"""What recurrent decoders with attention share: the source as they read it, scores, coverage, steps.

source [B, S, C], queries [B, T, D] -> weights over the source's words [B, T, S]
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers import EncoderDecoderCache
from transformers import initialization as init

from .inputs import IGNORED, can_look
from .losses import mean_of
from .recurrent_layers import RecurrentCell
from .recurrent_seq2seq import (
    Bridge,
    RecurrentEncoderOutput,
    RecurrentSeq2SeqPreTrainedModel,
    new_cell,
)


@dataclass
class Source:
    """The source as the attention reads it."""

    vectors: Tensor  # [B, S, C]
    keys: Tensor  # what scores need from the vectors [B, S, A]
    padding: Tensor | None  # [B, 1, S], True over padding
    positions: Tensor | None = None  # for windows: [B or 1, S], counting words only
    lengths: Tensor | None = None  # and the number of words [B or 1]
    covered: Tensor | None = None  # for coverage: the weights that each word got so far [B, S]
    products: Tensor | None = None  # W h of the vectors [B, S, M], where a fast path makes them first


class Alignment(nn.Module):
    """α_t(s) = exp(score(q_t, h_s)) / Σ_s' exp(score(q_t, h_s')), over the source's words; subclasses define score.

    All work goes through calls, since offloaded and sharded weights are loaded only during a call.
    """

    def __init__(self, config):
        super().__init__()

    def keys(self, vectors: Tensor) -> Tensor:
        """What scores need from the source [B, S, C], once for all queries."""
        return vectors

    def scores(self, query: Tensor, source: Source) -> Tensor:
        """query [B, T, D] -> [B, T, S]"""
        raise NotImplementedError

    def align(self, query: Tensor, source: Source, positions: Tensor | None = None) -> Tensor:
        """query [B, T, D] at target positions [B or 1, T] -> weights [B, T, S]"""
        return masked_softmax(self.scores(query, source), source.padding)

    def forward(self, x: Tensor, source: Source | None = None, positions: Tensor | None = None, run=None) -> Tensor:
        """`keys` of source vectors x [B, S, C]; with the source `align` of queries x [B, T, D]; or `run` of all."""
        if run is not None:
            return run(self, x, source)
        return self.keys(x) if source is None else self.align(x, source, positions)

    def read(self, vectors: Tensor, mask: Tensor | None, cache: EncoderDecoderCache | None) -> Source:
        """The `Source`, the same for all target words: vectors [B, S, C], mask [B, S] (0 = padding)."""
        if cache is not None and cache.is_updated.get(0):
            keys = cache.cross_attention_cache.layers[0].keys
        else:
            keys = self(vectors)
            if cache is not None and keys is not vectors:
                cache.cross_attention_cache.layers[0].update(keys, keys.new_zeros(keys.shape[0], 0), keys.shape[1])
                cache.is_updated[0] = True
        is_word = seen_to_pad(mask)
        return Source(vectors, keys, None if is_word is None else ~is_word[:, None])


def masked_softmax(scores: Tensor, hidden: Tensor | None) -> Tensor:
    """scores [B, T, S] -> weights [B, T, S], zero where `hidden` [B, 1 or T, S] is True."""
    if hidden is None:
        return torch.softmax(scores, dim=2)
    weights = torch.softmax(scores.masked_fill(hidden, torch.finfo(scores.dtype).min), dim=2)
    # if everything is hidden, softmax would weight all words equally
    return weights.masked_fill(hidden, 0)


class AdditiveAlignment(Alignment):  # Bahdanau et al., 2015, A.1.2
    """score(s, h) = v · tanh(W s + U h), or v · tanh(W s + U h + b)"""

    def __init__(self, config):
        super().__init__(config)
        self.weight_query = nn.Parameter(torch.empty(config.attention_size, config.hidden_size))
        self.weight_key = nn.Parameter(torch.empty(config.attention_size, config.source_size))
        self.energy = nn.Parameter(torch.empty(config.attention_size))
        self.bias = nn.Parameter(torch.empty(config.attention_size)) if config.attention_bias else None

    def keys(self, vectors):
        return linear(vectors, self.weight_key, self.bias)

    # --8<-- [start:additive]
    def scores(self, query, source):
        query = linear(query, self.weight_query)  # [B, T, A]
        return torch.tanh(query[:, :, None] + source.keys[:, None]) @ self.energy  # [B, T, S]

    # --8<-- [end:additive]


class CoverageAlignment(AdditiveAlignment):  # See et al., 2017, equation 11
    """score(s, h) = v · tanh(W s + U h + w n), where n is the weight that h got so far; for single steps"""

    def __init__(self, config):
        super().__init__(config)
        self.weight_coverage = nn.Parameter(torch.empty(config.attention_size))

    def scores(self, query, source):
        keys = source.keys + source.covered[..., None] * self.weight_coverage
        return super().scores(query, replace(source, keys=keys))


def coverage_loss(
    weights: Tensor, labels: Tensor, num_items_in_batch=None, attention_mask: Tensor | None = None
) -> Tensor:
    """Σ_s min(a_t(s), Σ_{t' < t} a_t'(s)), a mean over the scored labels [B, T]; weights [B, T, S].

    Steps with `attention_mask` [B, T] 0 do not count. (See et al., 2017, equation 12)
    """
    if attention_mask is not None:
        weights = weights * attention_mask[..., None].to(weights.dtype)
    covered = weights.cumsum(1) - weights
    again = torch.minimum(weights, covered).sum(2) * labels.ne(IGNORED)  # [B, T]
    return mean_of(again.sum(), labels.ne(IGNORED).sum(), num_items_in_batch)


class CoverageLoss:
    """A head that adds the coverage loss, weighted by the configuration, in training; inherit it first."""

    extra_weights = ("coverage_loss_weight",)

    def extra_loss(
        self, outputs, labels, num_items_in_batch, decoder_attention_mask, output_attentions=None, **options
    ):
        if not self.training or self.config.coverage_loss_weight == 0:
            return 0.0
        loss = coverage_loss(outputs.cross_attentions[0], labels, num_items_in_batch, decoder_attention_mask)
        if not (self.config.output_attentions if output_attentions is None else output_attentions):
            outputs.cross_attentions = None
        return self.config.coverage_loss_weight * loss


class StepLayer(nn.Module):
    """Holds a cell that is called word by word. Under gradient checkpointing its decoder recomputes whole steps."""

    def __init__(self, cell: RecurrentCell):
        super().__init__()
        self.cell = cell


class AttentionalDecoder(nn.Module):
    """What Bahdanau's and Luong's decoders share: token vectors, first states, the alignment and the layers.

    The first layer reads the word and `fed_size` more numbers. Under gradient checkpointing each time step keeps only
    its state, not the energies [B, S, A] of its scores.
    """

    gradient_checkpointing = False

    def __init__(self, config, alignment: Alignment, fed_size: int, new_layer=StepLayer):
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.decoder_vocab_size, config.embedding_size)
        self.dropout = nn.Dropout(config.dropout)
        self.bridge = Bridge(config)
        self.alignment = alignment
        sizes = [config.embedding_size + fed_size] + [config.hidden_size] * (config.decoder_layers - 1)
        self.layers = nn.ModuleList(new_layer(new_cell(config, size, config.hidden_size)) for size in sizes)

    def read(self, source: RecurrentEncoderOutput, source_mask, attention_mask, cache, length: int):
        """The source as the alignment reads it, and which of the `length` target places are words [B, T].

        Masks [B, S] and [B, seen + T] are 0 over padding; None means words everywhere.
        """
        is_word = None if attention_mask is None else attention_mask[:, attention_mask.shape[1] - length :]
        return self.alignment.read(source.last_hidden_state, source_mask, cache), seen_to_pad(is_word)

    def recomputed(self, step):
        """`step`; under gradient checkpointing it keeps only its inputs and runs again for the gradient."""
        if self.gradient_checkpointing and self.training and torch.is_grad_enabled():
            return lambda *inputs: self._gradient_checkpointing_func(step, *inputs)
        return step


def check_onnx():
    """For loops of decoders, which read the source, a tensor made outside them.

    Raises:
        ValueError: an export to ONNX keeps gradients, with which torch's conversion fails on such a loop.
    """
    if torch.onnx.is_in_onnx_export() and torch.is_grad_enabled():
        raise ValueError("gradients are kept: call torch.onnx.export within torch.no_grad()")


def covering(source: Source, covered: tuple[Tensor, ...]) -> Source:
    """The source before a step; with coverage, `covered` are the weights [B, S] that its words got so far."""
    return replace(source, covered=covered[0]) if covered else source


def carried_beside(cache: EncoderDecoderCache | None, h: Tensor, *sizes: int) -> tuple[Tensor, ...]:
    """What the last call stored after the first layer's h [B, D], as [B, size] each; zeros before the first word."""
    layer = cache.self_attention_cache.layers[0] if cache is not None else None
    if layer is None or not layer.is_initialized:
        return tuple(h.new_zeros(h.shape[0], size) for size in sizes)
    return layer.keys[:, h.shape[1] :].split(sizes, dim=1)


def seen_to_pad(mask: Tensor | None) -> Tensor | None:
    """The mask (0 = padding) as bool; None if `can_look` allows looking and nothing is padded."""
    if mask is None or (can_look(mask) and mask.all()):
        return None
    return mask.bool()


class AttentionalPreTrainedModel(RecurrentSeq2SeqPreTrainedModel):
    """What Bahdanau's and Luong's models share: the alignment's initial weights."""

    def _init_weights(self, module):
        if not isinstance(module, Alignment):
            super()._init_weights(module)
            return
        bound = self.config.initializer_range
        for name, parameter in module.named_parameters(recurse=False):
            if self.config.initialization == "uniform":
                init.uniform_(parameter, -bound, bound)
            elif name.startswith(("energy", "bias")):
                init.zeros_(parameter)
            else:
                # Bahdanau et al., appendix B.1: a tenth of the others' standard deviation
                init.normal_(parameter, std=bound / 10)
