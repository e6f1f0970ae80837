"""Luong's attentional encoder-decoder (Luong et al., 2015): the state after each step asks where to look.

What changes from RNNsearch: the new state asks, by scores as simple as a dot product; state and context are joined.
input_ids [B, S] -> [B, S, C]; decoder_input_ids [B, T] -> [B, T, D] -> weights [B, T, S] -> answers [B, T, D]
"""

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers import EncoderDecoderCache, GenerationMixin

from .attentional_decoder import (
    AdditiveAlignment,
    Alignment,
    AttentionalDecoder,
    AttentionalModel,
    AttentionalPreTrainedModel,
    CoverageAlignment,
    CoverageLoss,
    Source,
    StepLayer,
    after_word,
    carried_beside,
    covering,
)
from .configuration_luong import LuongConfig
from .encoder_decoder import ConditionalGeneration
from .fast_feeding import step_fed, words_product, worth_it
from .fast_loops import check_onnx, loop
from .inputs import is_recorded
from .positions import token_positions
from .recurrent_cells import one_step, step_on
from .recurrent_seq2seq import DecoderOutput, RecurrentEncoderOutput, SequenceLayer, keep_state, state_before
from .recurrent_state import Padding, reorder_time


class LuongAlignment(Alignment):
    """Any score within a window of the source (section 3.2)."""

    def __init__(self, config: LuongConfig):
        super().__init__(config)
        self.window, self.window_size = WINDOWS[config.attention_window], config.window_size
        if config.attention_window == "local-p":
            self.weight_position = nn.Parameter(torch.empty(config.hidden_size, config.hidden_size))
            self.energy_position = nn.Parameter(torch.empty(config.hidden_size))

    def align(self, query, source, positions=None):
        return self.window(self, query, source, positions)

    def read(self, vectors, mask, cache):
        batch, length, _ = vectors.shape
        positions = token_positions(mask, 0, length, vectors.device).expand(batch, -1)
        lengths = positions.new_full((batch,), length) if mask is None else mask.long().sum(1)
        return replace(super().read(vectors, mask, cache), positions=positions, lengths=lengths)


class DotAlignment(LuongAlignment):  # section 3.1
    """score(s, h) = s · h"""

    def scores(self, query, source):
        return query @ source.keys.transpose(1, 2)  # [B, T, S]


class GeneralAlignment(DotAlignment):
    """score(s, h) = s · W h"""

    def __init__(self, config: LuongConfig):
        super().__init__(config)
        self.weight_key = nn.Parameter(torch.empty(config.hidden_size, config.source_size))

    def keys(self, vectors):
        return linear(vectors, self.weight_key)


class ConcatAlignment(LuongAlignment, AdditiveAlignment):
    """score(s, h) = v · tanh(W [s; h]): Bahdanau's score, where the two parts of W are his W and U"""


class ConcatCoverageAlignment(LuongAlignment, CoverageAlignment):
    """score(s, h) = v · tanh(W [s; h] + w n), n as in `CoverageAlignment`"""


class LocationAlignment(LuongAlignment):
    """score(s) = (W s)_j for any word at position j"""

    def __init__(self, config: LuongConfig):
        super().__init__(config)
        self.weight_query = nn.Parameter(torch.empty(config.max_source_length, config.hidden_size))

    def scores(self, query, source):
        scores = linear(query, self.weight_query)  # [B, T, longest source]
        positions = source.positions.clamp(max=scores.shape[2] - 1)
        return scores.gather(2, positions[:, None].expand(*scores.shape[:2], -1))  # [B, T, S]

    def read(self, vectors, mask, cache):
        source, limit = super().read(vectors, mask, cache), self.weight_query.shape[0]
        # if lengths are recorded and not seen, padding counts
        if vectors.shape[1] > limit and (is_recorded(vectors) or source.lengths.max() > limit):
            longest = vectors.shape[1] if is_recorded(vectors) else source.lengths.max().item()
            raise ValueError(
                f'attention="location" has weights for {limit} source words (max_source_length), not for '
                f"{longest}: shorten the source, or tokenize with truncation=True"
            )
        return source


def monotonic_window(alignment, query, source, positions):
    """The words within ± D of p_t = t."""
    distance = source.positions[:, None] - positions[..., None]  # [B, T, S]
    return weights_within(alignment, query, source, distance)


def predictive_window(alignment, query, source, positions):
    """The words within ± D of p_t = S · σ(v · tanh(W s_t)), times exp(−(j − p_t)² / 2σ²) with σ = D / 2."""
    moved = torch.tanh(linear(query, alignment.weight_position)) @ alignment.energy_position  # [B, T]
    centre = source.lengths[:, None] * torch.sigmoid(moved)
    distance = source.positions[:, None] - centre[..., None]  # [B, T, S]
    gaussian = torch.exp(-2 * (distance / alignment.window_size) ** 2)
    return weights_within(alignment, query, source, distance) * gaussian


def weights_within(alignment, query, source, distance):
    """Weights [B, T, S] of the words whose distance [B, T, S] is at most D."""
    outside = distance.abs() > alignment.window_size
    return alignment.weights(query, source, outside if source.padding is None else outside | source.padding)


WINDOWS = {"global": Alignment.align, "local-m": monotonic_window, "local-p": predictive_window}
SCORES = {
    "dot": DotAlignment,
    "general": GeneralAlignment,
    "concat": ConcatAlignment,
    "location": LocationAlignment,
}


class LuongDecoder(AttentionalDecoder):
    """The state after each step asks where to look, and is joined with the context (Luong et al., 2015, section 3).

    With input feeding (section 3.3) the first layer reads the word and the last answer.
    """

    def __init__(self, config: LuongConfig):
        alignment = ConcatCoverageAlignment if config.coverage else SCORES[config.attention]
        by_steps = config.input_feeding or config.coverage
        super().__init__(
            config,
            alignment(config),
            fed_size=config.hidden_size if config.input_feeding else 0,
            new_layer=StepLayer if by_steps else SequenceLayer,
        )
        self.by_steps = by_steps
        self.from_context = nn.Linear(config.source_size, config.hidden_size, bias=False)
        self.from_state = nn.Linear(config.hidden_size, config.hidden_size, bias=config.answer_bias)

    def step(self, word: Tensor, answer: Tensor, states: list[tuple[Tensor, ...]], source: Source, position: Tensor):
        """h_t = f(h_{t−1}, [e(y_{t−1}); h̃_{t−1}]), α_t = align(h_t, h̄), c_t = Σ α_t h̄, h̃_t = tanh(W_c [c_t; h_t])

        e(y_{t−1}) [B, E], h̃_{t−1} [B, D] and the states of all layers -> h̃_t, the states after it and α_t [B, 1, S].
        """
        x = torch.cat([word, answer], dim=1) if self.config.input_feeding else word
        states = self.run_layers(self.layers[0].cell(x, states[0], run=one_step), states)
        top = states[-1][0]
        weights = self.alignment(top[:, None], source, position)
        context = (weights @ source.vectors)[:, 0]
        return self.answer(self.from_context(context), top), states, weights

    def step_on_products(self, of_fed, word, answer, states, source, position):
        """`step` from products computed once: W e(y_{t−1}) + b [B, G·D], and W_c h̄ of the source."""
        if self.config.input_feeding:
            first = self.layers[0].cell((word, answer, of_fed), states[0], run=step_fed)
        else:
            first = self.layers[0].cell(word, states[0], run=step_on)
        states = self.run_layers(first, states)
        top = states[-1][0]
        weights = self.alignment(top[:, None], source, position)
        return self.answer((weights @ source.products)[:, 0], top), states, weights

    def answer(self, of_context: Tensor, top: Tensor) -> Tensor:
        """h̃ = tanh(W_c [c; h]) from the context's product [..., D] and the top state h [..., D]"""
        answer = of_context + self.from_state(top)
        return torch.tanh(answer) if self.config.answer_act == "tanh" else answer

    def run_layers(self, first: tuple[Tensor, ...], states: list[tuple[Tensor, ...]]) -> list[tuple[Tensor, ...]]:
        """The first layer's new state and all old states -> all new states."""
        new = [first]
        for layer, state in zip(self.layers[1:], states[1:], strict=True):
            new.append(layer.cell(self.dropout(new[-1][0]), state, run=one_step))
        return new

    def forward(
        self,
        vectors: Tensor,
        source: RecurrentEncoderOutput,
        source_mask: Tensor | None = None,
        attention_mask: Tensor | None = None,
        cache: EncoderDecoderCache | None = None,
    ) -> DecoderOutput:
        """Token vectors [B, T, E], masks [B, S] and [B, seen + T] -> [B, T, D]"""
        length = vectors.shape[1]
        first, source, is_word = self.read(source, source_mask, attention_mask, cache, length)
        seen = 0 if cache is None else cache.get_seq_length()
        positions = token_positions(attention_mask, seen, length, vectors.device).expand(vectors.shape[0], -1)
        run = self.run_steps if self.by_steps else self.run_at_once
        outputs, last, weights = run(vectors, source, first, positions, is_word, cache)
        last = self.dropout(last)
        return DecoderOutput(last, (vectors, *outputs, last), weights)

    def run_at_once(self, vectors, source, first, positions, is_word, cache):
        """Runs every layer over the whole target, then the attention of all steps: no layer reads an answer."""
        length, x, outputs = vectors.shape[1], vectors, ()
        padding = Padding.of(is_word, length)
        if padding is not None:
            x = reorder_time(x, padding.order)
        for i, layer in enumerate(self.layers):
            x, state = layer(self.dropout(x), state_before(cache, i, first), padding)
            if cache is not None:
                keep_state(cache, i, state, length)
            outputs += (x if padding is None else reorder_time(x, padding.inverse),)
        top = outputs[-1]
        weights = self.recomputed(self.alignment)(top, source, positions)  # [B, T, S]
        return outputs, self.answer(self.from_context(weights @ source.vectors), top), weights

    def run_steps(self, vectors, source, first, positions, is_word, cache):
        """Runs step by step, since each step reads the answer or the coverage of the step before."""
        length, size = vectors.shape[1], self.config.hidden_size
        words, step = self.dropout(vectors), self.step
        if worth_it(length):
            words, of_fed = self.layers[0].cell(words, run=words_product)
            source.products, step = self.from_context(source.vectors), partial(self.step_on_products, of_fed)
        step, states = self.recomputed(step), tuple(state_before(cache, i, first) for i in range(len(self.layers)))

        check_onnx()

        def read_word(before, now):
            (answer, states, covered), (word, position, *is_word) = before, now
            new = step(word, answer, states, covering(source, covered), position[:, None])
            (answer,) = after_word(is_word, new[:1], (answer,))
            states = tuple(after_word(is_word, *both) for both in zip(new[1], states, strict=True))
            seen = new[2][:, 0]
            covered = after_word(is_word, tuple(c + seen for c in covered), covered)
            return (answer, states, covered), (*(state[0] for state in states), answer, seen)

        covered = (source.vectors.shape[1],) if self.config.coverage else ()
        answer, *covered = carried_beside(cache, states[0][0], size, *covered)
        inputs = (words, positions) if is_word is None else (words, positions, is_word)
        (answer, states, covered), steps = loop(read_word, (answer, states, tuple(covered)), inputs)
        if cache is not None:
            beside = torch.cat([answer, *covered], dim=1)
            for i, state in enumerate(states):
                keep_state(cache, i, state, length, None if i else beside)
        *outputs, last, weights = steps
        return outputs, last, weights


class LuongPreTrainedModel(AttentionalPreTrainedModel):
    """What both parts share: their configuration."""

    config_class = LuongConfig


class LuongModel(LuongPreTrainedModel, AttentionalModel):
    """Turns target tokens into vectors that see their left context and, through the attention, the whole source."""

    def new_decoder(self, config):
        return LuongDecoder(config)


class LuongForConditionalGeneration(CoverageLoss, ConditionalGeneration, LuongPreTrainedModel, GenerationMixin):
    """Luong's model with an output layer that turns each vector into a distribution over the next target token."""

    _tied_weights_keys = {"lm_head.weight": "model.decoder.embed_tokens.weight"}

    def __init__(self, config: LuongConfig):
        super().__init__(config)
        self.model = LuongModel(config)
        self.lm_head = nn.Linear(config.output_size, config.decoder_vocab_size, bias=config.output_bias)
        self.post_init()
