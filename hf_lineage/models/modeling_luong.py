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
    AttentionalPreTrainedModel,
    CoverageAlignment,
    CoverageLoss,
    Source,
    StepLayer,
    carried_beside,
    check_onnx,
    covering,
    masked_softmax,
)
from .configuration_luong import LuongConfig
from .encoder_decoder import ConditionalGeneration
from .fast_feeding import step_fed, words_product
from .inputs import fast_paths_allowed, is_recorded
from .recurrent_layers import RecurrentLayer, loop, one_step, step_on
from .recurrent_seq2seq import (
    DecoderOutput,
    RecurrentEncoderOutput,
    RecurrentSeq2SeqModel,
    run_layers,
    states_before,
)
from .recurrent_state import keep_states


class LuongAlignment(Alignment):
    """Any score within a window of the source (section 3.2)."""

    def __init__(self, config: LuongConfig):
        super().__init__(config)
        self.window, self.window_size = WINDOWS[config.attention_window], config.window_size
        if config.attention_window == "local-p":
            self.weight_position = nn.Parameter(torch.empty(config.hidden_size, config.hidden_size))
            self.energy_position = nn.Parameter(torch.empty(config.hidden_size))

    def forward(self, x, source=None, positions=None):
        return self.keys(x) if source is None else self.window(self, x, source, positions)

    def read(self, vectors, mask, cache):
        batch, length, _ = vectors.shape
        positions = word_positions(mask, 0, length, vectors.device).expand(batch, -1)
        lengths = positions.new_full((batch,), length) if mask is None else mask.long().sum(1)
        return replace(super().read(vectors, mask, cache), positions=positions, lengths=lengths)


class DotAlignment(LuongAlignment):  # section 3.1
    """score(s, h) = s · h"""

    # --8<-- [start:dot]
    def scores(self, query, source):
        return query @ source.keys.transpose(1, 2)  # [B, T, S]

    # --8<-- [end:dot]


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
        positions = source.positions.clamp(0, scores.shape[2] - 1)
        return scores.gather(2, positions[:, None].expand(*scores.shape[:2], -1))  # [B, T, S]

    def read(self, vectors, mask, cache):
        source, limit = super().read(vectors, mask, cache), self.weight_query.shape[0]
        # if lengths are recorded and not seen, padding counts
        if vectors.shape[1] > limit and (is_recorded(vectors) or source.lengths.max() > limit):
            longest = vectors.shape[1] if is_recorded(vectors) else source.lengths.max().item()
            raise ValueError(
                f'attention="location" has weights for {limit} source words (max_source_length), not for '
                f"{longest}: shorten the source, or tokenize with truncation=True, max_length={limit}"
            )
        return source


def word_positions(mask: Tensor | None, seen: int, length: int, device) -> Tensor:
    """Position of each new word in its text [B or 1, T], by the words of a mask [B, seen + T] before it."""
    if mask is None:
        return torch.arange(seen, seen + length, device=device)[None]
    return mask.long().cumsum(1)[:, seen:] - 1


def global_window(alignment, query, source, positions):
    """All words."""
    return masked_softmax(alignment.scores(query, source), source.padding)


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
    hidden = outside if source.padding is None else outside | source.padding
    return masked_softmax(alignment.scores(query, source), hidden)


WINDOWS = {"global": global_window, "local-m": monotonic_window, "local-p": predictive_window}
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
            new_layer=StepLayer if by_steps else RecurrentLayer,
        )
        self.by_steps = by_steps
        self.from_context = nn.Linear(config.source_size, config.hidden_size, bias=False)
        self.from_state = nn.Linear(config.hidden_size, config.hidden_size, bias=config.answer_bias)

    def step(self, word: Tensor, answer: Tensor, states: list[tuple[Tensor, ...]], source: Source, position: Tensor):
        """h_t = f(h_{t−1}, [e(y_{t−1}); h̃_{t−1}]), α_t = align(h_t, h̄), c_t = Σ α_t h̄, h̃_t = tanh(W_c [c_t; h_t])

        e(y_{t−1}) [B, E], h̃_{t−1} [B, D] and the states of all layers -> h̃_t, the states after it and α_t [B, 1, S].
        """
        # --8<-- [start:idea]
        x = torch.cat([word, answer], dim=1) if self.config.input_feeding else word
        states = self.run_layers(self.layers[0].cell(x, states[0], run=one_step), states)
        top = states[-1][0]
        weights = self.alignment(top[:, None], source, position)
        context = (weights @ source.vectors)[:, 0]
        return self.answer(self.from_context(context), top), states, weights
        # --8<-- [end:idea]

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
        first = states_before(self.bridge, source.final_states, cache)
        source, is_word = self.read(source, source_mask, attention_mask, cache, length)
        seen = 0 if cache is None else cache.get_seq_length()
        positions = word_positions(attention_mask, seen, length, vectors.device).expand(vectors.shape[0], -1)
        run = self.run_steps if self.by_steps else self.run_at_once
        outputs, last, weights = run(vectors, source, first, positions, is_word, cache)
        last = self.dropout(last)
        return DecoderOutput(last, (vectors, *outputs, last), weights)

    def run_at_once(self, vectors, source, first, positions, is_word, cache):
        """Runs every layer over the whole target, then the attention of all steps: no layer reads an answer."""
        outputs = run_layers(self, vectors, first, is_word, cache)
        top = outputs[-1]
        weights = self.recomputed(self.alignment)(top, source, positions)  # [B, T, S]
        return outputs, self.answer(self.from_context(weights @ source.vectors), top), weights

    def run_steps(self, vectors, source, first, positions, is_word, cache):
        """Runs step by step, since each step reads the answer or the coverage of the step before."""
        length, size = vectors.shape[1], self.config.hidden_size
        words, step = self.dropout(vectors), self.step
        if length > 1 and fast_paths_allowed():
            words, of_fed = self.layers[0].cell(words, run=words_product)
            source.products, step = self.from_context(source.vectors), partial(self.step_on_products, of_fed)
        step, states = self.recomputed(step), tuple(first)

        check_onnx()

        def read_word(carried, now):
            (answer, states, covered), (word, position, *is_word) = carried, now
            source_now = covering(source, covered) if covered else source
            answer, states, weights = step(word, answer, states, source_now, position[:, None])
            seen = weights[:, 0]
            new = (answer, tuple(states), tuple(c + seen for c in covered))
            for here in is_word:
                new = where_word(here[:, None], new, carried)
            return new, (*(state[0] for state in new[1]), new[0], seen)

        covered = (source.vectors.shape[1],) if self.config.coverage else ()
        answer, *covered = carried_beside(cache, states[0][0], size, *covered)
        inputs = (words, positions) if is_word is None else (words, positions, is_word)
        (answer, states, covered), steps = loop(read_word, (answer, states, tuple(covered)), inputs)
        if cache is not None:
            (h, *c), *others = states
            first = (torch.cat([h, answer, *covered], dim=1), *c)
            keep_states(cache.self_attention_cache, [first, *others], length)
        *outputs, last, weights = steps
        return outputs, last, weights


def where_word(is_word: Tensor, new, old):
    """What a step carries on, tuples of tensors [B, D]: rows without a word keep the old ones; is_word [B, 1]."""
    if isinstance(new, Tensor):
        return torch.where(is_word, new, old)
    return tuple(where_word(is_word, *pair) for pair in zip(new, old, strict=True))


class LuongPreTrainedModel(AttentionalPreTrainedModel):
    """What both parts share: their configuration."""

    config_class = LuongConfig


class LuongModel(LuongPreTrainedModel, RecurrentSeq2SeqModel):
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
