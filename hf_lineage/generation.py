"""Fast decoding: `model.generate(..., custom_generate=fast_decoding)` gives generate()'s tokens in less time.

A step of a small model is short, and much of it is not arithmetic: modules are called, masks made, a cache copied to
grow by one token. Here the prompt is read by the model itself, and then each token goes through a few matrix products
on weights laid out once, with keys and values in memory reserved once.
"""

from functools import partial

import torch
from torch import Tensor, addmm
from torch.nn.functional import gelu, layer_norm, scaled_dot_product_attention
from transformers.activations import NewGELUActivation
from transformers.generation.utils import GENERATION_MODES_MAPPING, GenerationMode

from .models.cache_name import CACHE_FIELD, cache_of
from .models.inputs import check_positions


def fast_decoding(
    model,
    input_ids: Tensor,
    logits_processor,
    stopping_criteria,
    generation_config,
    **model_kwargs,
) -> Tensor:
    """The loop for `generate(custom_generate=fast_decoding)`, which gives it these arguments; tokens [B, T].

    Greedy decoding and sampling of `GPTForCausalLM` are fast; whatever else is asked for (beams, scores, another
    station) is left to generate()'s own loop, so that the answer is the same in any case. But transformers gives no
    such function the streamer or the assistant model: with these, call generate() without it.
    """
    mode = generation_config.get_generation_mode()
    steps_class = STEPS.get(model.config.model_type)
    cache = model_kwargs.get(CACHE_FIELD)
    if (
        steps_class is None
        or mode not in (GenerationMode.GREEDY_SEARCH, GenerationMode.SAMPLE)
        or generation_config.return_dict_in_generate
        or model.training
        or cache is None
        or cache.get_seq_length()
        or cache.is_compileable
        or model_kwargs.get("inputs_embeds") is not None
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

    mask, positions = model_kwargs.get("attention_mask"), model_kwargs.get("position_ids")
    outputs = model(
        input_ids, attention_mask=mask, position_ids=positions, cache=cache, use_cache=True, logits_to_keep=1
    )
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
            steps = steps_class(model, cache_of(outputs), mask, positions, stopping_criteria.max_length)
        logits = steps(tokens)
    return input_ids


class GPTSteps:
    """One token a row after another, through the same blocks as `GPTModel` without its modules.

    Args:
        model: a GPTForCausalLM.
        cache: its cache of the prompts.
        attention_mask: of the prompts [B, T], or None if nothing is padding.
        position_ids: of the prompts [B, T], or None for 0 to T − 1.
        max_length: as many tokens as a row may have in the end.
    """

    def __init__(self, model, cache, attention_mask: Tensor | None, position_ids: Tensor | None, max_length: int):
        self.decoder, self.lm_head = model.model, model.lm_head.weight.T.contiguous()  # [D, V]
        activation = self.decoder.blocks[0].feed_forward.activation
        # transformers' module computes the tanh form in eight steps
        self.activation = (
            partial(gelu, approximate="tanh") if isinstance(activation, NewGELUActivation) else activation
        )
        self.length = cache.get_seq_length()
        if position_ids is None:
            position_ids = torch.arange(self.length, device=model.device)[None]
        self.positions = position_ids[:, -1]  # [B or 1]
        self.mask = None
        if attention_mask is not None:
            later = attention_mask.new_ones(len(attention_mask), max_length - attention_mask.shape[1])
            self.mask = torch.cat([attention_mask, later], dim=1).bool()[:, None, None]  # [B, 1, 1, S]
        self.layers = [
            self.lay_out(block, layer.keys, layer.values, max_length)
            for block, layer in zip(self.decoder.blocks, cache.layers, strict=True)
        ]

    def lay_out(self, block, keys: Tensor, values: Tensor, max_length: int) -> tuple:
        """Room for the keys and values of all tokens [2, B, H, S, D/H], and a block's weights: Q, K and V in one."""
        batch, heads, _, size = keys.shape
        memory = keys.new_empty(2, batch, heads, max_length, size)
        memory[:, :, :, : self.length] = torch.stack([keys, values])
        attention, feed_forward = block.attention, block.feed_forward
        return (
            memory,
            turned(attention.q_proj, attention.k_proj, attention.v_proj),
            *map(turned, (attention.out_proj, feed_forward.up_proj, feed_forward.down_proj)),
            *(
                (norm.normalized_shape, norm.weight, norm.bias, norm.eps)
                for norm in (block.attention_norm, block.feed_forward_norm)
            ),
        )

    def __call__(self, tokens: Tensor) -> Tensor:
        """Logits [B, V] of the token after `tokens` [B]."""
        self.positions, self.length = self.positions + 1, self.length + 1
        check_positions(self.positions, self.decoder.config.max_position_embeddings)
        last, mask = self.length - 1, None if self.mask is None else self.mask[..., : self.length]
        x = self.decoder.embed_tokens(tokens) + self.decoder.embed_positions(self.positions)  # [B, D]
        for memory, qkv, out, up, down, attention_norm, feed_forward_norm in self.layers:
            _, batch, heads, _, size = memory.shape
            new = addmm(qkv[0], x, qkv[1]).view(batch, 3, heads, 1, size).transpose(0, 1)  # [3, B, H, 1, D/H]
            memory[:, :, :, last : self.length] = new[1:]
            keys, values = memory[:, :, :, : self.length].unbind(0)
            mixed = scaled_dot_product_attention(new[0], keys, values, attn_mask=mask)
            x = layer_norm(x + addmm(out[0], mixed.view(batch, -1), out[1]), *attention_norm)
            wide = self.activation(addmm(up[0], x, up[1]))
            x = layer_norm(x + addmm(down[0], wide, down[1]), *feed_forward_norm)
        return x @ self.lm_head


def turned(*layers) -> tuple[Tensor, Tensor]:
    """Bias and weight [in, out] of layers side by side: for few rows x, x @ weight is several times faster so."""
    weight = torch.cat([layer.weight for layer in layers])
    return torch.cat([layer.bias for layer in layers]), weight.T.contiguous()


STEPS = {"lineage_gpt": GPTSteps}
