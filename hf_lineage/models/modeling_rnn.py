"""RNN, LSTM and GRU language models (Elman, 1990; Hochreiter & Schmidhuber, 1997; Cho et al., 2014).

What changes from NNLM: a state carried from word to word replaces the fixed window, so that context has no limit.
input_ids [B, T] -> vectors [B, T, E] -> N recurrent layers [B, T, D] (state [B, D] carried over) -> logits [B, T, V]
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout
from transformers import GenerationMixin
from transformers import initialization as init
from transformers.modeling_outputs import (
    BaseModelOutputWithPast,
    CausalLMOutputWithPast,
    MultipleChoiceModelOutput,
    QuestionAnsweringModelOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)
from transformers.utils.generic import can_return_tuple, merge_with_config_defaults

from .cache_argument import CACHE_FIELD, WithoutPagedCache, takes_cache
from .choices import choice_loss, choices_in, in_rows
from .classification import classification_loss, refuse_smoothing, span_loss
from .configuration_rnn import GRUConfig, LSTMConfig, RecurrentConfig, RNNConfig
from .inputs import IGNORED
from .loss_terms import check_terms
from .losses import next_token_loss, shifts_labels
from .pooling import pooled, pooled_size, vectors_at_last_token
from .recurrent_cells import GRUCell, LSTMCell, RNNCell
from .recurrent_layers import RecurrentCell, RecurrentLayer, to_front, to_places
from .recurrent_state import keep_states, read_texts, states_of
from .saved_models import LineagePreTrainedModel
from .token_labels import LabelsTokens


if TYPE_CHECKING:
    # as in encoder_decoder.py: a repository brings the pipelines of its heads
    from .pipeline_question_answering import QuestionAnsweringPipeline  # noqa: F401


class Dropout(nn.Module):
    """Dropout of x [B, T, D]; if locked (Gal & Ghahramani, 2016), one mask serves all time steps."""

    def __init__(self, probability: float, mask: str):
        super().__init__()
        self.probability = probability
        self.locked = mask == "locked"

    def forward(self, x: Tensor) -> Tensor:
        if not self.locked:
            return dropout(x, self.probability, self.training)
        return x * dropout(torch.ones_like(x[:, :1]), self.probability, self.training)


@dataclass
class RecurrentModelOutput(BaseModelOutputWithPast):
    """BaseModelOutputWithPast with the penalties on activations in training (AR and TAR)."""

    penalty: Tensor | None = None


def mean_square(x: Tensor, counted: Tensor | None) -> Tensor:
    """The mean square of x [B, T, D] over the positions that `counted` [B, T] marks."""
    if counted is None:
        counted = x.new_ones(x.shape[:2])
    return (x.square().mean(2) * counted).sum() / counted.sum().clamp(min=1)


class RecurrentPreTrainedModel(LineagePreTrainedModel):
    """What every head of the three families shares: all weights start uniform in ±initializer_range."""

    config_class = RecurrentConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    # generate() must not try assisted decoding: a state cannot be rolled back token by token
    _is_stateful = True
    _no_split_modules = ["RecurrentLayer"]

    def _init_weights(self, module):
        if isinstance(module, (nn.Embedding, nn.Linear, RecurrentCell)):
            for parameter in module.parameters(recurse=False):
                init.uniform_(parameter, -self.config.initializer_range, self.config.initializer_range)
        if isinstance(module, LSTMCell) and self.config.forget_gate_bias is not None:
            init.copy_(module.bias, module.bias_of_forget_gate(self.config.forget_gate_bias))


class RNNModel(RecurrentPreTrainedModel):
    """Turns a token sequence into vectors, each computed from the token and the state before it."""

    config_class = RNNConfig

    def __init__(self, config: RecurrentConfig):
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.embedding_size)
        self.input_dropout, self.hidden_dropout, self.output_dropout = (
            Dropout(config.dropout if probability is None else probability, config.dropout_mask)
            for probability in (config.input_dropout, config.hidden_dropout, config.dropout)
        )
        sizes = zip([config.embedding_size, *config.output_sizes], config.layer_sizes, strict=False)
        self.layers = nn.ModuleList(
            RecurrentLayer(self.new_cell(*size), self.new_cell(*size) if config.bidirectional else None)
            for size in sizes
        )
        self.gradient_checkpointing = False
        self.post_init()

    def new_cell(self, input_size: int, hidden_size: int) -> RecurrentCell:
        """The cell that gives the family its name."""
        return RNNCell(input_size, hidden_size, self.config.hidden_act, weight_dropout=self.config.weight_dropout)

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

        `cache` carries the state of each layer from call to call. Vectors over padding are zero.

        Raises:
            ValueError: a malformed input, or a cache given to a bidirectional model, which must see the whole text.
        """
        use_cache = use_cache and not self.config.bidirectional
        x, cache = read_texts(self, input_ids, inputs_embeds, attention_mask, cache, use_cache)  # [B, T, E]
        if cache is not None and self.config.bidirectional:
            raise ValueError("cache cannot continue a bidirectional model: give it the whole text at once")
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        x = self.without_some_words(x, input_ids)
        *layers, x, dropped = self.run_layers(x, attention_mask, cache, output_hidden_states)  # [B, T, D]
        shown = (*layers, dropped) if output_hidden_states else None
        return RecurrentModelOutput(dropped, cache, shown, penalty=self.penalty(dropped, x, attention_mask))

    # the cells run in kernels, with almost nothing to compile between them
    @torch.compiler.disable
    def run_layers(self, x: Tensor, attention_mask: Tensor | None, cache, all_layers: bool) -> list[Tensor]:
        """x [B, T, E] -> the last layer's vectors [B, T, D], before and after dropout; `all_layers` first if asked."""
        x, padding = to_front(x, attention_mask)
        x = self.input_dropout(x)
        read, states = [x], states_of(cache, len(self.layers))
        for i, layer in enumerate(self.layers):
            x, states[i] = layer(self.hidden_dropout(x) if i else x, states[i], padding)
            read.append(x)
        keep_states(cache, states, x.shape[1])
        shown = [to_places(x, padding) for x in (read if all_layers else read[-1:])]
        return [*shown, self.output_dropout(shown[-1])]

    def without_some_words(self, x: Tensor, input_ids: Tensor | None) -> Tensor:
        """x [B, T, E] without the words that `embedding_dropout` drops from the vocabulary in a training step."""
        if not self.training or self.config.embedding_dropout == 0 or input_ids is None:
            return x
        kept = dropout(x.new_ones(self.config.vocab_size, 1), self.config.embedding_dropout)
        return x * kept[input_ids]

    def penalty(self, dropped: Tensor, x: Tensor, attention_mask: Tensor | None) -> Tensor | None:
        """α times the output's mean square after dropout, plus β times that of its change before dropout (AR, TAR)."""
        activation, change = self.config.activation_penalty, self.config.change_penalty
        if not self.training or not (activation or change):
            return None
        counted = attention_mask[:, -x.shape[1] :] if attention_mask is not None else None
        pairs = counted[:, 1:] * counted[:, :-1] if counted is not None else None
        return activation * mean_square(dropped, counted) + change * mean_square(x[:, 1:] - x[:, :-1], pairs)


class LSTMModel(RNNModel):
    """RNNModel with LSTM cells: gates guard a second state, through which gradients flow undamped."""

    config_class = LSTMConfig

    def new_cell(self, input_size: int, hidden_size: int) -> RecurrentCell:
        return LSTMCell(
            input_size,
            hidden_size,
            peephole=self.config.peephole,
            coupled_gates=self.config.coupled_gates,
            projection_size=self.config.projection_size,
            cell_clip=self.config.cell_clip,
            projection_clip=self.config.projection_clip,
            weight_dropout=self.config.weight_dropout,
        )


class GRUModel(RNNModel):
    """RNNModel with GRU cells, which keep or replace the state unit by unit."""

    config_class = GRUConfig

    def new_cell(self, input_size: int, hidden_size: int) -> RecurrentCell:
        return GRUCell(
            input_size,
            hidden_size,
            reset_mode=self.config.reset_mode,
            update_convention=self.config.update_convention,
            weight_dropout=self.config.weight_dropout,
        )


@shifts_labels
class RNNForCausalLM(RecurrentPreTrainedModel, WithoutPagedCache, GenerationMixin):
    """Recurrent model with an output layer that turns each vector into a distribution over the next token."""

    config_class = RNNConfig
    model_class = RNNModel
    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}

    def __init__(self, config: RecurrentConfig):
        super().__init__(config)
        if config.bidirectional:
            raise ValueError("a causal language model cannot read backwards: set bidirectional=False")
        self.model = self.model_class(config)
        self.lm_head = nn.Linear(config.output_size, config.vocab_size)
        self.post_init()

    def _get_static_cache_init_shape(self):
        # generate() would reserve memory for attention heads, and a state has none
        return None

    @takes_cache
    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        cache=None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        **kwargs,
    ) -> CausalLMOutputWithPast:
        """Logits [B, T, V] of the next token; with `labels` [B, T] (input_ids, −100 = not scored) the mean loss.

        In training the configuration's penalties are part of the loss. This method shifts `labels`, but not
        `shift_labels` [B, T], which are already one token ahead.
        """
        if labels is None:
            penalties = ("activation_penalty", "change_penalty")
            check_terms(kwargs.get("num_items_in_batch"), **{name: getattr(self.config, name) for name in penalties})
        outputs = self.model(
            input_ids,
            attention_mask,
            cache=cache,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            **kwargs,
        )
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(outputs.last_hidden_state[:, kept])  # [B, T, V]
        loss = None
        if labels is not None:
            loss = next_token_loss(logits, labels, attention_mask=attention_mask, **kwargs)
            if outputs.penalty is not None:
                loss = loss + outputs.penalty * share_of_update(labels, **kwargs)
        return CausalLMOutputWithPast(loss, logits, outputs.get(CACHE_FIELD), outputs.hidden_states)


def share_of_update(labels: Tensor, shift_labels=None, num_items_in_batch=None, **kwargs) -> Tensor | int:
    """This batch's share of its update: accumulated batches have one mean over all their tokens."""
    if num_items_in_batch is None:
        return 1
    return (labels[:, 1:] if shift_labels is None else shift_labels).ne(IGNORED).sum() / num_items_in_batch


@shifts_labels
class LSTMForCausalLM(RNNForCausalLM, GenerationMixin):
    """The LSTM language model (Zaremba et al., 2014)."""

    config_class = LSTMConfig
    model_class = LSTMModel


@shifts_labels
class GRUForCausalLM(RNNForCausalLM, GenerationMixin):
    """The GRU language model."""

    config_class = GRUConfig
    model_class = GRUModel


class RecurrentModelForTask(RecurrentPreTrainedModel):
    """What the heads without a language model share: the model, and dropout on its vectors."""

    config_class = RNNConfig
    model_class = RNNModel

    def __init__(self, config: RecurrentConfig):
        super().__init__(config)
        self.model = self.model_class(config)
        self.dropout = nn.Dropout(config.classifier_dropout)

    def read(self, input_ids, attention_mask, inputs_embeds, options: dict) -> RecurrentModelOutput:
        return self.model(input_ids, attention_mask, inputs_embeds=inputs_embeds, **options | {"use_cache": False})

    def summary(self, x: Tensor, attention_mask: Tensor | None) -> Tensor:
        """x [B, T, D] -> [B, D]: the forward vector of the last token and the backward vector of the first, or what
        `classifier_pooling` says.
        """
        last = vectors_at_last_token(x, attention_mask)
        # read backwards, the first token comes last
        first = vectors_at_last_token(x.flip(1), None if attention_mask is None else attention_mask.flip(1))
        forward_half = self.config.direction_sizes[-1]
        ends = torch.cat([last[:, :forward_half], first[:, forward_half:]], dim=1)
        return pooled(self.config, ends, x, attention_mask)


class RNNForSequenceClassification(RecurrentModelForTask):
    """Recurrent model that labels a text by the vector after its last token, in each direction."""

    def __init__(self, config: RecurrentConfig):
        super().__init__(config)
        self.classifier = nn.Linear(pooled_size(config, config.output_size), config.num_labels)
        self.post_init()
        refuse_smoothing(self)

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        **kwargs,
    ) -> SequenceClassifierOutput:
        """Scores [B, num_labels] of each text; with `labels` [B] the loss (regression if num_labels is 1)."""
        outputs = self.read(input_ids, attention_mask, inputs_embeds, kwargs)
        logits = self.classifier(self.dropout(self.summary(outputs.last_hidden_state, attention_mask)))
        loss = classification_loss(logits, labels, self.config, **kwargs) if labels is not None else None
        return SequenceClassifierOutput(loss, logits, outputs.hidden_states)


class LSTMForSequenceClassification(RNNForSequenceClassification):
    """RNNForSequenceClassification with LSTM cells."""

    config_class = LSTMConfig
    model_class = LSTMModel


class GRUForSequenceClassification(RNNForSequenceClassification):
    """RNNForSequenceClassification with GRU cells."""

    config_class = GRUConfig
    model_class = GRUModel


class RNNForTokenClassification(LabelsTokens, RecurrentModelForTask):
    """Recurrent model that labels every token by its vector."""

    def __init__(self, config: RecurrentConfig):
        super().__init__(config)
        self.classifier = nn.Linear(config.output_size, config.num_labels)
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
        outputs = self.read(input_ids, attention_mask, inputs_embeds, kwargs)
        logits = self.classifier(self.dropout(outputs.last_hidden_state))
        loss = self.label_loss(logits, labels, num_items_in_batch, smoothing)
        return TokenClassifierOutput(loss, logits, outputs.hidden_states)


class LSTMForTokenClassification(RNNForTokenClassification):
    """RNNForTokenClassification with LSTM cells."""

    config_class = LSTMConfig
    model_class = LSTMModel


class GRUForTokenClassification(RNNForTokenClassification):
    """RNNForTokenClassification with GRU cells."""

    config_class = GRUConfig
    model_class = GRUModel


class RNNForMultipleChoice(RecurrentModelForTask):
    """Recurrent model that scores each choice, read after its question, by the vector after its last token."""

    def __init__(self, config: RecurrentConfig):
        super().__init__(config)
        self.scorer = nn.Linear(pooled_size(config, config.output_size), 1)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        **kwargs,
    ) -> MultipleChoiceModelOutput:
        """Scores [B, C] of the C choices [B, C, T]; with `labels` [B] the loss.

        Raises:
            ValueError: the inputs have no dimension for the choices.
        """
        mask = in_rows(attention_mask, 2)
        outputs = self.read(in_rows(input_ids, 2), mask, in_rows(inputs_embeds, 3), kwargs)
        shape = choices_in(input_ids=input_ids, inputs_embeds=inputs_embeds)
        logits = self.scorer(self.dropout(self.summary(outputs.last_hidden_state, mask))).view(shape)
        return MultipleChoiceModelOutput(choice_loss(logits, labels, **kwargs), logits, outputs.hidden_states)


class LSTMForMultipleChoice(RNNForMultipleChoice):
    """RNNForMultipleChoice with LSTM cells."""

    config_class = LSTMConfig
    model_class = LSTMModel


class GRUForMultipleChoice(RNNForMultipleChoice):
    """RNNForMultipleChoice with GRU cells."""

    config_class = GRUConfig
    model_class = GRUModel


class RNNForQuestionAnswering(RecurrentModelForTask):
    """Recurrent model that marks the first and the last token of an answer, each by its vector."""

    def __init__(self, config: RecurrentConfig):
        super().__init__(config)
        self.qa_outputs = nn.Linear(config.output_size, 2)
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
        outputs = self.read(input_ids, attention_mask, inputs_embeds, kwargs)
        start_logits, end_logits = self.qa_outputs(self.dropout(outputs.last_hidden_state)).unbind(2)
        loss = None
        if start_positions is not None and end_positions is not None:
            counts = num_items_in_batch, num_ends_in_batch
            positions = start_positions, end_positions
            loss = span_loss(start_logits, end_logits, *positions, attention_mask, smoothing, *counts)
        return QuestionAnsweringModelOutput(loss, start_logits, end_logits, outputs.hidden_states)


class LSTMForQuestionAnswering(RNNForQuestionAnswering):
    """RNNForQuestionAnswering with LSTM cells."""

    config_class = LSTMConfig
    model_class = LSTMModel


class GRUForQuestionAnswering(RNNForQuestionAnswering):
    """RNNForQuestionAnswering with GRU cells."""

    config_class = GRUConfig
    model_class = GRUModel
