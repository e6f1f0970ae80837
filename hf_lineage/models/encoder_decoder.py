"""What every encoder-decoder does alike: targets shifted to the right, their loss, the output layer and generate()."""

from functools import partial

from torch import Tensor
from transformers.modeling_outputs import ModelOutput, Seq2SeqLMOutput
from transformers.utils.generic import can_return_tuple

from .cache_argument import cache_of, takes_cache
from .inputs import IGNORED
from .losses import mean_cross_entropy
from .paged_cache import WithoutPagedCache
from .scheduled_sampling import read_own_words


def shift_right(labels: Tensor, config, cu_seq_lens: Tensor | None = None) -> Tensor:
    """What the decoder reads to predict `labels` [B, T]: the token before each, first `decoder_start_token_id`.

    Labels that are not scored (−100) are read as padding. `cu_seq_lens` [targets + 1] bounds targets that are packed
    into one row, each of which begins so.

    Raises:
        ValueError: the configuration has no `decoder_start_token_id`.
    """
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


def scored_labels(labels: Tensor, num_items_in_batch: Tensor | int | None) -> Tensor | int:
    """What a sum over the labels is divided by: `num_items_in_batch`, or how many of them are scored (at least 1)."""
    if num_items_in_batch is None:
        return labels.ne(IGNORED).sum().clamp(min=1)
    return num_items_in_batch.to(labels.device) if isinstance(num_items_in_batch, Tensor) else num_items_in_batch


class GNMTPenalty(float):
    """α of Wu et al. (2016), equation 14: makes of transformers' `length ** penalty` ((5 + length) / 6)^α."""

    def __rpow__(self, length):
        return ((5 + length) / 6) ** float(self)


class ConditionalGeneration(WithoutPagedCache):
    """The output layer over an encoder-decoder, its training and its generate(); inherit it first.

    The station gives `model`, which answers with a `Seq2SeqModelOutput`, and `lm_head`.

    generate() takes one option beside transformers' own: `gnmt_length_penalty` α divides a beam's log-probability by
    ((5 + length) / 6)^α (Wu et al., 2016, section 7) in place of `length_penalty`'s length^α; the length counts the
    end mark. `model.generation_config = GenerationConfig(gnmt_length_penalty=…, …)` makes it the model's and is saved.
    """

    def prepare_decoder_input_ids_from_labels(self, labels: Tensor, cu_seq_lens: Tensor | None = None) -> Tensor:
        """`shift_right` by the name under which transformers' data collators look for it."""
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

        Without decoder inputs, they are the labels shifted to the right: `labels` end in the end mark and do not begin
        with `decoder_start_token_id`. Where `own_words` [B, T] is True, a recurrent decoder reads its own last
        answer in place of the word given (scheduled sampling; see `read_own_words`).
        """
        if labels is not None and decoder_input_ids is None and decoder_inputs_embeds is None:
            decoder_input_ids = shift_right(labels, self.config, kwargs.get("cu_seq_lens_q"))
        num_items_in_batch, smoothing = (
            kwargs.pop("num_items_in_batch", None),
            kwargs.pop("smoothing", 0.0),
        )
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
        return Seq2SeqLMOutput(
            loss,
            logits,
            cache_of(outputs),
            decoder_hidden_states=outputs.decoder_hidden_states,
            decoder_attentions=outputs.decoder_attentions,
            cross_attentions=outputs.cross_attentions,
            encoder_last_hidden_state=outputs.encoder_last_hidden_state,
            encoder_hidden_states=outputs.encoder_hidden_states,
            encoder_attentions=outputs.encoder_attentions,
        )

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
        # a copy that this call owns
        penalty = getattr(generation_config, "gnmt_length_penalty", None)
        if penalty is not None:
            generation_config.length_penalty = GNMTPenalty(penalty)
        return super()._beam_search(input_ids, logits_processor, stopping_criteria, generation_config, **kwargs)

    @staticmethod
    def _reorder_cache(cache, beam_idx: Tensor):
        # beams move within their sentence, where all look at one source: what is kept of that stays where it is
        cache.self_attention_cache.reorder_cache(beam_idx)
        return cache
