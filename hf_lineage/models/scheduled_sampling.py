"""Scheduled sampling (Bengio et al., 2015): in training, the decoder reads some of its own words.

What changes from teacher forcing: where a coin says so, y_{t−1} is the model's own most likely word.
decoder_input_ids [B, T], coins own_words [B, T] -> what was read [B, T] -> last_hidden_state [B, T, D]
"""

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.modeling_outputs import Seq2SeqModelOutput

from .cache_argument import CACHE_FIELD


def read_own_words(
    model: PreTrainedModel,
    own_words: Tensor,
    input_ids: Tensor | None,
    attention_mask: Tensor | None,
    decoder_input_ids: Tensor | None,
    decoder_attention_mask: Tensor | None = None,
    encoder_outputs=None,
    *,
    inputs_embeds: Tensor | None = None,
    output_hidden_states: bool | None = None,
    **options,
) -> Seq2SeqModelOutput:
    """The outputs of `model.model` if the decoder reads its own argmax wherever own_words [B, T] is True.

    Steps between two coins run at once; without coins, this is teacher forcing. The words read count as given: no
    gradient flows through the argmax (section 2.4).

    Raises:
        ValueError: the station carries no state, the coins have another shape than the decoder's input or choose its
            first word (which has no prediction before it), or a cache or vectors are given instead of words.
    """
    if not model._is_stateful:
        raise ValueError(f"own_words needs a recurrent encoder-decoder, not a {type(model).__name__}")
    elsewhere = (options.pop("cache", None), options.pop("decoder_inputs_embeds", None))
    if decoder_input_ids is None or any(part is not None for part in elsewhere):
        raise ValueError("own_words needs a whole target: give labels or decoder_input_ids, and no cache")
    if own_words.shape != decoder_input_ids.shape:
        raise ValueError(
            f"own_words is {list(own_words.shape)}; it must have the shape of the decoder's input, "
            f"{list(decoder_input_ids.shape)}"
        )
    if own_words[:, :1].any():
        raise ValueError("own_words[:, 0] is True, but the model has no prediction before the first word")
    if encoder_outputs is None:
        encoder_outputs = model.get_encoder()(
            input_ids, attention_mask, inputs_embeds=inputs_embeds, output_hidden_states=output_hidden_states
        )
    length = own_words.shape[1]
    bounds = [0, *own_words.any(0).nonzero().flatten().tolist(), length]
    cache, parts, answer = None, [], None
    for start, end in zip(bounds, bounds[1:], strict=False):
        words = decoder_input_ids[:, start:end]
        if answer is not None:
            first = torch.where(own_words[:, start], answer, words[:, 0])
            words = torch.cat([first[:, None], words[:, 1:]], dim=1)
        seen = decoder_attention_mask[:, :end] if decoder_attention_mask is not None else None
        outputs = model.model(
            None,
            attention_mask,
            words,
            seen,
            encoder_outputs,
            cache=cache,
            output_hidden_states=output_hidden_states,
            **(options | {"use_cache": True, "return_dict": True}),
        )
        cache = outputs.get(CACHE_FIELD)
        parts.append(outputs)
        if end < length:
            with torch.no_grad():
                answer = model.lm_head(outputs.last_hidden_state[:, -1]).argmax(1)

    def joined(field):
        fields = [getattr(part, field) for part in parts]
        return None if fields[0] is None else tuple(torch.cat(steps, dim=1) for steps in zip(*fields, strict=True))

    return Seq2SeqModelOutput(
        last_hidden_state=torch.cat([part.last_hidden_state for part in parts], dim=1),
        decoder_hidden_states=joined("decoder_hidden_states"),
        cross_attentions=joined("cross_attentions"),
        encoder_last_hidden_state=parts[0].encoder_last_hidden_state,
        encoder_hidden_states=parts[0].encoder_hidden_states,
        **{CACHE_FIELD: cache},
    )
