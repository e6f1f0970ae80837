"""Seq2Seq (Sutskever et al., 2014; Cho et al., 2014): one recurrent network reads a text, another writes its answer.

What changes from the LSTM language model: it starts from the state of another network that has read the source.
input_ids [B, S] -> states of N layers [B, N, D]; with them decoder_input_ids [B, T] -> [B, T, D] -> logits [B, T, V]
"""

import torch
from torch import Tensor, nn
from transformers import EncoderDecoderCache, GenerationMixin

from .configuration_seq2seq import Seq2SeqConfig
from .encoder_decoder import ConditionalGeneration
from .recurrent_layers import RecurrentLayer
from .recurrent_seq2seq import (
    Bridge,
    DecoderOutput,
    MaxoutReadout,
    RecurrentEncoderOutput,
    RecurrentSeq2SeqModel,
    RecurrentSeq2SeqPreTrainedModel,
    new_cell,
    run_layers,
    states_before,
)


class Seq2SeqDecoder(nn.Module):
    """A language model of the target that starts from the encoder's states (Sutskever et al., 2014, section 2)."""

    def __init__(self, config: Seq2SeqConfig):
        super().__init__()
        self.embed_tokens = nn.Embedding(config.decoder_vocab_size, config.embedding_size)
        self.dropout = nn.Dropout(config.dropout)
        self.bridge = Bridge(config)
        sizes = [self.input_size(config)] + [config.hidden_size] * (config.decoder_layers - 1)
        self.layers = nn.ModuleList(RecurrentLayer(new_cell(config, size, config.hidden_size)) for size in sizes)

    def input_size(self, config: Seq2SeqConfig) -> int:
        """Length of the first layer's input."""
        return config.embedding_size

    def forward(
        self,
        vectors: Tensor,
        source: RecurrentEncoderOutput,
        source_mask: Tensor | None = None,
        attention_mask: Tensor | None = None,
        cache: EncoderDecoderCache | None = None,
    ) -> DecoderOutput:
        """Token vectors [B, T, E], masks [B, S] and [B, seen + T] -> [B, T, D]"""
        # --8<-- [start:idea]
        states = states_before(self.bridge, source.final_states, cache)
        outputs = run_layers(self, vectors, states, attention_mask, cache)
        last = self.dropout(outputs[-1])
        # --8<-- [end:idea]
        return DecoderOutput(last, (vectors, *outputs[:-1], last))


class ContextDecoder(Seq2SeqDecoder):
    """Seq2SeqDecoder that reads the summary of the source at every step, as does its readout (Cho et al., 2014).

    c = tanh(V h_S). The decoder starts from tanh(V' c), reads [e(y_{t−1}); c], and gives maxout(O_h h_t +
    O_y e(y_{t−1}) + O_c c) (section 2.2 and the supplement).
    """

    def __init__(self, config: Seq2SeqConfig):
        super().__init__(config)
        self.summary = nn.Linear(config.source_size, config.source_size)
        self.readout = MaxoutReadout(config, config.source_size)

    def input_size(self, config):
        return config.embedding_size + config.source_size

    def forward(self, vectors, source, source_mask=None, attention_mask=None, cache=None):
        context = torch.tanh(self.summary(source.final_states[:, -1, 0]))  # [B, D]
        num_states = source.final_states.shape[2]
        states = states_before(self.bridge, context[:, None, None].expand(-1, 1, num_states, -1), cache)
        context = context[:, None]  # [B, 1, D]
        x = torch.cat([vectors, context.expand(-1, vectors.shape[1], -1)], dim=2)  # [B, T, E + D]
        outputs = run_layers(self, x, states, attention_mask, cache)
        last = self.dropout(self.readout(outputs[-1], vectors, context))
        return DecoderOutput(last, (vectors, *outputs, last))


class Seq2SeqPreTrainedModel(RecurrentSeq2SeqPreTrainedModel):
    """What both parts share: their configuration."""

    config_class = Seq2SeqConfig


class Seq2SeqModel(Seq2SeqPreTrainedModel, RecurrentSeq2SeqModel):
    """Turns target tokens into vectors that see their left context and the final state of the source."""

    def new_decoder(self, config):
        return ContextDecoder(config) if config.feed_context else Seq2SeqDecoder(config)


class Seq2SeqForConditionalGeneration(ConditionalGeneration, Seq2SeqPreTrainedModel, GenerationMixin):
    """Seq2Seq with an output layer that turns each vector into a distribution over the next target token."""

    _tied_weights_keys = {"lm_head.weight": "model.decoder.embed_tokens.weight"}

    def __init__(self, config: Seq2SeqConfig):
        super().__init__(config)
        self.model = Seq2SeqModel(config)
        self.lm_head = nn.Linear(config.output_size, config.decoder_vocab_size, bias=config.output_bias)
        self.post_init()
