"""NNLM, a neural probabilistic language model (Bengio, Ducharme, Vincent & Jauvin, 2003).

What changes from n-grams: counts become word vectors, which are close for similar words.
input_ids [B, T] -> vectors of the last n − 1 words [B, T, (n−1)·m] -> tanh [B, T, h] -> logits [B, T, V]
"""

import math

import torch
from torch import Tensor, nn
from transformers import GenerationMixin
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.utils.generic import can_return_tuple, merge_with_config_defaults

from .cache_argument import CACHE_FIELD, WithoutPagedCache, takes_cache
from .configuration_nnlm import NNLMConfig
from .inputs import IGNORED, check_ids
from .loss_terms import check_labels
from .losses import mean_of, next_labels, next_token_loss, shifts_labels
from .output_layers import AdaptiveSoftmax, nce_loss, sampled_softmax_loss, weight_and_bias
from .recurrent_state import keep_states, read_texts, states_of
from .saved_models import LineagePreTrainedModel


class NNLMPreTrainedModel(LineagePreTrainedModel):
    """What both heads share: word vectors and weights start uniform in ±initializer_range (section 4.2)."""

    config_class = NNLMConfig
    base_model_prefix = "model"
    # generate() must not try assisted decoding: it takes words back, and words that left the window are gone
    _is_stateful = True

    def _init_weights(self, module):
        bound = self.config.initializer_range
        if isinstance(module, (nn.Embedding, nn.Linear)):
            init.uniform_(module.weight, -bound, bound)
        if isinstance(module, nn.Linear) and module.bias is not None:
            # noise-contrastive estimation starts from the uniform distribution, which already sums to one
            is_nce_output = self.config.objective == "nce" and module.out_features == self.config.vocab_size
            init.constant_(module.bias, -math.log(self.config.vocab_size) if is_nce_output else 0.0)


class NNLMModel(NNLMPreTrainedModel):
    """Turns the vectors of the last n − 1 words, the most recent first, into the output layer's input.

    Places before the text's first word have the zero vector, which adds nothing to any sum.
    """

    def __init__(self, config: NNLMConfig):
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.embedding_size)  # C
        if config.hidden_size:
            self.hidden = nn.Linear(config.context_size * config.embedding_size, config.hidden_size)  # H, d
        self.dropout = nn.Dropout(config.dropout)
        self.post_init()

    @takes_cache
    @merge_with_config_defaults
    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        cache=None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        output_hidden_states: bool | None = None,
        **kwargs,
    ) -> BaseModelOutputWithPast:
        """input_ids [B, T], attention_mask [B, seen + T] (0 = padding, on any side) -> last_hidden_state [B, T, D].

        D is h, or h + (n−1)·m with direct connections: tanh(d + H x), then x. `cache` carries the last n − 2 words'
        vectors from call to call.

        Raises:
            ValueError: a malformed input, or a cache of another kind or batch.
        """
        vectors, cache = read_texts(self, input_ids, inputs_embeds, attention_mask, cache, use_cache)
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        # --8<-- [start:idea]
        x = self.dropout(self.windows(vectors, attention_mask, cache))  # [B, T, (n−1)·m]
        parts = [self.dropout(torch.tanh(self.hidden(x)))] if self.config.hidden_size else []
        outputs = torch.cat([*parts, x] if self.config.direct_connections else parts, dim=2)
        # --8<-- [end:idea]
        return BaseModelOutputWithPast(outputs, cache, (vectors, outputs) if output_hidden_states else None)

    def windows(self, vectors: Tensor, attention_mask: Tensor | None, cache) -> Tensor:
        """Word vectors [B, T, m] -> per word the vectors of the last n − 1, most recent first [B, T, (n−1)·m]."""
        (batch, length, size), earlier = vectors.shape, self.config.context_size - 1
        [state] = states_of(cache, 1)
        before = vectors.new_zeros(batch, earlier, size) if state is None else state[0].view(batch, earlier, size)
        if attention_mask is None or not length:
            # --8<-- [start:window]
            history = torch.cat([before, vectors], dim=1)  # [B, n−2 + T, m]
            windows, last = [history[:, k : k + length] for k in range(earlier, -1, -1)], history[:, length:]
            # --8<-- [end:window]
        else:
            is_word = attention_mask[:, -length:].bool()
            count = is_word.long().cumsum(1)
            # words in a row without gaps, then the padding, where no word looks
            after = count[:, -1:] + (~is_word).long().cumsum(1)
            places = (earlier - 1 + torch.where(is_word, count, after))[..., None].expand_as(vectors)
            history = torch.cat([before, torch.zeros_like(vectors)], dim=1).scatter(1, places, vectors)
            windows = [history.gather(1, places - k) for k in range(earlier + 1)]
            last = count[:, -1:] + torch.arange(earlier, device=count.device)
            last = history.gather(1, last[..., None].expand(-1, -1, size))
        keep_states(cache, [(last.flatten(1),)], length)
        return torch.cat(windows, dim=2)


@shifts_labels
class NNLMForCausalLM(NNLMPreTrainedModel, WithoutPagedCache, GenerationMixin):
    """NNLM with its output layer: y = b + U tanh(d + H x) + W x, where `lm_head` is b and [U W] in one matrix."""

    def __init__(self, config: NNLMConfig):
        super().__init__(config)
        self.model = NNLMModel(config)
        if config.objective == "adaptive_softmax":
            self.lm_head = AdaptiveSoftmax(config.output_size, config.vocab_size, config.cutoffs)
        else:
            self.lm_head = nn.Linear(config.output_size, config.vocab_size)
        self.post_init()

    def _get_static_cache_init_shape(self):
        # generate() would reserve memory for attention heads, and a window has none
        return None

    def resize_token_embeddings(self, new_num_tokens: int | None = None, *args, **kwargs) -> nn.Embedding:
        """As in PreTrainedModel; refused for the adaptive softmax, whose clusters depend on the vocabulary."""
        if self.config.objective == "adaptive_softmax" and new_num_tokens not in (None, self.config.vocab_size):
            raise ValueError("the vocabulary of an adaptive softmax cannot be resized: make a new model")
        return super().resize_token_embeddings(new_num_tokens, *args, **kwargs)

    @takes_cache
    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        cache=None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        negative_ids: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        **kwargs,
    ) -> CausalLMOutputWithPast:
        """Logits [B, T, V] of the next token; with `labels` [B, T] (input_ids, −100 = not scored) the mean loss.

        This method shifts `labels`, but not `shift_labels` [B, T], which are already one token ahead. Training gives
        no logits with the adaptive softmax, or with a sampled objective and `negative_ids` [B, K].
        """
        outputs = self.model(
            input_ids, attention_mask, cache=cache, inputs_embeds=inputs_embeds, use_cache=use_cache, **kwargs
        )
        objective, x = self.config.objective, outputs.last_hidden_state
        is_sampled = objective in ("sampled_softmax", "nce") and negative_ids is not None
        if is_sampled and labels is None:
            check_labels(self, kwargs.get("num_items_in_batch"))
        if labels is not None and self.training and (is_sampled or objective == "adaptive_softmax"):
            loss = self.loss_without_logits(x, labels, attention_mask, negative_ids, **kwargs)
            return CausalLMOutputWithPast(loss, None, outputs.get(CACHE_FIELD), outputs.hidden_states)
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(x[:, kept])  # [B, T, V]
        loss = None
        if labels is not None:
            loss = next_token_loss(logits, labels, attention_mask=attention_mask, **kwargs)
        return CausalLMOutputWithPast(loss, logits, outputs.get(CACHE_FIELD), outputs.hidden_states)

    def loss_without_logits(
        self, x, labels, mask, negative_ids, shift_labels=None, num_items_in_batch=None, smoothing=0.0, **unused
    ) -> Tensor:
        """The objective's mean over the scored words of x [B, T, D] (see `mean_of`).

        Raises:
            ValueError: label smoothing, which needs the full softmax.
        """
        if smoothing:
            raise ValueError(
                f"label_smoothing_factor is {smoothing}, but objective {self.config.objective!r} does not score "
                "all words: set it to 0, or train with objective='softmax'"
            )
        counted = None
        if shift_labels is None:
            shift_labels, counted = next_labels(labels, mask)
        check_ids("labels", shift_labels, self.config.vocab_size, "vocab_size", IGNORED)
        is_scored = shift_labels != IGNORED
        if self.config.objective == "adaptive_softmax":
            losses = self.lm_head.loss(x[is_scored], shift_labels[is_scored])
        else:
            objective = {"sampled_softmax": sampled_softmax_loss, "nce": nce_loss}[self.config.objective]
            targets = shift_labels.clamp(min=0)
            losses = objective(x, targets, *weight_and_bias(self.lm_head), negative_ids)
            losses = losses.masked_fill(~is_scored, 0)
        return mean_of(losses.sum(), is_scored.sum(), num_items_in_batch, counted)
