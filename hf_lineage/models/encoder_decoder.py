"""What all encoder-decoders share: reading source and target, scoring the target, generation.

input_ids [B, S], labels [B, T] -> decoder_input_ids [B, T] -> last_hidden_state [B, T, D] -> logits [B, T, V], loss
"""

from functools import partial
from typing import TYPE_CHECKING

from torch import Tensor
from transformers.modeling_outputs import ModelOutput, Seq2SeqLMOutput, Seq2SeqModelOutput
from transformers.utils.generic import can_return_tuple

from .cache_argument import CACHE_FIELD, WithoutPagedCache, takes_cache
from .inputs import IGNORED, check_classes
from .loss_terms import check_terms
from .losses import mean_cross_entropy
from .scheduled_sampling import read_own_words


if TYPE_CHECKING:
    # never imported, but what is named here travels: a repository brings the pipelines of its heads
    from .pipeline_translation import TranslationPipeline  # noqa: F401


def shift_right(labels: Tensor, config, cu_seq_lens: Tensor | None = None) -> Tensor:
    """The decoder's input to predict `labels` [B, T]: the token before each, first `decoder_start_token_id`.

    Labels that are not scored (−100) are read as padding. `cu_seq_lens` [targets + 1] are the bounds of targets packed
    into one row; each of them begins with `decoder_start_token_id`.

    Raises:
        ValueError: the configuration has no `decoder_start_token_id`, or the labels are not classes.
    """
    check_classes("labels", labels)
    start = config.decoder_start_token_id
    if start is None:
        raise ValueError(
            "decoder_start_token_id is None: set it in the configuration to the id that begins every target, such as "
            "the tokenizer's bos_token_id, or give decoder_input_ids"
        )
    shifted = labels.roll(1, dims=1)
    shifted[:, :1] = start
    if cu_seq_lens is not None:
        shifted[:, cu_seq_lens[:-1]] = start
    return shifted.masked_fill(shifted == IGNORED, start if config.pad_token_id is None else config.pad_token_id)


class EncoderDecoder:
    """The base model: reads the source (unless it was read before), then the target; inherit it first.

    The station defines `encode`, its output class `source_output`, and `decode`.
    """

    def encode(self, input_ids, attention_mask, inputs_embeds, **options) -> ModelOutput:
        """Reads the source [B, S]; its mask [B, S] is 0 over padding."""
        raise NotImplementedError

    def decode(
        self, source: ModelOutput, attention_mask, input_ids, inputs_embeds, target_mask, cache, use_cache, **options
    ) -> Seq2SeqModelOutput:
        """Reads the target [B, T], or its vectors [B, T, E], given the source; masks [B, S] and [B, seen + T]."""
        raise NotImplementedError

    @takes_cache
    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        encoder_outputs: ModelOutput | tuple | None = None,
        cache=None,
        inputs_embeds: Tensor | None = None,
        decoder_inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        **kwargs,
    ) -> Seq2SeqModelOutput:
        """Source input_ids [B, S], target decoder_input_ids [B, T] -> last_hidden_state [B, T, D].

        Masks [B, S] and [B, seen + T] are 0 over padding, on any side. `encoder_outputs` of an earlier call replace
        the source, and `cache` holds the target so far. Without any of the target, last_hidden_state is the encoder's
        [B, S, D]: the vectors of the source's tokens, as pipeline("feature-extraction") asks for them. (T5Model
        refuses this; BartModel, trained to copy, reads the source as the target.)

        Raises:
            ValueError: a malformed input.
        """
        if encoder_outputs is None:
            encoder_outputs = self.encode(input_ids, attention_mask, inputs_embeds, **kwargs)
        elif isinstance(encoder_outputs, tuple):
            encoder_outputs = self.source_output(*encoder_outputs)
        target = decoder_input_ids, decoder_inputs_embeds, decoder_attention_mask
        has_target = decoder_input_ids is not None or decoder_inputs_embeds is not None
        if not has_target and decoder_attention_mask is None and cache is None:
            return Seq2SeqModelOutput(
                encoder_outputs.last_hidden_state,
                encoder_last_hidden_state=encoder_outputs.last_hidden_state,
                encoder_hidden_states=encoder_outputs.hidden_states,
                encoder_attentions=encoder_outputs.attentions,
            )
        return self.decode(encoder_outputs, attention_mask, *target, cache, use_cache, **kwargs)


class GNMTPenalty(float):
    """α of Wu et al. (2016), equation 14: turns transformers' `length ** penalty` into ((5 + length) / 6)^α."""

    def __rpow__(self, length):
        return ((5 + length) / 6) ** float(self)


class TargetGeneration:
    """generate() of an encoder-decoder, with one more option than transformers' own.

    `gnmt_length_penalty` α divides a beam's log-probability by ((5 + length) / 6)^α (Wu et al., 2016, section 7)
    instead of `length_penalty`'s length^α; the length counts the end mark.
    `model.generation_config = GenerationConfig(gnmt_length_penalty=…, …)` sets it for the model, and is saved.
    """

    def _prepare_generation_config(self, generation_config, **kwargs):
        penalty = kwargs.pop("gnmt_length_penalty", None)
        if penalty is not None and kwargs.get("length_penalty") is not None:
            raise ValueError(
                f"length_penalty {kwargs['length_penalty']} and gnmt_length_penalty {penalty} exclude each other: "
                "give one of them"
            )
        generation_config, model_kwargs = super()._prepare_generation_config(generation_config, **kwargs)
        if penalty is not None:
            generation_config.gnmt_length_penalty = penalty
        elif kwargs.get("length_penalty") is not None:
            generation_config.gnmt_length_penalty = None
        return generation_config, model_kwargs

    def _beam_search(self, input_ids, logits_processor, stopping_criteria, generation_config, **kwargs):
        # this call's own copy
        penalty = getattr(generation_config, "gnmt_length_penalty", None)
        if penalty is not None:
            generation_config.length_penalty = GNMTPenalty(penalty)
        return super()._beam_search(input_ids, logits_processor, stopping_criteria, generation_config, **kwargs)

    @staticmethod
    def _reorder_cache(cache, beam_idx: Tensor):
        # beams move only within their sentence, whose source they share, so the source's cache stays in place
        cache.self_attention_cache.reorder_cache(beam_idx)
        return cache


class ConditionalGeneration(TargetGeneration, WithoutPagedCache):
    """The output layer over an encoder-decoder and its training; inherit it first.

    The station defines `model`, which gives a `Seq2SeqModelOutput`, and `lm_head`.
    """

    # fields of the configuration that weigh an `extra_loss`
    extra_weights: tuple[str, ...] = ()

    def prepare_decoder_input_ids_from_labels(self, labels: Tensor, cu_seq_lens: Tensor | None = None) -> Tensor:
        """`shift_right` under the name that transformers' data collators look for."""
        return shift_right(labels, self.config, cu_seq_lens)

    @takes_cache
    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        encoder_outputs: ModelOutput | tuple | None = None,
        cache=None,
        inputs_embeds: Tensor | None = None,
        decoder_inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        own_words: Tensor | None = None,
        **kwargs,
    ) -> Seq2SeqLMOutput:
        """Logits [B, T, V] of the next target token; with `labels` [B, T] (the target, −100 = not scored) the loss.

        The default decoder inputs are the labels shifted to the right: `labels` end in the end mark and do not begin
        with `decoder_start_token_id`. Where `own_words` [B, T] is True, a recurrent decoder reads its own last
        prediction instead of the given word (scheduled sampling; see `read_own_words`).

        Raises:
            ValueError: the target is missing, or an input is malformed.
        """
        if decoder_input_ids is None and decoder_inputs_embeds is None:
            if labels is None:
                raise ValueError("the target is missing: give decoder_input_ids or labels, or call generate()")
            decoder_input_ids = shift_right(labels, self.config, kwargs.get("cu_seq_lens_q"))
        num_items_in_batch, smoothing = kwargs.pop("num_items_in_batch", None), kwargs.pop("smoothing", 0.0)
        if labels is None:
            check_terms(num_items_in_batch, **{name: getattr(self.config, name) for name in self.extra_weights})
        run = self.model if own_words is None else partial(read_own_words, self, own_words)
        outputs = run(
            input_ids,
            attention_mask,
            decoder_input_ids,
            decoder_attention_mask,
            encoder_outputs,
            cache=cache,
            inputs_embeds=inputs_embeds,
            decoder_inputs_embeds=decoder_inputs_embeds,
            use_cache=use_cache,
            **kwargs,
        )
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(outputs.last_hidden_state[:, kept])  # [B, T, V]
        loss = None
        if labels is not None:
            loss = mean_cross_entropy(logits, labels, num_items_in_batch, smoothing)
            loss = loss + self.extra_loss(outputs, labels, num_items_in_batch, decoder_attention_mask, **kwargs)
        return Seq2SeqLMOutput(
            loss,
            logits,
            outputs.get(CACHE_FIELD),
            decoder_hidden_states=outputs.decoder_hidden_states,
            decoder_attentions=outputs.decoder_attentions,
            cross_attentions=outputs.cross_attentions,
            encoder_last_hidden_state=outputs.encoder_last_hidden_state,
            encoder_hidden_states=outputs.encoder_hidden_states,
            encoder_attentions=outputs.encoder_attentions,
        )

    def extra_loss(
        self, outputs: Seq2SeqModelOutput, labels: Tensor, num_items_in_batch, decoder_attention_mask, **options
    ) -> Tensor | float:
        """A station's extra loss for the labels [B, T], from its model's outputs; arguments as in `forward`."""
        return 0.0
