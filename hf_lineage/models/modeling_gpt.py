"""GPT (Radford et al., 2018): the Transformer's decoder alone, trained to predict the next token.

What changes from the Transformer: no encoder, hence no cross-attention; learned positions; GELU for ReLU.
input_ids [B, T] -> token + position vectors [B, T, D] -> N masked blocks [B, T, D] -> logits [B, T, V]
For fine-tuning, a linear layer reads the vector at a text's last token, the extract token (section 3.2).
"""

import copy
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, dropout, embedding, linear
from transformers import GenerationMixin
from transformers.modeling_outputs import (
    BaseModelOutputWithPast,
    CausalLMOutputWithPast,
    MultipleChoiceModelOutput,
    QuestionAnsweringModelOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)
from transformers.utils import logging
from transformers.utils.generic import can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from .cache_argument import CACHE_FIELD, takes_cache
from .choices import choice_loss, choices_in, in_rows
from .classification import classification_loss, refuse_smoothing, span_loss
from .configuration_gpt import GPTConfig
from .fast_dropout import Dropout
from .inputs import IGNORED, embed_inputs, kind_of
from .loss_terms import check_terms
from .losses import mean_of, next_token_loss, shifts_labels
from .pooling import pooled, pooled_size, vectors_at_last_token
from .reading import read_texts
from .saved_models import LineagePreTrainedModel
from .token_labels import LabelsTokens
from .transformer_layers import MultiHeadAttention, SelfAttentionBlock


if TYPE_CHECKING:
    # as in encoder_decoder.py: a repository brings the pipelines of its heads
    from .pipeline_question_answering import QuestionAnsweringPipeline  # noqa: F401


logger = logging.get_logger(__name__)


class GPTPreTrainedModel(LineagePreTrainedModel):
    """What every GPT head shares: configuration, prefix and recordable outputs."""

    config_class = GPTConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _no_split_modules = ["SelfAttentionBlock"]
    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = _supports_attention_backend = True
    _can_record_outputs = {"hidden_states": SelfAttentionBlock, "attentions": MultiHeadAttention}


class DroppedTable(nn.Embedding):
    """An embedding that drops entries of its table, the same for all tokens of a step, as in the released code."""

    def __init__(self, rows: int, size: int, dropout: float):
        super().__init__(rows, size)
        self.dropout = dropout

    def of_one_step(self) -> Tensor:
        """The table [rows, size] of one training step."""
        return dropout(self.weight, self.dropout, self.training)

    def forward(self, ids: Tensor) -> Tensor:
        """[B, T] -> [B, T, size]"""
        return embedding(ids, self.of_one_step())


class GPTModel(GPTPreTrainedModel):
    """Turns a token sequence into vectors; each sees only its left context."""

    def __init__(self, config: GPTConfig):
        super().__init__(config)
        of_tables = config.embedding_dropout_of == "tables"
        new_table = partial(DroppedTable, dropout=config.embedding_dropout) if of_tables else nn.Embedding
        self.embed_tokens = new_table(config.vocab_size, config.hidden_size)
        self.embed_positions = new_table(config.max_position_embeddings, config.hidden_size)
        self.dropout = Dropout(0.0 if of_tables else config.embedding_dropout)
        self.blocks = nn.ModuleList(
            SelfAttentionBlock(config, i, is_causal=True) for i in range(config.num_hidden_layers)
        )
        self.gradient_checkpointing = False
        self.post_init()

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
        **kwargs,
    ) -> BaseModelOutputWithPast:
        """input_ids [B, T], attention_mask [B, seen + T] (0 = padding) -> last_hidden_state [B, T, D].

        `position_ids` [B, T] that restart at 0 mark several documents in a row, `cu_seq_lens_q` [documents + 1] their
        bounds in one row [1, T]. Without an `attention_mask` no document sees another.

        Raises:
            ValueError: a malformed input, or more tokens than `max_position_embeddings`.
        """
        text = read_texts(
            self, input_ids, inputs_embeds, attention_mask, position_ids, cache, use_cache, cu_seq_lens_q, **kwargs
        )
        # --8<-- [start:idea]
        x = self.dropout(text.vectors + self.embed_positions(text.position_ids))  # [B, T, D]
        for block in self.blocks:
            x = block(x, text.mask, cache=text.cache, **text.options)
        return BaseModelOutputWithPast(x, text.cache)
        # --8<-- [end:idea]


class GPTWithOutputLayer(GPTPreTrainedModel):
    """What heads that predict tokens share: the output layer, tied to the token vectors."""

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}

    def __init__(self, config: GPTConfig):
        super().__init__(config)
        self.model = GPTModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def read(self, input_ids, *arguments, inputs_embeds=None, **kwargs) -> tuple[BaseModelOutputWithPast, Callable]:
        """The base model's outputs, and the function [..., D] -> [..., V] that scores the next token.

        A tied layer loses the entries that the token table loses in this step (`DroppedTable`); not if one of them is
        wrapped in an adapter.
        """
        tokens = self.model.embed_tokens
        if not (self.training and self.config.tie_word_embeddings and isinstance(tokens, DroppedTable)):
            return self.model(input_ids, *arguments, inputs_embeds=inputs_embeds, **kwargs), self.lm_head
        table = tokens.of_one_step()
        vectors = embed_inputs(tokens, input_ids, inputs_embeds, look_up=partial(embedding, weight=table))
        return self.model(None, *arguments, inputs_embeds=vectors, **kwargs), partial(linear, weight=table)


@shifts_labels
class GPTForCausalLM(GPTWithOutputLayer, GenerationMixin):
    """GPT with the tied output layer that turns each vector into a distribution over the next token."""

    def __init__(self, config: GPTConfig):
        super().__init__(config)
        self.post_init()

    @torch.no_grad()
    def generate(self, inputs: Tensor | None = None, generation_config=None, *args, **kwargs):
        """transformers' generate; reads the end of a prompt that is too long, half of the positions at least."""
        prompt, limit = kwargs.get("input_ids") if inputs is None else inputs, self.config.max_position_embeddings
        if prompt is None or prompt.shape[-1] <= limit or {"cache", "past_key_values", "inputs_embeds"} & {*kwargs}:
            return super().generate(inputs, generation_config, *args, **kwargs)
        options, length = copy.deepcopy(generation_config or self.generation_config), prompt.shape[1]
        given = options.update(**kwargs)
        new = options.max_new_tokens or (options.max_length or length + 20) - length
        kept = min(limit, max(limit + 1 - new, (limit + 1) // 2))
        logger.warning(f"The prompt has {length} tokens, the model {limit} positions: it reads the last {kept}.")
        for name in ("max_length", "min_length"):
            if getattr(options, name) is not None:
                setattr(options, name, max(getattr(options, name) - length + kept, 0))
        if given.get("attention_mask") is not None:
            given["attention_mask"] = given["attention_mask"][:, -kept:]
        before, given["input_ids"] = prompt.tensor_split([length - kept], dim=1)
        answer = super().generate(None, options, *args, **given)
        sequences = answer if isinstance(answer, Tensor) else answer.sequences
        before = before.to(sequences.device).repeat_interleave(len(sequences) // len(before), 0)
        whole = torch.cat([before, sequences], 1)
        if isinstance(answer, Tensor):
            return whole
        answer.sequences = whole
        return answer

    def _prepare_generated_length(self, generation_config, **given):
        # as in transformers, but an answer ends at the last position, with transformers' warning
        lengths = super()._prepare_generated_length(generation_config, **given)
        limit, length = self.config.max_position_embeddings, given["input_ids_length"]
        # the last token is not read
        longest = limit + 1 - given["inputs_tensor"].shape[1] + length
        if length < longest < lengths.max_length:
            logger.warning(f"The answer ends at the latest at the model's predefined maximum length ({limit}).")
            lengths.max_length = longest
        return lengths

    def generate_batch(self, inputs: list[list[int]], generation_config=None, *args, **kwargs) -> dict:
        """transformers' continuous batching: prompts of any length share each step.

        Raises:
            ValueError: a prompt and its answer are longer than `max_position_embeddings`.
        """
        options = self.generation_config if generation_config is None else generation_config
        new = kwargs.get("max_new_tokens") or options.max_new_tokens or 1
        longest, limit = max(map(len, inputs), default=0), self.config.max_position_embeddings
        # the last token is not read
        if longest + new - 1 > limit:
            raise ValueError(
                f"a prompt of {longest} tokens and {new} new ones (max_new_tokens) are more than the {limit} "
                "positions of this model (max_position_embeddings): shorten one of them"
            )
        return super().generate_batch(inputs, generation_config, *args, **kwargs)

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

        This method shifts `labels`, but not `shift_labels` [B, T], which are already one token ahead.
        """
        outputs, scores = self.read(
            input_ids,
            attention_mask,
            position_ids,
            cache=cache,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            cu_seq_lens_q=cu_seq_lens_q,
            **kwargs,
        )
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = scores(outputs.last_hidden_state[:, kept])  # [B, T, V]
        loss = None
        if labels is not None:
            loss = next_token_loss(logits, labels, attention_mask=attention_mask, cu_seq_lens=cu_seq_lens_q, **kwargs)
        return CausalLMOutputWithPast(
            loss, logits, outputs.get(CACHE_FIELD), outputs.hidden_states, outputs.attentions
        )


class GPTWithClassifier(GPTWithOutputLayer):
    """What heads that judge whole texts share: the vector at the extract token, and the language model's loss."""

    def __init__(self, config: GPTConfig):
        super().__init__(config)
        self.dropout = Dropout(config.classifier_dropout)

    def read_to_the_end(
        self, input_ids, attention_mask, inputs_embeds, labels: Tensor | None, num_items, options: dict
    ):
        """Texts [..., T] -> the base model's outputs, vectors [..., D] at the last tokens, and λ L1 with `labels` [B].

        `classifier_pooling` may take other vectors.
        The outputs have one row per text.
        """
        ids, mask, embeds = in_rows(input_ids, 2), in_rows(attention_mask, 2), in_rows(inputs_embeds, 3)
        outputs, scores = self.read(ids, mask, inputs_embeds=embeds, **options | {"use_cache": False})
        weight, loss = self.config.lm_loss_weight, 0.0
        if labels is None:
            check_terms(num_items, lm_loss_weight=weight)
        elif weight:
            if ids is None:
                raise ValueError(
                    f"lm_loss_weight is {weight}, but inputs_embeds do not say which token comes next: give input_ids "
                    "or set lm_loss_weight to 0"
                )
            if not isinstance(labels, Tensor) or len(labels) != len(input_ids):
                raise ValueError(
                    f"labels must be a tensor with a row for each of the {len(input_ids)} examples, not "
                    f"{kind_of(labels)}"
                )
            losses = language_model_losses(outputs.last_hidden_state, ids, mask, scores)
            # accumulated batches have one mean over all their examples that have a label; each adds its part
            has_label = (labels.ne(IGNORED) | labels.is_floating_point()).view(len(labels), -1).any(1)
            total = (losses.view(len(labels), -1).mean(1) * has_label).sum()
            loss = weight * mean_of(total, has_label.sum(), num_items, labels.ne(IGNORED).sum())
        texts = input_ids.shape[:-1] if embeds is None else inputs_embeds.shape[:-2]
        x = outputs.last_hidden_state
        return outputs, pooled(self.config, vectors_at_last_token(x, mask), x, mask).unflatten(0, texts), loss


def language_model_losses(vectors: Tensor, ids: Tensor, mask: Tensor | None, scores: Callable) -> Tensor:
    """Each text's mean loss [B] over its tokens without the first.

    vectors [B, T, D], ids [B, T]; `scores` [..., D] -> [..., V] scores the next token.
    """
    row, column = (torch.ones_like(ids) if mask is None else mask).nonzero(as_tuple=True)
    follows = row[1:] == row[:-1]
    row, read, predicted = row[1:][follows], column[:-1][follows], column[1:][follows]
    # padding gets no scores, which would be most of the work
    logits = scores(vectors[row, read])  # [tokens, V]
    losses = cross_entropy(logits.float(), ids[row, predicted], reduction="none")
    return losses.new_zeros(len(ids)).index_add(0, row, losses / row.bincount(minlength=len(ids))[row])


class GPTForSequenceClassification(GPTWithClassifier):
    """GPT that classifies a text, or a pair of texts, by the vector at its last token (section 3.2)."""

    def __init__(self, config: GPTConfig):
        super().__init__(config)
        self.classifier = nn.Linear(pooled_size(config, config.hidden_size), config.num_labels)
        self.post_init()
        refuse_smoothing(self)

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
            ValueError: labels and inputs_embeds are given, but lm_loss_weight is not 0.
        """
        outputs, vectors, lm_loss = self.read_to_the_end(
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
        self.scorer = nn.Linear(pooled_size(config, config.hidden_size), 1)
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

        Dropout drops the same units from all choices of a question, so that it does not decide between them.

        Raises:
            ValueError: input_ids have no dimension for the choices; labels and inputs_embeds are given, but
                lm_loss_weight is not 0.
        """
        outputs, vectors, lm_loss = self.read_to_the_end(
            input_ids, attention_mask, inputs_embeds, labels, num_items_in_batch, kwargs
        )
        choices_in(input_ids=input_ids, inputs_embeds=inputs_embeds)
        kept = self.dropout(torch.ones_like(vectors[:, :1]))  # [B, 1, D]
        logits = self.scorer(vectors * kept).squeeze(2)  # [B, C]
        loss = choice_loss(logits, labels, num_items_in_batch, smoothing)
        if loss is not None:
            loss = loss + lm_loss
        return MultipleChoiceModelOutput(loss, logits, outputs.hidden_states, outputs.attentions)


class GPTForTokenClassification(LabelsTokens, GPTPreTrainedModel):
    """GPT that labels every token by its vector, which sees only the tokens before it."""

    def __init__(self, config: GPTConfig):
        super().__init__(config)
        self.model = GPTModel(config)
        self.dropout = Dropout(config.classifier_dropout)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.crf = self.new_chain()
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
        options = kwargs | {"use_cache": False}
        outputs = self.model(input_ids, attention_mask, inputs_embeds=inputs_embeds, **options)
        logits = self.classifier(self.dropout(outputs.last_hidden_state))
        loss = self.label_loss(logits, labels, num_items_in_batch, smoothing)
        return TokenClassifierOutput(loss, logits, outputs.hidden_states, outputs.attentions)


class GPTForQuestionAnswering(GPTPreTrainedModel):
    """GPT that marks the first and last token of an answer; the question stands before the text, to be seen."""

    def __init__(self, config: GPTConfig):
        super().__init__(config)
        self.model = GPTModel(config)
        self.dropout = Dropout(config.classifier_dropout)
        self.qa_outputs = nn.Linear(config.hidden_size, 2)
        self.post_init()
        refuse_smoothing(self)

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        start_positions: Tensor | None = None,
        end_positions: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
        num_ends_in_batch: Tensor | int | None = None,
        smoothing: float = 0.0,
        **kwargs,
    ) -> QuestionAnsweringModelOutput:
        """Scores [B, T] of each token as the answer's first and last; with both positions [B] the loss.

        A position outside the text (truncation cut off the answer) is not scored.
        """
        options = kwargs | {"use_cache": False}
        outputs = self.model(input_ids, attention_mask, inputs_embeds=inputs_embeds, **options)
        start_logits, end_logits = self.qa_outputs(self.dropout(outputs.last_hidden_state)).unbind(2)
        loss = None
        if start_positions is not None and end_positions is not None:
            counts = num_items_in_batch, num_ends_in_batch
            positions = start_positions, end_positions
            loss = span_loss(start_logits, end_logits, *positions, attention_mask, smoothing, *counts)
        return QuestionAnsweringModelOutput(loss, start_logits, end_logits, outputs.hidden_states, outputs.attentions)
