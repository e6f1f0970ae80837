"""What the recurrent encoder-decoders share: the encoder, the bridge to the decoder, and the maxout readout."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import DynamicCache, EncoderDecoderCache
from transformers import initialization as init
from transformers.modeling_outputs import ModelOutput, Seq2SeqModelOutput

from .encoder_decoder import EncoderDecoder
from .inputs import embed_inputs, is_exported
from .recurrent_cells import GRUCell, LSTMCell, RNNCell
from .recurrent_layers import RecurrentCell, RecurrentLayer, reversed_time, to_front, to_places
from .recurrent_state import check_states, keep_states, states_of
from .saved_models import LineagePreTrainedModel


def new_cell(config, input_size: int, hidden_size: int) -> RecurrentCell:
    """The cell that the configuration names."""
    if config.cell == "rnn":
        return RNNCell(input_size, hidden_size, config.hidden_act)
    if config.cell == "lstm":
        return LSTMCell(input_size, hidden_size, peephole=config.peephole, coupled_gates=config.coupled_gates)
    return GRUCell(input_size, hidden_size, reset_mode=config.reset_mode, update_convention=config.update_convention)


@dataclass
class RecurrentEncoderOutput(ModelOutput):
    """The source after reading: a vector per token [B, S, D], and each layer's last states [B, N, K, D].

    K is 2 for an LSTM (h and c), else 1; D counts both directions.
    """

    last_hidden_state: Tensor | None = None
    final_states: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


class RecurrentEncoder(nn.Module):
    """Reads the source, in one direction or both, or from its end."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.embedding_size)
        self.dropout = nn.Dropout(config.dropout)
        size = config.encoder_hidden_size
        directions = 2 if config.bidirectional else 1
        self.layers = nn.ModuleList(
            RecurrentLayer(*(new_cell(config, read, size) for _ in range(directions)))
            for read in [config.embedding_size] + [config.source_size] * (config.num_hidden_layers - 1)
        )

    # the cells run in kernels, with almost nothing to compile between them
    @torch.compiler.disable
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        output_hidden_states: bool | None = None,
        **kwargs,
    ) -> RecurrentEncoderOutput:
        """input_ids [B, S], attention_mask [B, S] (0 = padding, on any side) -> last_hidden_state [B, S, D].

        Each vector has its token's place; vectors over padding are zero.
        """
        vectors = embed_inputs(self.embed_tokens, input_ids, inputs_embeds, attention_mask)
        x, padding = to_front(vectors, attention_mask)
        x = reversed_time(x, padding) if self.config.reverse_source else x
        states, outputs = [], []
        for layer in self.layers:
            x, state = layer(self.dropout(x), None, padding)  # [B, S, D]
            states.append(torch.stack(state, dim=1))
            outputs.append(x)
        outputs = outputs if output_hidden_states else outputs[-1:]
        if self.config.reverse_source:
            outputs = [reversed_time(x, padding) for x in outputs]
        outputs = [to_places(x, padding) for x in outputs]
        hidden_states = (vectors, *outputs) if output_hidden_states else None
        return RecurrentEncoderOutput(outputs[-1], torch.stack(states, dim=1), hidden_states)


class Bridge(nn.Module):
    """The decoder's first states, from the encoder's last states as the configuration's `bridge` says."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        size = {"dense": config.source_size, "backward": config.encoder_hidden_size}.get(config.bridge)
        self.dense = nn.Linear(size, config.hidden_size) if size else None

    def forward(self, final_states: Tensor) -> Tensor:
        """final_states [B, N, K, D of the source] -> [B, N of the decoder, K, D]"""
        if self.dense is None:
            return final_states
        top = final_states[:, -1, 0]  # [B, D of the source]
        state = torch.tanh(self.dense(top[:, -self.dense.in_features :]))  # [B, D]
        return state[:, None, None].expand(-1, self.config.decoder_layers, final_states.shape[2], -1)


class MaxoutReadout(nn.Module):
    """max over pairs of U s + V e(y) + C c, a deep output that reads the state, the last word and the context.

    (Goodfellow et al., 2013; Cho et al., 2014, supplement; Bahdanau et al., 2015, appendix A.2.2)
    """

    def __init__(self, config, context_size: int):
        super().__init__()
        units = config.readout_size
        self.from_state = nn.Linear(config.hidden_size, 2 * units)
        self.from_word = nn.Linear(config.embedding_size, 2 * units, bias=False)
        self.from_context = nn.Linear(context_size, 2 * units, bias=False)
        self.down_proj = nn.Linear(units, config.output_rank, bias=False) if config.output_rank else nn.Identity()

    def forward(self, state: Tensor, word: Tensor, context: Tensor) -> Tensor:
        """Each [B, T, its size]; the context may be [B, 1, its size] -> [B, T, L]"""
        pairs = self.from_state(state) + self.from_word(word) + self.from_context(context)
        return self.down_proj(pairs.unflatten(2, (-1, 2)).amax(3))


class RecurrentSeq2SeqPreTrainedModel(LineagePreTrainedModel):
    """What every head of the recurrent encoder-decoders shares: initial weights, and a vocabulary that can grow.

    Gradient checkpointing recomputes each layer of the encoder and each layer or step of the decoder, but not the
    embeddings, the bridge, the readout and the output layer.

    Raises:
        ValueError: reentrant checkpointing is asked for.
    """

    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    # generate() must not try assisted decoding: a state cannot be rolled back token by token
    _is_stateful = True
    _no_split_modules = ["RecurrentLayer"]

    def _init_weights(self, module: nn.Module):
        bound = self.config.initializer_range
        if not isinstance(module, (nn.Embedding, nn.Linear, RecurrentCell)):
            super()._init_weights(module)
        elif self.config.initialization == "uniform":
            for parameter in module.parameters(recurse=False):
                init.uniform_(parameter, -bound, bound)
        else:
            for name, parameter in module.named_parameters(recurse=False):
                if name.startswith("bias"):
                    init.zeros_(parameter)
                elif name == "weight_hh":
                    gates = torch.empty_like(parameter).split(module.hidden_size)
                    init.copy_(parameter, torch.cat([nn.init.orthogonal_(gate) for gate in gates]))
                else:
                    init.normal_(parameter, std=bound)
        if isinstance(module, LSTMCell) and self.config.forget_gate_bias is not None:
            init.copy_(module.bias, module.bias_of_forget_gate(self.config.forget_gate_bias))

    def _set_gradient_checkpointing(self, enable: bool = True, gradient_checkpointing_func=checkpoint, **options):
        if enable and getattr(gradient_checkpointing_func, "keywords", {}).get("use_reentrant"):
            raise ValueError(
                "use_reentrant=True loses the gradient of the states that layers hand over: leave it out of the "
                "checkpointing options, or set it to False"
            )
        super()._set_gradient_checkpointing(enable, gradient_checkpointing_func, **options)

    def get_input_embeddings(self) -> nn.Embedding:
        return self.base_model.encoder.embed_tokens

    def set_input_embeddings(self, embeddings: nn.Embedding):
        self.base_model.encoder.embed_tokens = embeddings

    def _get_static_cache_init_shape(self):
        # generate() would reserve memory for attention heads, and a state has none
        return None

    def _resize_token_embeddings(self, new_num_tokens, pad_to_multiple_of=None, mean_resizing=True):
        if new_num_tokens is not None and self.config.decoder_vocab_size != self.config.vocab_size:
            raise ValueError(
                f"source and target have vocabularies of their own ({self.config.vocab_size} and "
                f"{self.config.decoder_vocab_size}), which cannot be resized to one size"
            )
        resized = super()._resize_token_embeddings(new_num_tokens, pad_to_multiple_of, mean_resizing)
        decoder = self.base_model.decoder
        decoder.embed_tokens = self._get_resized_embeddings(
            decoder.embed_tokens, resized.num_embeddings, mean_resizing=mean_resizing
        )
        self.config.decoder_vocab_size = resized.num_embeddings
        return resized


class RecurrentSeq2SeqModel(EncoderDecoder, RecurrentSeq2SeqPreTrainedModel):
    """Encoder and decoder; the station defines the decoder in `new_decoder`. Training makes no cache by default."""

    source_output = RecurrentEncoderOutput

    def __init__(self, config):
        super().__init__(config)
        self.encoder = RecurrentEncoder(config)
        self.decoder = self.new_decoder(config)
        self.gradient_checkpointing = False
        self.post_init()

    def new_decoder(self, config) -> nn.Module:
        """A module with `embed_tokens`, called as in `decode`, that gives a `DecoderOutput`."""
        raise NotImplementedError

    def encode(self, input_ids, attention_mask, inputs_embeds, output_hidden_states=None, **options):
        output_hidden_states = (
            self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        )
        return self.encoder(input_ids, attention_mask, inputs_embeds, output_hidden_states)

    # as the encoder's forward
    @torch.compiler.disable
    def decode(
        self,
        source,
        attention_mask,
        input_ids,
        inputs_embeds,
        target_mask,
        cache,
        use_cache,
        output_attentions=None,
        output_hidden_states=None,
        **options,
    ):
        config = self.config
        if use_cache is None:
            use_cache = config.use_cache and not self.training
        if cache is None and use_cache and not is_exported():
            cache = EncoderDecoderCache(DynamicCache(config=config), DynamicCache(config=config))
        seen = cache.get_seq_length() if isinstance(cache, EncoderDecoderCache) else 0
        vectors = embed_inputs(self.decoder.embed_tokens, input_ids, inputs_embeds, target_mask, seen)  # [B, T, E]
        if cache is not None:
            check_cache(cache, vectors.shape[0])
        decoded = self.decoder(vectors, source, attention_mask, target_mask, cache)
        shows_layers = config.output_hidden_states if output_hidden_states is None else output_hidden_states
        shows_attention = config.output_attentions if output_attentions is None else output_attentions
        # the coverage loss reads it
        shows_attention = shows_attention or (self.training and getattr(config, "coverage_loss_weight", 0) > 0)
        return Seq2SeqModelOutput(
            decoded.last_hidden_state,
            cache,
            decoder_hidden_states=decoded.hidden_states if shows_layers else None,
            cross_attentions=(decoded.alignment,) if shows_attention and decoded.alignment is not None else None,
            encoder_last_hidden_state=source.last_hidden_state,
            encoder_hidden_states=source.hidden_states,
        )


def check_cache(cache, batch: int):
    """Checks that the cache of a recurrent encoder-decoder holds the states of `batch` targets, and their sources.

    Raises:
        ValueError: it does not.
    """
    if not isinstance(cache, EncoderDecoderCache):
        raise ValueError(
            f"cache is a {type(cache).__name__}: an encoder-decoder needs EncoderDecoderCache(own, source), "
            "both made with DynamicCache(config=model.config)"
        )
    check_states(cache.self_attention_cache, batch)


@dataclass
class DecoderOutput:
    """A decoder's outputs: the output layer's input, the vectors of every layer, and the alignment."""

    last_hidden_state: Tensor  # [B, T, D]
    hidden_states: tuple[Tensor, ...]
    alignment: Tensor | None = None  # [B, T, S]


def states_before(bridge: Bridge, final_states: Tensor, cache: EncoderDecoderCache | None) -> list[tuple[Tensor, ...]]:
    """The state (h [B, D] or h and c) before each decoder layer: from the cache, else from the source's last ones."""
    if cache is None or not cache.get_seq_length():
        return [state.unbind(1) for state in bridge(final_states).unbind(1)]
    carried = states_of(cache.self_attention_cache, bridge.config.decoder_layers)
    return [(h[:, : bridge.config.hidden_size], *c) for h, *c in carried]


def run_layers(decoder: nn.Module, x: Tensor, states: list, attention_mask, cache) -> tuple[Tensor, ...]:
    """Runs a decoder's layers over the whole target: x [B, T, E] -> the outputs [B, T, D] of every layer.

    `states` are the layers' states before it; the mask [B, seen + T] is 0 over padding.
    """
    outputs, (x, padding) = [], to_front(x, attention_mask)
    for i, layer in enumerate(decoder.layers):
        x, states[i] = layer(decoder.dropout(x), states[i], padding)
        outputs.append(x)
    if cache is not None:
        keep_states(cache.self_attention_cache, states, x.shape[1])
    return tuple(to_places(x, padding) for x in outputs)
