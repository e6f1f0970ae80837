"""Fast decoding: `model.generate(..., custom_generate=fast_decoding)` gives generate()'s tokens in less time.

A step of a small model is short, and much of it is not arithmetic: module calls, masks, a cache that is copied to grow
by one token. Here the model itself reads the prompt; then each token takes a few matrix products on weights laid out
once, with keys and values in memory reserved once.
"""

import copy
from functools import partial

import torch
from torch import Tensor, addmm
from torch.nn.functional import gelu, layer_norm, linear, scaled_dot_product_attention
from transformers.activations import NewGELUActivation
from transformers.generation.utils import GENERATION_MODES_MAPPING, GenerationMode

from hf_lineage.models.cache_argument import CACHE_FIELD, cache_of
from hf_lineage.models.fast_paths import fast_paths_allowed
from hf_lineage.models.modeling_transformer import sinusoidal_positions
from hf_lineage.models.positions import check_positions


def fast_decoding(
    model,
    input_ids: Tensor,
    logits_processor,
    stopping_criteria,
    generation_config,
    **model_kwargs,
) -> Tensor:
    """The loop for `generate(custom_generate=fast_decoding)`, which gives it these arguments; tokens [B, T].

    Greedy decoding and sampling of `GPTForCausalLM`, `TransformerForConditionalGeneration` and the recurrent language
    models are fast. For everything else (beams, scores, another station, plain equations) it calls generate()'s own
    loop, so that the result is always the same. transformers does not pass the streamer or the assistant model to such
    a function: with these, call generate() without it.

    Each call lays out the weights again; `PreparedDecoding` does so once.
    """
    return decode(model, None, input_ids, logits_processor, stopping_criteria, generation_config, model_kwargs)


class PreparedDecoding:
    """`fast_decoding` for many calls: `fast = PreparedDecoding(model)`, then `model.generate(custom_generate=fast)`.

    Holds a second copy of the decoder's weights, laid out for decoding. Prepare again after the weights have changed.

    Raises:
        ValueError: the model has no fast path, or another model is decoded with it.
    """

    def __init__(self, model):
        if model.config.model_type not in WEIGHTS:
            raise ValueError(f"{type(model).__name__} has no fast path; these have: {', '.join(WEIGHTS)}")
        self.model = model
        with torch.no_grad():
            self.weights = WEIGHTS[model.config.model_type](model)

    def __call__(
        self, model, input_ids, logits_processor, stopping_criteria, generation_config, **model_kwargs
    ) -> Tensor:
        if model is not self.model:
            raise ValueError("this PreparedDecoding belongs to another model: prepare one for this model")
        return decode(
            model, self.weights, input_ids, logits_processor, stopping_criteria, generation_config, model_kwargs
        )


def decode(model, weights, input_ids, logits_processor, stopping_criteria, generation_config, model_kwargs) -> Tensor:
    """generate()'s loop for greedy decoding and sampling; lays out the weights if `weights` is None."""
    mode = generation_config.get_generation_mode()
    cache = model_kwargs.get(CACHE_FIELD)
    if (
        model.config.model_type not in WEIGHTS
        or mode not in (GenerationMode.GREEDY_SEARCH, GenerationMode.SAMPLE)
        or generation_config.return_dict_in_generate
        or model.training
        or not fast_paths_allowed()
        or cache is None
        or cache.get_seq_length()
        or cache.is_compileable
        or model_kwargs.get("inputs_embeds") is not None
        or model_kwargs.get("decoder_attention_mask") is not None
    ):
        own_loop = getattr(type(model), GENERATION_MODES_MAPPING[mode])
        return own_loop(
            model,
            input_ids,
            logits_processor=logits_processor,
            stopping_criteria=stopping_criteria,
            generation_config=generation_config,
            **model_kwargs,
        )

    # the arguments of generate()'s first step, by generate()'s names
    inputs = model.prepare_inputs_for_generation(input_ids, is_first_iteration=True, **model_kwargs)
    outputs = model(**inputs, return_dict=True)
    logits, steps = outputs.logits[:, -1], None
    pad = generation_config._pad_token_tensor
    stops_at_token = any(hasattr(criterion, "eos_token_id") for criterion in stopping_criteria)
    unfinished = torch.ones(len(input_ids), dtype=torch.long, device=input_ids.device)
    while True:
        scores = logits_processor(input_ids, logits.float())
        if generation_config.do_sample:
            tokens = torch.multinomial(scores.softmax(1), num_samples=1).squeeze(1)
        else:
            tokens = scores.argmax(1)
        if stops_at_token:
            tokens = tokens * unfinished + pad * (1 - unfinished)
        input_ids = torch.cat([input_ids, tokens[:, None]], dim=1)
        unfinished = unfinished & ~stopping_criteria(input_ids, scores)
        if not unfinished.any():
            break
        if steps is None:
            weights = weights or WEIGHTS[model.config.model_type](model)
            steps = weights.steps(cache_of(outputs), inputs, stopping_criteria.max_length)
        logits = steps(tokens)
    return input_ids


def turned(*layers) -> tuple[Tensor, Tensor]:
    """Biases and weights [in, out] of layers, concatenated: for few rows x, x @ weight is several times faster."""
    weight = torch.cat([layer.weight for layer in layers])
    return torch.cat([layer.bias for layer in layers]), weight.T.contiguous()


def of_norm(norm) -> tuple:
    return norm.normalized_shape, norm.weight, norm.bias, norm.eps


class Weights:
    """The weights of a decoder of post-norm blocks, in the order in which a step uses them.

    blocks: per block, the weights of self-attention (query, key and value in one matrix; output layer; norm), of
    attention to the source (query; output layer; norm; None without a source) and of the feed-forward (both layers;
    norm).
    """

    def __init__(self, model, blocks):
        self.config = model.config
        activation = blocks[0].feed_forward.activation
        # transformers' module computes the tanh form in eight steps
        self.activation = (
            partial(gelu, approximate="tanh") if isinstance(activation, NewGELUActivation) else activation
        )
        self.blocks = [self.lay_out(block) for block in blocks]
        self.output, self.output_bias = model.lm_head.weight.T.contiguous(), model.lm_head.bias  # [D, V]

    def steps(self, cache, inputs: dict, max_length: int) -> "Steps":
        """The object that continues after the model's first step."""
        return Steps(self, cache, inputs, max_length)

    def lay_out(self, block) -> tuple:
        own, source = block.attention, None
        if self.config.is_encoder_decoder:
            cross = block.cross_attention
            source = (turned(cross.q_proj), turned(cross.out_proj), of_norm(block.cross_attention_norm))
        return (
            (turned(own.q_proj, own.k_proj, own.v_proj), turned(own.out_proj), of_norm(block.attention_norm)),
            source,
            turned(block.feed_forward.up_proj),
            turned(block.feed_forward.down_proj),
            of_norm(block.feed_forward_norm),
        )


class GPTWeights(Weights):
    """GPT's weights: learned positions, and prompts that may be padded."""

    def __init__(self, model):
        super().__init__(model, model.model.blocks)
        self.tokens, self.positions = model.model.embed_tokens, model.model.embed_positions

    def embed(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """tokens [B], positions [B or 1] -> [B, D]"""
        check_positions(positions, self.config.max_position_embeddings)
        return self.tokens(tokens) + self.positions(positions)


class TransformerWeights(Weights):
    """The Transformer's decoder: token vectors times √D, sinusoidal positions."""

    def __init__(self, model):
        super().__init__(model, model.model.decoder.blocks)
        self.tokens = model.get_input_embeddings()

    def embed(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """tokens [B], positions [B or 1] -> [B, D]"""
        size = self.config.hidden_size
        vectors = sinusoidal_positions(positions + self.config.position_offset, size, self.config.position_layout)
        return self.tokens(tokens) * size**0.5 + vectors.to(self.tokens.weight.dtype)


class Steps:
    """Decodes one token per row at a time, with the model's arithmetic but without its modules.

    Args:
        weights: the decoder's weights.
        cache: the cache of the model's first step.
        inputs: the model's arguments in that step.
        max_length: the most tokens that a row may have.
    """

    def __init__(self, weights: Weights, cache, inputs: dict, max_length: int):
        self.weights = weights
        self.length = cache.get_seq_length()
        mask = inputs.get("attention_mask")
        mask = None if mask is None else mask.bool()[:, None, None]  # [B, 1, 1, S]
        self.mask = self.source_mask = None
        if weights.config.is_encoder_decoder:
            own, self.source_mask = cache.self_attention_cache.layers, mask
            self.sources = [(layer.keys, layer.values) for layer in cache.cross_attention_cache.layers]
        else:
            own, self.sources = cache.layers, [None] * len(cache.layers)
            if mask is not None:
                self.mask = torch.nn.functional.pad(mask, (0, max_length - mask.shape[3]), value=True)
        positions = inputs.get("position_ids")
        self.positions = own[0].keys.new_full((1,), self.length - 1).long() if positions is None else positions[:, -1]
        self.memories = [self.reserve(layer.keys, layer.values, max_length) for layer in own]

    def reserve(self, keys: Tensor, values: Tensor, max_length: int) -> Tensor:
        """Memory for the keys and values of all tokens [2, B, H, S, D/H], filled with those so far."""
        batch, heads, _, size = keys.shape
        memory = keys.new_empty(2, batch, heads, max_length, size)
        memory[:, :, :, : self.length] = torch.stack([keys, values])
        return memory

    def __call__(self, tokens: Tensor) -> Tensor:
        """Logits [B, V] of the token after `tokens` [B]."""
        weights = self.weights
        self.positions, self.length = self.positions + 1, self.length + 1
        last, mask = self.length - 1, None if self.mask is None else self.mask[..., : self.length]
        x = weights.embed(tokens, self.positions)  # [B, D]
        for memory, source, (own, cross, up, down, norm) in zip(
            self.memories, self.sources, weights.blocks, strict=True
        ):
            _, batch, heads, _, size = memory.shape
            qkv, out, own_norm = own
            new = addmm(qkv[0], x, qkv[1]).view(batch, 3, heads, 1, size).transpose(0, 1)  # [3, B, H, 1, D/H]
            memory[:, :, :, last : self.length] = new[1:]
            keys, values = memory[:, :, :, : self.length].unbind(0)
            mixed = scaled_dot_product_attention(new[0], keys, values, attn_mask=mask)
            x = layer_norm(x + addmm(out[0], mixed.view(batch, -1), out[1]), *own_norm)
            if cross is not None:
                query, out, cross_norm = cross
                asked = addmm(query[0], x, query[1]).view(batch, heads, 1, size)
                mixed = scaled_dot_product_attention(asked, *source, attn_mask=self.source_mask)
                x = layer_norm(x + addmm(out[0], mixed.view(batch, -1), out[1]), *cross_norm)
            x = layer_norm(x + addmm(down[0], weights.activation(addmm(up[0], x, up[1])), down[1]), *norm)
        logits = x @ weights.output
        return logits if weights.output_bias is None else logits + weights.output_bias


class RecurrentWeights:
    """The weights of a recurrent language model: its cells, with each matrix stored column by column."""

    def __init__(self, model):
        self.tokens, self.cells = model.model.embed_tokens, [copy.deepcopy(layer.cell) for layer in model.model.layers]
        for cell in self.cells:
            for parameter in cell.parameters():
                if parameter.dim() == 2:
                    parameter.data = parameter.T.contiguous().T
        self.output_bias, self.output = turned(model.lm_head)

    def steps(self, cache, inputs: dict, max_length: int) -> "RecurrentSteps":
        """The object that continues after the model's first step."""
        return RecurrentSteps(self, cache)


class RecurrentSteps:
    """Decodes one token per row at a time, keeping only one state per layer."""

    def __init__(self, weights: RecurrentWeights, cache):
        self.weights = weights
        self.states = [layer.state() for layer in cache.layers]

    def __call__(self, tokens: Tensor) -> Tensor:
        """Logits [B, V] of the token after `tokens` [B]."""
        x = self.weights.tokens(tokens)  # [B, E]
        for i, cell in enumerate(self.weights.cells):
            self.states[i] = cell.step(linear(x, cell.weight_ih, cell.bias), self.states[i])
            x = self.states[i][0]
        return addmm(self.weights.output_bias, x, self.weights.output)


WEIGHTS = {
    "lineage_rnn": RecurrentWeights,
    "lineage_lstm": RecurrentWeights,
    "lineage_gru": RecurrentWeights,
    "lineage_gpt": GPTWeights,
    "lineage_transformer": TransformerWeights,
}
