"""GPT (Radford et al., 2018): the Transformer's decoder alone, trained to predict the next token.

What changes from the Transformer: no encoder, hence no cross-attention; learned positions; GELU for ReLU.
input_ids [B, T] -> token + position vectors [B, T, D] -> N masked blocks [B, T, D] -> logits [B, T, V]
Fine-tuned, the vector at a text's last token, the extract token, is all that a linear layer needs (section 3.2).
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, dropout, linear
from transformers import DynamicCache, GenerationMixin, PreTrainedModel
from transformers.masking_utils import create_causal_mask
from transformers.modeling_outputs import (
    BaseModelOutputWithPast,
    CausalLMOutputWithPast,
    MultipleChoiceModelOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)
from transformers.utils.generic import can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from .attention import MultiHeadAttention
from .cache_argument import cache_of, takes_cache
from .classification_loss import classification_loss
from .configuration_gpt import GPTConfig
from .fast_dropout import Dropout
from .inputs import (
    IGNORED,
    check_ids,
    check_mask,
    check_positions,
    embed_inputs,
    token_positions,
    vectors_at_last_token,
)
from .losses import check_terms, mean_cross_entropy, mean_of, next_token_loss, shifts_labels
from .packed_texts import bounds_of_documents, bounds_options, segment_options, segment_positions
from .transformer_layers import SelfAttentionBlock


class GPTPreTrainedModel(PreTrainedModel):
    """What every GPT head shares: its configuration, its prefix and what it can record."""

    config_class = GPTConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _no_split_modules = ["SelfAttentionBlock"]
    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = _supports_attention_backend = True
    _can_record_outputs = {"hidden_states": SelfAttentionBlock, "attentions": MultiHeadAttention}


class GPTModel(GPTPreTrainedModel):
    """Turns a token sequence into vectors that each see only their left context."""

    def __init__(self, config: GPTConfig):
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.embed_positions = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.dropout = Dropout(config.embedding_dropout if config.embedding_dropout_of == "vectors" else 0.0)
        self.blocks = nn.ModuleList(
            SelfAttentionBlock(config, i, is_causal=True) for i in range(config.num_hidden_layers)
        )
        self.gradient_checkpointing = False
        self.post_init()

    def attends_by_segment(self, vectors: Tensor) -> bool:
        """Whether documents packed into a row are told apart by their bounds: less work than a large mask.

        Always for flash attention, which takes no mask. With sdpa not on a GPU, where many small kernels would be
        slower; nor where the weights are asked for (eager).
        """
        if "flash" in self.config._attn_implementation:
            return True
        is_sdpa = self.config._attn_implementation == "sdpa"
        return is_sdpa and vectors.device.type == "cpu" and not torch.compiler.is_compiling()

    def dropped_tables(self) -> tuple[Tensor, Tensor] | None:
        """The token and position tables [V, D], [P, D] of one training step, where their entries are dropped."""
        if not self.training or self.config.embedding_dropout_of != "tables":
            return None
        tables = (self.embed_tokens.weight, self.embed_positions.weight)
        return tuple(dropout(table, self.config.embedding_dropout) for table in tables)

    @takes_cache
    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        cache=None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        cu_seq_lens_q: Tensor | None = None,
        tables: tuple[Tensor, Tensor] | None = None,
        **kwargs,
    ) -> BaseModelOutputWithPast:
        """input_ids [B, T], attention_mask [B, seen + T] (0 = padding) -> last_hidden_state [B, T, D].

        `position_ids` [B, T] that restart at 0 pack several documents into a row, `cu_seq_lens_q` [documents + 1] into
        one row [1, T]: without an `attention_mask` none of them sees another. `tables` are `dropped_tables()`, where a
        head needs the same ones.

        Raises:
            ValueError: a malformed input, or more tokens than `max_position_embeddings`.
        """
        vectors = embed_inputs(self.embed_tokens, input_ids, inputs_embeds)  # [B, T, D]
        if use_cache and cache is None:
            cache = DynamicCache(config=self.config)
        seen, length = cache.get_seq_length() if cache is not None else 0, vectors.shape[1]
        check_mask(attention_mask, vectors.shape[0], seen, length)
        if cu_seq_lens_q is not None:
            kwargs |= segment_options(cu_seq_lens_q, vectors.shape[0], length, attention_mask)
            position_ids = segment_positions(cu_seq_lens_q, length) if position_ids is None else position_ids
        elif (
            position_ids is not None and attention_mask is None and cache is None and self.attends_by_segment(vectors)
        ):
            # packing is read off restarting positions that the caller gave, never off those computed here
            cu_seq_lens_q = bounds_of_documents(position_ids)
            if cu_seq_lens_q is not None:
                kwargs |= bounds_options(cu_seq_lens_q)
        mask = None
        if cu_seq_lens_q is None:
            mask = create_causal_mask(self.config, vectors, attention_mask, cache, position_ids=position_ids)
        if position_ids is None:
            position_ids = token_positions(attention_mask, seen, length, vectors.device)
        check_positions(position_ids, self.config.max_position_embeddings)

        tables = tables or self.dropped_tables()
        if tables is None:
            positions = self.embed_positions(position_ids)
        else:
            vectors = vectors if input_ids is None else tables[0][input_ids]
            positions = tables[1][position_ids]
        hidden_states = self.dropout(vectors + positions)  # [B, T, D]
        for block in self.blocks:
            hidden_states = block(hidden_states, mask, cache=cache, **kwargs)
        return BaseModelOutputWithPast(hidden_states, cache)


class GPTWithOutputLayer(GPTPreTrainedModel):
    """What the heads share that predict tokens: the output layer, tied to the token vectors."""

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}

    def __init__(self, config: GPTConfig):
        super().__init__(config)
        self.model = GPTModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def next_token_scores(self, vectors: Tensor, tables: tuple[Tensor, Tensor] | None) -> Tensor:
        """[..., D] -> [..., V]; a tied layer loses the entries that the token table has lost (`dropped_tables`)."""
        if tables is not None and self.config.tie_word_embeddings:
            return linear(vectors, tables[0])
        return self.lm_head(vectors)


@shifts_labels
class GPTForCausalLM(GPTWithOutputLayer, GenerationMixin):
    """GPT with the tied output layer that turns each vector into a distribution over the next token."""

    def __init__(self, config: GPTConfig):
        super().__init__(config)
        self.post_init()

    @takes_cache
    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        cache=None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        cu_seq_lens_q: Tensor | None = None,
        **kwargs,
    ) -> CausalLMOutputWithPast:
        """Logits [B, T, V] of the next token; with `labels` [B, T] (input_ids, −100 = not scored) the mean loss.

        The labels are shifted here; `shift_labels` [B, T], already one token ahead, is taken as it is.
        """
        tables = self.model.dropped_tables()
        outputs = self.model(
            input_ids,
            attention_mask,
            position_ids,
            cache=cache,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            cu_seq_lens_q=cu_seq_lens_q,
            tables=tables,
            **kwargs,
        )
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.next_token_scores(outputs.last_hidden_state[:, kept], tables)  # [B, T, V]
        loss = None
        if labels is not None:
            loss = next_token_loss(logits, labels, attention_mask=attention_mask, cu_seq_lens=cu_seq_lens_q, **kwargs)
        return CausalLMOutputWithPast(loss, logits, cache_of(outputs), outputs.hidden_states, outputs.attentions)


class GPTWithClassifier(GPTWithOutputLayer):
    """What the heads share that judge whole texts: the vector at the extract token, and the language model's loss."""

    def __init__(self, config: GPTConfig):
        super().__init__(config)
        self.dropout = Dropout(config.classifier_dropout)

    def read(self, input_ids, attention_mask, inputs_embeds, labels: Tensor | None, num_items, kwargs: dict):
        """Texts [..., T] -> the base model's outputs, vectors [..., D] at the last tokens, and λ L1 with `labels` [B].

        The outputs have one row for each text.
        """
        ids, mask, embeds = in_rows(input_ids, 2), in_rows(attention_mask, 2), in_rows(inputs_embeds, 3)
        tables = self.model.dropped_tables()
        outputs = self.model(ids, mask, inputs_embeds=embeds, use_cache=False, tables=tables, **kwargs)
        weight, loss = self.config.lm_loss_weight, 0.0
        check_terms(labels, num_items, lm_loss_weight=weight)
        if labels is not None and weight:
            if ids is None:
                raise ValueError(
                    f"lm_loss_weight is {weight}, but inputs_embeds do not say which token comes next: give input_ids "
                    "or set lm_loss_weight to 0"
                )
            loss = weight * self.language_model_loss(outputs.last_hidden_state, ids, mask, tables)
            # accumulated batches share one mean over all their examples: each brings its part
            loss = mean_of(loss * len(labels), len(labels), num_items, labels.ne(IGNORED).sum())
        texts = input_ids.shape[:-1] if embeds is None else inputs_embeds.shape[:-2]
        return outputs, vectors_at_last_token(outputs.last_hidden_state, mask).unflatten(0, texts), loss

    def language_model_loss(self, vectors: Tensor, ids: Tensor, mask: Tensor | None, tables) -> Tensor:
        """Mean over the texts of each one's mean loss over its tokens but the first: vectors [B, T, D], ids [B, T]."""
        row, column = (torch.ones_like(ids) if mask is None else mask).nonzero(as_tuple=True)
        follows = row[1:] == row[:-1]
        row, read, predicted = row[1:][follows], column[:-1][follows], column[1:][follows]
        # padding has no scores: they would be the larger part of the work
        scores = self.next_token_scores(vectors[row, read], tables)  # [tokens, V]
        losses = cross_entropy(scores.float(), ids[row, predicted], reduction="none")
        return (losses / (row.bincount(minlength=len(ids))[row] * len(ids))).sum()


def in_rows(x: Tensor | None, dimensions: int) -> Tensor | None:
    """A tensor that has one dimension too many, the texts of an example, with each text in a row of its own."""
    return x.flatten(0, 1) if isinstance(x, Tensor) and x.dim() == dimensions + 1 else x


class GPTForSequenceClassification(GPTWithClassifier):
    """GPT that classifies a text, or a pair of texts, by the vector at its last token (section 3.2)."""

    def __init__(self, config: GPTConfig):
        super().__init__(config)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
        smoothing: float = 0.0,
        **kwargs,
    ) -> SequenceClassifierOutput:
        """Scores [B, num_labels] of each text [B, T], or of each pair in both orders [B, 2, T] (vectors are added).

        With `labels` [B] the loss of the scores (regression if num_labels is 1) plus `lm_loss_weight` times the
        language model's.

        Raises:
            ValueError: labels and inputs_embeds are given though lm_loss_weight is not 0.
        """
        outputs, vectors, lm_loss = self.read(
            input_ids, attention_mask, inputs_embeds, labels, num_items_in_batch, kwargs
        )
        if vectors.dim() == 3:
            vectors = vectors.sum(1)
        logits = self.classifier(self.dropout(vectors))  # [B, num_labels]
        loss = None
        if labels is not None:
            loss = classification_loss(logits, labels, self.config, num_items_in_batch, smoothing) + lm_loss
        return SequenceClassifierOutput(loss, logits, outputs.hidden_states, outputs.attentions)


class GPTForMultipleChoice(GPTWithClassifier):
    """GPT that scores each answer to a question, read after it, by the vector at its last token (section 3.3)."""

    def __init__(self, config: GPTConfig):
        super().__init__(config)
        self.scorer = nn.Linear(config.hidden_size, 1)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
        smoothing: float = 0.0,
        **kwargs,
    ) -> MultipleChoiceModelOutput:
        """Scores [B, C] of the C choices [B, C, T]; with `labels` [B] the loss as in GPTForSequenceClassification.

        Dropout takes the same units from all choices of a question, so that it does not decide between them.

        Raises:
            ValueError: the choices have no dimension of their own; labels and inputs_embeds are given though
                lm_loss_weight is not 0.
        """
        outputs, vectors, lm_loss = self.read(
            input_ids, attention_mask, inputs_embeds, labels, num_items_in_batch, kwargs
        )
        if vectors.dim() != 3:
            raise ValueError(f"input_ids must have shape [batch, choices, time], not {list(input_ids.shape)}")
        kept = self.dropout(torch.ones_like(vectors[:, :1]))  # [B, 1, D]
        logits = self.scorer(vectors * kept).squeeze(2)  # [B, C]
        loss = None
        if labels is not None:
            check_ids("labels", labels, logits.shape[1], "choices", IGNORED)
            loss = mean_cross_entropy(logits, labels, num_items_in_batch, smoothing) + lm_loss
        return MultipleChoiceModelOutput(loss, logits, outputs.hidden_states, outputs.attentions)


class GPTForTokenClassification(GPTPreTrainedModel):
    """GPT that labels every token by its vector, which has seen the tokens before it only."""

    def __init__(self, config: GPTConfig):
        super().__init__(config)
        self.model = GPTModel(config)
        self.dropout = Dropout(config.classifier_dropout)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
        smoothing: float = 0.0,
        **kwargs,
    ) -> TokenClassifierOutput:
        """Scores [B, T, num_labels] of each token; with `labels` [B, T] (−100 = not scored) the loss."""
        outputs = self.model(input_ids, attention_mask, inputs_embeds=inputs_embeds, use_cache=False, **kwargs)
        logits = self.classifier(self.dropout(outputs.last_hidden_state))
        loss = None
        if labels is not None:
            check_ids("labels", labels, self.config.num_labels, "num_labels", IGNORED)
            loss = mean_cross_entropy(logits, labels, num_items_in_batch, smoothing)
        return TokenClassifierOutput(loss, logits, outputs.hidden_states, outputs.attentions)
