"""RNNsearch (Bahdanau et al., 2015): a decoder that looks back at the source for each word.

What changes from Seq2Seq: the source stays a vector per word, and each step mixes these by weights that it learns.
input_ids [B, S] -> [B, S, C]; decoder_input_ids [B, T] -> weights [B, T, S], contexts [B, T, C] -> logits [B, T, V]
"""

from functools import partial

import torch
from torch import Tensor, nn
from transformers import EncoderDecoderCache, GenerationMixin

from .attentional_decoder import (
    AdditiveAlignment,
    AttentionalDecoder,
    AttentionalPreTrainedModel,
    CoverageAlignment,
    CoverageLoss,
    Source,
    carried_beside,
    check_onnx,
    covering,
)
from .configuration_rnnsearch import RNNSearchConfig
from .encoder_decoder import ConditionalGeneration
from .fast_rnnsearch import run_attention
from .recurrent_layers import loop, one_step
from .recurrent_seq2seq import (
    DecoderOutput,
    MaxoutReadout,
    RecurrentEncoderOutput,
    RecurrentSeq2SeqModel,
    states_before,
)
from .recurrent_state import keep_states


class BahdanauDecoder(AttentionalDecoder):
    """The state before each step asks where to look; the step reads the context (Bahdanau et al., 2015, section 3).

    The answer is maxout(U_o s_{t−1} + V_o e(y_{t−1}) + C_o c_t) (appendix A.2.2).
    """

    def __init__(self, config: RNNSearchConfig):
        alignment = CoverageAlignment(config) if config.coverage else AdditiveAlignment(config)
        super().__init__(config, alignment, fed_size=config.source_size)
        self.readout = MaxoutReadout(config, config.source_size)

    def step(self, word: Tensor, state: tuple[Tensor, ...], source: Source) -> tuple[tuple[Tensor, ...], Tensor]:
        """e(y_{t−1}) [B, E], s_{t−1} [B, D] -> s_t = f(s_{t−1}, [e(y_{t−1}); c_t]) and α_t [B, 1, S]; c_t = Σ α_t h"""
        # --8<-- [start:idea]
        weights = self.alignment(state[0][:, None], source)
        context = (weights @ source.vectors)[:, 0]  # [B, C]
        return self.layers[0].cell(torch.cat([word, context], dim=1), state, run=one_step), weights
        # --8<-- [end:idea]

    def forward(
        self,
        vectors: Tensor,
        source: RecurrentEncoderOutput,
        source_mask: Tensor | None = None,
        attention_mask: Tensor | None = None,
        cache: EncoderDecoderCache | None = None,
    ) -> DecoderOutput:
        """Token vectors [B, T, E], masks [B, S] and [B, seen + T] -> [B, T, L]"""
        length = vectors.shape[1]
        [first] = states_before(self.bridge, source.final_states, cache)
        source, is_word = self.read(source, source_mask, attention_mask, cache, length)
        words, cell = self.dropout(vectors), self.layers[0].cell
        found = self.alignment(words, source, run=partial(run_attention, cell, first, is_word))
        states, weights, last = found or self.run_steps(words, first, source, is_word, cache)  # [B, T, D], [B, T, S]
        if cache is not None:
            keep_states(cache.self_attention_cache, [last], length)
        before = torch.cat([first[0][:, None], states], dim=1)[:, :-1]
        answers = self.dropout(self.readout(before, vectors, weights @ source.vectors))
        return DecoderOutput(answers, (vectors, states, answers), weights)

    def run_steps(self, words: Tensor, first: tuple[Tensor, ...], source: Source, is_word: Tensor | None, cache):
        """Runs `step` from word to word: words [B, T, E] -> states [B, T, D], weights [B, T, S] and the last state.

        With coverage, the state also carries the weights that the source's words got so far.
        """
        step = self.recomputed(self.step)
        check_onnx()

        def read_word(carried, now):
            word, *is_word = now
            state, covered = carried[: len(first)], carried[len(first) :]
            new, seen = step(word, state, covering(source, covered) if covered else source)
            new = (*new, *(c + seen[:, 0] for c in covered))
            for here in is_word:
                # a row without a word keeps what it carried
                new = tuple(torch.where(here[:, None], n, old) for n, old in zip(new, carried, strict=True))
            return new, (new[0], seen[:, 0])

        covered = carried_beside(cache, first[0], source.vectors.shape[1]) if self.config.coverage else ()
        inputs = (words,) if is_word is None else (words, is_word)
        last, (states, weights) = loop(read_word, (*first, *covered), inputs)
        (h, *c), covered = last[: len(first)], last[len(first) :]
        return states, weights, (torch.cat([h, *covered], dim=1), *c)


class RNNSearchPreTrainedModel(AttentionalPreTrainedModel):
    """What both parts share: their configuration."""

    config_class = RNNSearchConfig

    def __init__(self, config, *args, **kwargs):
        if config.model_type != RNNSearchConfig.model_type:
            raise ValueError(
                f"config is a {type(config).__name__} (model_type {config.model_type!r}), not an RNNSearchConfig: "
                "open it by AutoModelForSeq2SeqLM or AutoModel, or use LuongForConditionalGeneration"
            )
        super().__init__(config, *args, **kwargs)


class RNNSearchModel(RNNSearchPreTrainedModel, RecurrentSeq2SeqModel):
    """Turns target tokens into vectors that see their left context and, through the attention, the whole source."""

    def new_decoder(self, config):
        return BahdanauDecoder(config)


class RNNSearchForConditionalGeneration(
    CoverageLoss, ConditionalGeneration, RNNSearchPreTrainedModel, GenerationMixin
):
    """RNNsearch with an output layer that turns each vector into a distribution over the next target token."""

    _tied_weights_keys = {"lm_head.weight": "model.decoder.embed_tokens.weight"}

    def __init__(self, config: RNNSearchConfig):
        super().__init__(config)
        self.model = RNNSearchModel(config)
        self.lm_head = nn.Linear(config.output_size, config.decoder_vocab_size, bias=config.output_bias)
        self.post_init()
