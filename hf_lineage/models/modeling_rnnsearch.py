"""RNNsearch (Bahdanau et al., 2015; Luong et al., 2015): a decoder that looks back at the source for each word.

What changes from Seq2Seq: the source stays a vector a word, mixed anew at each step by weights the decoder learns.
input_ids [B, S] -> [B, S, D]; decoder_input_ids [B, T] -> weights [B, T, S], contexts [B, T, D] -> logits [B, T, V]
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers import EncoderDecoderCache, GenerationMixin
from transformers import initialization as init
from transformers.modeling_outputs import Seq2SeqLMOutput
from transformers.utils.generic import can_return_tuple

from .cache_argument import takes_cache
from .configuration_seq2seq import RNNSearchConfig
from .encoder_decoder import ConditionalGeneration, scored_labels
from .inputs import IGNORED
from .positions import token_positions
from .recurrent_seq2seq import (
    Bridge,
    DecoderOutput,
    MaxoutReadout,
    RecurrentEncoderOutput,
    RecurrentSeq2SeqModel,
    RecurrentSeq2SeqPreTrainedModel,
    SequenceLayer,
    keep_state,
    new_cell,
    state_before,
)
from .recurrent_state import Padding, reorder_time


@dataclass
class Source:
    """A source as the attention reads it: vectors [B, S, D], what scores need of them, and where its words are."""

    vectors: Tensor
    keys: Tensor | None  # [B, S, A]
    padding: Tensor | None  # [B, 1, S], True over padding
    positions: Tensor  # [B or 1, S], counting words only
    lengths: Tensor  # [B or 1]


class Alignment(nn.Module):
    """Weights over the source words, from scores as the configuration's `attention` names them; zero over padding."""

    def __init__(self, config: RNNSearchConfig):
        super().__init__()
        self.config = config
        size, state, source = config.attention_size, config.hidden_size, config.source_size
        self.by_energy = config.attention in ("additive", "concat")
        query = {"additive": size, "concat": size, "location": config.max_source_length}.get(config.attention)
        key = {"additive": size, "concat": size, "general": state}.get(config.attention)
        local = config.attention_window == "local-p"
        self.weight_query = nn.Parameter(torch.empty(query, state)) if query else None
        self.weight_key = nn.Parameter(torch.empty(key, source)) if key else None
        self.energy = nn.Parameter(torch.empty(size)) if self.by_energy else None
        self.weight_coverage = nn.Parameter(torch.empty(size)) if config.coverage else None
        self.weight_position = nn.Parameter(torch.empty(state, state)) if local else None
        self.energy_position = nn.Parameter(torch.empty(state)) if local else None

    def read(self, vectors: Tensor, mask: Tensor | None, cache: EncoderDecoderCache | None) -> Source:
        """What stays the same for all target words: vectors [B, S, D], mask [B, S] (0 = padding).

        Raises:
            ValueError: `attention="location"` has no score for so many words.
        """
        keys = vectors
        if self.weight_key is not None:
            if cache is not None and cache.is_updated.get(0):
                keys = cache.cross_attention_cache.layers[0].keys
            else:
                keys = linear(vectors, self.weight_key)
                if cache is not None:
                    empty = keys.new_zeros(keys.shape[0], 0)
                    cache.cross_attention_cache.layers[0].update(keys, empty, keys.shape[1])
                    cache.is_updated[0] = True
        length = vectors.shape[1]
        positions = token_positions(mask, 0, length, vectors.device)
        lengths = positions.new_full((1,), length) if mask is None else mask.long().sum(1)
        limit = self.config.max_source_length
        if self.config.attention == "location" and length > limit and lengths.max() > limit:
            raise ValueError(
                f'attention="location" has weights for {limit} source words (max_source_length), not for '
                f"{lengths.max().item()}: shorten the source, or tokenize with truncation=True"
            )
        padding = None if mask is None or mask.bool().all() else ~mask.bool()[:, None]
        return Source(vectors, keys, padding, positions, lengths)

    def scores(self, query: Tensor, source: Source, coverage: Tensor | None) -> Tensor:
        """query [B, T, D], coverage [B, S] (then T is 1) -> [B, T, S]"""
        if self.by_energy:
            keys = source.keys
            if coverage is not None:
                keys = keys + coverage[..., None] * self.weight_coverage
            query = linear(query, self.weight_query)  # [B, T, A]
            # one step needs no axis for time: a quarter of its cost is in the shapes
            if query.shape[1] == 1:
                return torch.tanh(query + keys).matmul(self.energy)[:, None]
            return torch.tanh(query[:, :, None] + keys[:, None]).matmul(self.energy)
        if self.weight_query is not None:
            scores = linear(query, self.weight_query)  # [B, T, longest source]
            positions = source.positions.clamp(max=scores.shape[2] - 1)
            return scores.gather(2, positions[:, None].expand(*scores.shape[:2], -1))
        return query @ source.keys.transpose(1, 2)

    def forward(
        self, query: Tensor, source: Source, target_positions: Tensor, coverage: Tensor | None = None
    ) -> Tensor:
        """query [B, T, D], target_positions [B or 1, T], coverage [B, S] (then T is 1) -> weights [B, T, S]"""
        scores, hidden, gaussian = self.scores(query, source, coverage), source.padding, None
        if self.config.attention_window != "global":
            centre = target_positions.to(scores.dtype)[..., None]  # [B, T, 1]
            if self.weight_position is not None:
                moved = torch.tanh(linear(query, self.weight_position)).matmul(self.energy_position)
                centre = source.lengths[:, None, None] * torch.sigmoid(moved)[..., None]
            distance = source.positions[:, None] - centre  # [B, T, S]
            outside = distance.abs() > self.config.window_size
            hidden = outside if hidden is None else hidden | outside
            if self.weight_position is not None:
                gaussian = torch.exp(-2 * (distance / self.config.window_size) ** 2)  # σ is half the window
        if hidden is None:
            return torch.softmax(scores, dim=2)
        weights = torch.softmax(scores.masked_fill(hidden, torch.finfo(scores.dtype).min), dim=2)
        # where nothing may be seen, softmax would see all alike
        weights = weights.masked_fill(hidden, 0)
        return weights if gaussian is None else weights * gaussian


class AttentionDecoder(nn.Module):
    """What Bahdanau's and Luong's decoders share: token vectors, first states, layers and the alignment.

    Under gradient checkpointing each time step keeps its state alone, not the energies [B, S, A] that it weighs.
    """

    gradient_checkpointing = False

    def __init__(self, config: RNNSearchConfig):
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.decoder_vocab_size, config.embedding_size)
        self.dropout = nn.Dropout(config.dropout)
        self.bridge = Bridge(config)
        self.alignment = Alignment(config)
        sizes = [config.embedding_size + self.fed_size(config)] + [config.hidden_size] * (config.decoder_layers - 1)
        self.layers = nn.ModuleList(SequenceLayer(new_cell(config, size, config.hidden_size)) for size in sizes)

    def fed_size(self, config: RNNSearchConfig) -> int:
        """Length of what the first layer reads beside the word."""
        return 0

    def first_projection(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """The words' part of the first layer's product [B, T, G·D], for all steps at once; the weights of the rest."""
        cell = self.layers[0].cell
        of_word, of_fed = cell.weight_ih.split([vectors.shape[2], cell.weight_ih.shape[1] - vectors.shape[2]], dim=1)
        return linear(self.dropout(vectors), of_word, cell.bias), of_fed

    def read(self, vectors, source, source_mask, attention_mask, cache):
        """What all steps share: source, first states [B, N, K, D], target positions [B or 1, T], words [B, T]."""
        seen, length = 0 if cache is None else cache.get_seq_length(), vectors.shape[1]
        words = None if attention_mask is None else attention_mask[:, attention_mask.shape[1] - length :].bool()
        return (
            self.alignment.read(source.last_hidden_state, source_mask, cache),
            self.bridge(source.final_states),
            token_positions(attention_mask, seen, length, vectors.device),
            None if words is None or words.all() else words,
        )

    def recomputed(self, step, *inputs):
        """step(*inputs); under gradient checkpointing it runs once more for the gradient, which keeps the inputs."""
        if self.gradient_checkpointing and self.training and torch.is_grad_enabled():
            return self._gradient_checkpointing_func(step, *inputs)
        return step(*inputs)

    def carried(self, cache: EncoderDecoderCache | None, first: Tensor, *sizes: int) -> tuple[Tensor, ...]:
        """What the last call put beside the first layer's h, cut into [B, size] each; zeros before the first."""
        layer = cache.self_attention_cache.layers[0] if cache is not None else None
        if layer is None or not layer.is_initialized:
            return tuple(first.new_zeros(first.shape[0], size) for size in sizes)
        return layer.keys[:, first.shape[3] :].split(sizes, dim=1)


def after_word(is_word: Tensor | None, new: tuple[Tensor, ...], old: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """States after a step; rows [B] without a word there keep the old ones."""
    if is_word is None:
        return new
    return tuple(torch.where(is_word[:, None], n, o) for n, o in zip(new, old, strict=True))


class BahdanauDecoder(AttentionDecoder):
    """The state before each step asks where to look, the step reads what was seen (Bahdanau et al., 2015, section 3).

    α_t = softmax(v·tanh(W s_{t−1} + U h)), c_t = Σ α_t h, s_t = f(s_{t−1}, e(y_{t−1}), c_t); the answer is
    maxout(U_o s_{t−1} + V_o e(y_{t−1}) + C_o c_t) (appendix A.2.2).
    """

    def __init__(self, config: RNNSearchConfig):
        super().__init__(config)
        self.readout = MaxoutReadout(config, config.source_size)

    def fed_size(self, config):
        return config.source_size

    def forward(
        self,
        vectors: Tensor,
        source: RecurrentEncoderOutput,
        source_mask: Tensor | None = None,
        attention_mask: Tensor | None = None,
        cache: EncoderDecoderCache | None = None,
    ) -> DecoderOutput:
        """Token vectors [B, T, E], masks [B, S] and [B, seen + T] -> [B, T, L]"""
        source, first, positions, words = self.read(vectors, source, source_mask, attention_mask, cache)
        projected, of_context = self.first_projection(vectors)
        # C c_t = Σ α_t C h: the product once a source word, not once a step, and c_t itself after the last step
        length = vectors.shape[1]
        source_part = linear(source.vectors, of_context) if length > 1 else None  # [B, S, G·D]
        coverage = self.carried(cache, first, source.vectors.shape[1])[0] if self.config.coverage else None

        state = state_before(cache, 0, first)
        states, weights = [state[0]], []
        # unbound at once: each index by itself would have a gradient of the whole length
        for t, of_word in enumerate(projected.unbind(1)):
            place = positions[:, t : t + 1], None if words is None else words[:, t]
            state, coverage, seen = self.recomputed(
                self.step, of_word, state, coverage, *place, source, source_part, of_context
            )
            states.append(state[0])
            weights.append(seen)

        keep_state(cache, 0, state, length, coverage)
        if not length:
            return DecoderOutput(self.readout(*no_steps(self.readout, vectors)), (vectors,))
        weights = torch.cat(weights, dim=1)  # [B, T, S]
        before = torch.stack(states[:-1], dim=1)  # [B, T, D]
        last = self.dropout(self.readout(before, vectors, weights @ source.vectors))
        return DecoderOutput(last, (vectors, torch.stack(states[1:], dim=1), last), weights)

    def step(self, of_word, state, coverage, position, is_word, source, source_part, of_context):
        """One word's part of the product [B, G·D] and what was before it -> state, coverage, weights [B, 1, S]"""
        seen = self.alignment(state[0][:, None], source, position, coverage)  # [B, 1, S]
        if source_part is None:
            looked_at = linear(seen @ source.vectors, of_context)
        else:
            looked_at = seen @ source_part
        state = after_word(is_word, self.layers[0].cell.step(of_word + looked_at[:, 0], state), state)
        if coverage is not None:
            (coverage,) = after_word(is_word, (coverage + seen[:, 0],), (coverage,))
        return state, coverage, seen


def no_steps(readout: MaxoutReadout, vectors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What a readout reads of a target without words."""
    sizes = (readout.from_state.in_features, readout.from_word.in_features, readout.from_context.in_features)
    return tuple(vectors.new_zeros(*vectors.shape[:2], size) for size in sizes)


class LuongDecoder(AttentionDecoder):
    """The state after each step asks where to look, and is joined with what was seen (Luong et al., 2015, section 3).

    h_t = f(h_{t−1}, e(y_{t−1})), α_t = align(h_t, h̄), c_t = Σ α_t h̄; the answer is h̃_t = tanh(W_c [c_t; h_t]). With
    input feeding (section 3.3) the first layer reads [e(y_{t−1}); h̃_{t−1}].
    """

    def __init__(self, config: RNNSearchConfig):
        super().__init__(config)
        self.from_context = nn.Linear(config.source_size, config.hidden_size, bias=False)
        self.from_state = nn.Linear(config.hidden_size, config.hidden_size, bias=config.answer_bias)

    def fed_size(self, config):
        return config.hidden_size if config.input_feeding else 0

    def forward(
        self,
        vectors: Tensor,
        source: RecurrentEncoderOutput,
        source_mask: Tensor | None = None,
        attention_mask: Tensor | None = None,
        cache: EncoderDecoderCache | None = None,
    ) -> DecoderOutput:
        """Token vectors [B, T, E], masks [B, S] and [B, seen + T] -> [B, T, D]"""
        source, first, positions, words = self.read(vectors, source, source_mask, attention_mask, cache)
        run = self.run_steps if self.config.input_feeding or self.config.coverage else self.run_at_once
        outputs, last, weights = run(vectors, source, first, positions, words, cache)
        last = self.dropout(last)
        return DecoderOutput(last, (vectors, *outputs, last), weights)

    def run_at_once(self, vectors, source, first, positions, words, cache):
        """Every layer over the whole target, then all steps' attention: nothing flows back from the answers."""
        length, x, outputs = vectors.shape[1], vectors, ()
        padding = Padding.of(words, length)
        if padding is not None:
            x = reorder_time(x, padding.order)
        for i, layer in enumerate(self.layers):
            x, state = layer(self.dropout(x), state_before(cache, i, first), padding)
            keep_state(cache, i, state, length)
            outputs += (x if padding is None else reorder_time(x, padding.inverse),)
        top = outputs[-1]
        weights = self.recomputed(self.alignment, top, source, positions)  # [B, T, S]
        return outputs, torch.tanh(self.from_context(weights @ source.vectors) + self.from_state(top)), weights

    def run_steps(self, vectors, source, first, positions, words, cache):
        """One step after the other, since each reads the answer or the coverage of the one before."""
        length = vectors.shape[1]
        projected, of_fed = self.first_projection(vectors)
        # W_c c_t = Σ α_t W_c h̄: the product once a source word, not once a step
        source_part = self.from_context(source.vectors) if length > 1 else None  # [B, S, D]
        covered = source.vectors.shape[1] if self.config.coverage else 0
        answer, coverage = self.carried(cache, first, self.config.hidden_size, covered)
        coverage = coverage if self.config.coverage else None
        states = [state_before(cache, i, first) for i in range(len(self.layers))]
        steps = []
        # unbound at once: each index by itself would have a gradient of the whole length
        for t, x in enumerate(projected.unbind(1)):
            place = positions[:, t : t + 1], None if words is None else words[:, t]
            states, answer, coverage, seen = self.recomputed(
                self.step, x, states, answer, coverage, *place, source, source_part, of_fed
            )
            steps.append((*(state[0] for state in states), answer, seen[:, 0]))
        beside = answer if coverage is None else torch.cat([answer, coverage], dim=1)
        for i, state in enumerate(states):
            keep_state(cache, i, state, length, None if i else beside)
        if not steps:
            nothing = vectors.new_zeros(*vectors.shape[:2], self.config.hidden_size)
            return (nothing,) * len(self.layers), nothing, None
        *outputs, last, weights = (torch.stack(parts, dim=1) for parts in zip(*steps, strict=True))
        return outputs, last, weights

    def step(self, x, states, answer, coverage, position, is_word, source, source_part, of_fed):
        """As in BahdanauDecoder, for the states of all layers -> states, answer [B, D], coverage, weights [B, 1, S]"""
        if self.config.input_feeding:
            x = x + linear(answer, of_fed)
        new_states = []
        for layer, state in zip(self.layers, states, strict=True):
            if new_states:
                x = linear(self.dropout(new_states[-1][0]), layer.cell.weight_ih, layer.cell.bias)
            new_states.append(after_word(is_word, layer.cell.step(x, state), state))
        top = new_states[-1][0]
        seen = self.alignment(top[:, None], source, position, coverage)  # [B, 1, S]
        if source_part is None:
            looked_at = self.from_context(seen @ source.vectors)[:, 0]
        else:
            looked_at = (seen @ source_part)[:, 0]
        (answer,) = after_word(is_word, (torch.tanh(looked_at + self.from_state(top)),), (answer,))
        if coverage is not None:
            (coverage,) = after_word(is_word, (coverage + seen[:, 0],), (coverage,))
        return new_states, answer, coverage, seen


def coverage_loss(
    weights: Tensor, labels: Tensor, num_items_in_batch=None, attention_mask: Tensor | None = None
) -> Tensor:
    """Σ_s min(a_t(s), Σ_{t' < t} a_t'(s)), a mean over the scored labels [B, T]; weights [B, T, S].

    Steps at which `attention_mask` [B, T] is 0 are none. (See et al., 2017, equation 12; `num_items_in_batch` as in
    `target_loss`)
    """
    if attention_mask is not None:
        weights = weights * attention_mask[..., None].to(weights.dtype)
    covered = weights.cumsum(1) - weights
    again = torch.minimum(weights, covered).sum(2) * labels.ne(IGNORED)  # [B, T]
    return again.sum() / scored_labels(labels, num_items_in_batch)


class RNNSearchPreTrainedModel(RecurrentSeq2SeqPreTrainedModel):
    """What both parts share: their configuration, and how the alignment starts."""

    config_class = RNNSearchConfig

    def _init_weights(self, module):
        if not isinstance(module, Alignment):
            super()._init_weights(module)
            return
        bound = self.config.initializer_range
        for name, parameter in module.named_parameters(recurse=False):
            if self.config.initialization == "uniform":
                init.uniform_(parameter, -bound, bound)
            elif name.startswith("energy"):
                init.zeros_(parameter)
            else:
                # appendix B.1: a tenth of the others' standard deviation
                init.normal_(parameter, std=bound / 10)


class RNNSearchModel(RNNSearchPreTrainedModel, RecurrentSeq2SeqModel):
    """Turns target tokens into vectors that see their left context and, through the attention, the whole source."""

    def new_decoder(self, config):
        return BahdanauDecoder(config) if config.attention == "additive" else LuongDecoder(config)


class RNNSearchForConditionalGeneration(ConditionalGeneration, RNNSearchPreTrainedModel, GenerationMixin):
    """RNNsearch with an output layer that turns each vector into a distribution over the next target token."""

    _tied_weights_keys = {"lm_head.weight": "model.decoder.embed_tokens.weight"}

    def __init__(self, config: RNNSearchConfig):
        super().__init__(config)
        self.model = RNNSearchModel(config)
        self.lm_head = nn.Linear(config.output_size, config.decoder_vocab_size, bias=config.output_bias)
        self.post_init()

    @takes_cache
    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        encoder_outputs: RecurrentEncoderOutput | tuple | None = None,
        cache: EncoderDecoderCache | None = None,
        inputs_embeds: Tensor | None = None,
        decoder_inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        **kwargs,
    ) -> Seq2SeqLMOutput:
        """As in `ConditionalGeneration`; in training the coverage's loss is added, as the configuration weighs it."""
        punished = self.training and labels is not None and self.config.coverage_loss_weight > 0
        outputs = super().forward(
            input_ids,
            attention_mask,
            decoder_input_ids,
            decoder_attention_mask,
            encoder_outputs,
            cache=cache,
            inputs_embeds=inputs_embeds,
            decoder_inputs_embeds=decoder_inputs_embeds,
            labels=labels,
            use_cache=use_cache,
            output_attentions=True if punished else output_attentions,
            logits_to_keep=logits_to_keep,
            **kwargs,
        )
        if punished:
            outputs.loss = outputs.loss + self.config.coverage_loss_weight * coverage_loss(
                outputs.cross_attentions[0], labels, kwargs.get("num_items_in_batch"), decoder_attention_mask
            )
            if not (self.config.output_attentions if output_attentions is None else output_attentions):
                outputs.cross_attentions = None
        return outputs
