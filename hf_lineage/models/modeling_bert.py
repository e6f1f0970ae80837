"""BERT (Devlin et al., 2019): the Transformer's encoder alone, pretrained to guess masked words.

What changes from GPT: no causal mask, so that each token sees both sides; segments; [CLS] stands for the whole text.
input_ids [B, T] -> word + segment + position vectors [B, T, D] -> N blocks [B, T, D] -> words [B, T, V], text [B, D]
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.conversion_mapping import register_checkpoint_conversion_mapping
from transformers.core_model_loading import WeightRenaming
from transformers.modeling_outputs import (
    BaseModelOutputWithPooling,
    MaskedLMOutput,
    MultipleChoiceModelOutput,
    NextSentencePredictorOutput,
    QuestionAnsweringModelOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)
from transformers.models.bert.modeling_bert import BertForPreTrainingOutput
from transformers.utils.generic import can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from .choices import choice_loss, choices_in, in_rows
from .classification import classification_loss, refuse_smoothing, span_loss
from .configuration_bert import BERTConfig
from .fast_cross_entropy import summed_cross_entropy
from .fast_dropout import Dropout
from .fast_scored import at_scored
from .inputs import IGNORED, check_classes, check_ids
from .loss_terms import check_labels
from .losses import mean_cross_entropy, mean_of
from .pooling import pooled, pooled_size
from .reading import read_texts
from .saved_models import LineagePreTrainedModel
from .token_labels import LabelsTokens
from .transformer_layers import MultiHeadAttention, SelfAttentionBlock


if TYPE_CHECKING:
    # as in encoder_decoder.py: a repository brings the pipelines of its heads
    from .pipeline_next_sentence import NextSentencePipeline  # noqa: F401
    from .pipeline_question_answering import QuestionAnsweringPipeline  # noqa: F401


# the released checkpoints' names for the parts of a block, and ours: files use theirs, so that transformers' BertModel
# opens our files and we open all others (gamma and beta are the names of the first TensorFlow releases)
RELEASED_NAMES = [
    WeightRenaming(f".{theirs}.{suffix}", f".{ours}.{suffix}")
    for theirs, ours in {
        "attention.self.query": "attention.q_proj",
        "attention.self.key": "attention.k_proj",
        "attention.self.value": "attention.v_proj",
        "attention.output.dense": "attention.out_proj",
        "intermediate.dense": "feed_forward.up_proj",
        "output.dense": "feed_forward.down_proj",
    }.items()
    for suffix in ("weight", "bias")
] + [
    WeightRenaming([f".{theirs}.{suffix}", f".{theirs}.{old_suffix}"], f".{ours}.{suffix}")
    for theirs, ours in {
        "attention.output.LayerNorm": "attention_norm",
        "output.LayerNorm": "feed_forward_norm",
    }.items()
    for suffix, old_suffix in (("weight", "gamma"), ("bias", "beta"))
]


class BERTEmbeddings(nn.Module):
    """The normalised sum of three vectors per token (word, position, segment)."""

    def __init__(self, config):
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.type_vocab_size = config.type_vocab_size
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.dropout)

    def forward(self, words: Tensor, position_ids: Tensor, token_type_ids: Tensor | None) -> Tensor:
        """Word vectors [B, T, D], positions and segments (default: the first) [B or 1, T] -> [B, T, D]

        Raises:
            ValueError: there is no such segment.
        """
        if token_type_ids is None:
            token_type_ids = torch.zeros_like(position_ids)
        try:
            segments = self.token_type_embeddings(token_type_ids)
        except (IndexError, RuntimeError):
            check_ids("token_type_ids", token_type_ids, self.type_vocab_size, "type_vocab_size")
            raise
        vectors = words + segments + self.position_embeddings(position_ids)
        return self.dropout(self.LayerNorm(vectors))


class BERTEncoder(nn.Module):
    """The Transformer's blocks, without a causal mask."""

    def __init__(self, config):
        super().__init__()
        self.layer = nn.ModuleList(
            SelfAttentionBlock(config, i, is_causal=False) for i in range(config.num_hidden_layers)
        )

    def forward(self, x: Tensor, attention_mask: Tensor | None, **kwargs) -> Tensor:
        """[B, T, D] -> [B, T, D]"""
        for block in self.layer:
            x = block(x, attention_mask, **kwargs)
        return x


class BERTPooler(nn.Module):
    """tanh(W h + b) of a text's first vector h, at [CLS]."""

    def __init__(self, config):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, x: Tensor, attention_mask: Tensor | None, cu_seq_lens: Tensor | None) -> Tensor:
        """[B, T, D] -> [B, D]; packed texts [1, T, D] -> [texts, D]"""
        if cu_seq_lens is not None:
            first = x[0, cu_seq_lens[:-1]]
        elif attention_mask is not None and attention_mask.dim() == 2 and x.shape[1]:
            mask = attention_mask.bool()
            first = x[torch.arange(x.shape[0], device=x.device), mask.int().argmax(1)] * mask.any(1, keepdim=True)
        else:
            # a sum over one vector, or over none if a text has no token
            first = x[:, :1].sum(1)
        return torch.tanh(self.dense(first))


class BERTTransform(nn.Module):
    """The masked-word head before its output layer: dense layer, activation, LayerNorm."""

    def __init__(self, config):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.activation = ACT2FN[config.hidden_act]
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] -> [..., D]"""
        return self.LayerNorm(self.activation(self.dense(x)))


class BERTPredictions(nn.Module):
    """The masked-word head: the transform, then the word vectors as output layer, with its own bias."""

    def __init__(self, config):
        super().__init__()
        self.transform = BERTTransform(config)
        self.decoder = nn.Linear(config.hidden_size, config.vocab_size)
        # checkpoints hold the tied decoder's bias under this name
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] -> logits [..., V]"""
        return self.decoder(self.transform(x))


class BERTHeads(nn.Module):
    """The heads of pre-training, under the names of the released checkpoints."""

    def __init__(self, config, masked_words: bool = False, next_sentence: bool = False):
        super().__init__()
        if masked_words:
            self.predictions = BERTPredictions(config)
        if next_sentence:
            self.seq_relationship = nn.Linear(config.hidden_size, 2)


class BERTPreTrainedModel(LineagePreTrainedModel):
    """What every BERT head shares: configuration, prefix, initial weights and the names in its files."""

    config_class = BERTConfig
    base_model_prefix = "bert"
    supports_gradient_checkpointing = True
    _no_split_modules = ["BERTEmbeddings", "SelfAttentionBlock"]
    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = _supports_attention_backend = True
    _can_record_outputs = {"hidden_states": SelfAttentionBlock, "attentions": MultiHeadAttention}
    _keys_to_ignore_on_load_unexpected = [r"^cls\.(predictions|seq_relationship)\.", r"embeddings\.position_ids$"]
    _keys_to_ignore_on_load_unexpected += [r"^((bert\.)?pooler|classifier|qa_outputs|crf)\."]
    optional_parts = ("pooler.",)

    def __init__(self, config: BERTConfig):
        super().__init__(config)
        # by class name: a foreign config.json may say another model_type. Here, since transformers compiles the
        # patterns of all its models at the first registration: too long for an import
        register_checkpoint_conversion_mapping(type(self).__name__, RELEASED_NAMES, overwrite=True)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        """Truncated normal weights (cut at two standard deviations), zero biases; LayerNorms start as 1 and 0."""
        std = self.config.initializer_range
        if isinstance(module, nn.Linear | nn.Embedding):
            init.trunc_normal_(module.weight, std=std, a=-2 * std, b=2 * std)
            if isinstance(module, nn.Linear) and module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, BERTPredictions):
            init.zeros_(module.bias)

    def load_state_dict(self, state_dict, *args, **kwargs):
        """nn.Module.load_state_dict, which also takes the tensors of a saved file with the released names."""
        renamed = {}
        for name, tensor in state_dict.items():
            for renaming in RELEASED_NAMES:
                name, _ = renaming.rename_source_key(name)
            renamed[name] = tensor
        return super().load_state_dict(renamed, *args, **kwargs)


class BERTModel(BERTPreTrainedModel):
    """Turns a text, or a pair of texts, into vectors that see both sides, and one vector for the whole.

    Without `add_pooling_layer` the vector for the whole is missing, as in heads that do not need it.
    """

    _input_embed_layer = "word_embeddings"

    def __init__(self, config: BERTConfig, add_pooling_layer: bool = True):
        super().__init__(config)
        self.embeddings = BERTEmbeddings(config)
        self.encoder = BERTEncoder(config)
        self.pooler = BERTPooler(config) if add_pooling_layer else None
        self.gradient_checkpointing = False
        self.post_init()

    def place_padding(self, positions: Tensor, attention_mask: Tensor | None) -> Tensor:
        """`positions` [B or 1, T] where padding gets its column, as in transformers; nothing reads it."""
        if attention_mask is None or attention_mask.dim() != 2:
            return positions
        columns = torch.arange(positions.shape[1], device=positions.device)
        return torch.where(
            attention_mask.bool(), positions, columns.clamp(max=self.config.max_position_embeddings - 1)
        )

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        cu_seq_lens_q: Tensor | None = None,
        **kwargs,
    ) -> BaseModelOutputWithPooling:
        """input_ids, token_type_ids (0 = first segment, the default), attention_mask (0 = padding), all [B, T] ->
        last_hidden_state [B, T, D], pooler_output [B, D].

        `cu_seq_lens_q` [texts + 1] are the bounds of texts packed without padding into one row [1, T]
        (`PackingCollator`). Each text is read by itself, and has a row of pooler_output [texts, D].

        Raises:
            ValueError: a malformed input, or more tokens than `max_position_embeddings`.
        """
        text = read_texts(
            self,
            input_ids,
            inputs_embeds,
            attention_mask,
            position_ids,
            cu_seq_lens_q=cu_seq_lens_q,
            causal=False,
            **kwargs,
        )
        if position_ids is None:
            text.position_ids = self.place_padding(text.position_ids, attention_mask)
        # --8<-- [start:idea]
        x = self.embeddings(text.vectors, text.position_ids, token_type_ids)
        x = self.encoder(x, text.mask, **text.options)  # [B, T, D]
        pooled = None if self.pooler is None else self.pooler(x, attention_mask, cu_seq_lens_q)
        # --8<-- [end:idea]
        return BaseModelOutputWithPooling(x, pooled)


class BERTWithMaskedWords(BERTPreTrainedModel):
    """What the two heads that guess masked words share: the tied output layer and its loss.

    The output layer is most of the arithmetic of a small BERT. In training, and for packed texts, it reads only scored
    positions: the logits [scored, V] are then those of the positions whose label is not −100, in order. With
    `scored_positions` [B, P] (`WithScoredPositions`) it finds them without stalling a GPU (see `at_scored`).
    """

    _tied_weights_keys = {
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    }

    def get_output_embeddings(self):
        return self.cls.predictions.decoder

    def set_output_embeddings(self, new_embeddings):
        self.cls.predictions.decoder = new_embeddings
        self.cls.predictions.bias = new_embeddings.bias

    def guess_words(
        self,
        hidden_states: Tensor,
        labels: Tensor | None,
        packed: bool,
        num_items: Tensor | int | None,
        smoothing: float = 0.0,
        positions: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """[B, T, D] -> logits, and with labels [B, T] the sum of the losses divided by `num_items`, or their mean."""
        if labels is None:
            return self.cls.predictions(hidden_states), None
        check_classes("labels", labels, hidden_states.shape[:-1].numel())
        check_ids("labels", labels, self.config.vocab_size, "vocab_size", IGNORED)
        if self.training or packed:
            vectors, scored = at_scored(hidden_states, labels, positions)
            logits = self.cls.predictions(vectors)  # [scored, V]
            total = summed_cross_entropy(logits, scored, smoothing)
            return logits, mean_of(total, labels.ne(IGNORED).sum(), num_items)
        logits = self.cls.predictions(hidden_states)
        return logits, mean_cross_entropy(logits, labels, num_items, smoothing)


class BERTForPreTraining(BERTWithMaskedWords):
    """BERT's pretraining: masked words, and whether the second segment follows the first in the text."""

    def __init__(self, config: BERTConfig):
        super().__init__(config)
        self.bert = BERTModel(config)
        self.cls = BERTHeads(config, masked_words=True, next_sentence=True)
        self.post_init()
        refuse_smoothing(self)

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        next_sentence_label: Tensor | None = None,
        cu_seq_lens_q: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
        num_pairs_in_batch: Tensor | int | None = None,
        smoothing: float = 0.0,
        scored_positions: Tensor | None = None,
        **kwargs,
    ) -> BertForPreTrainingOutput:
        """prediction_logits [B, T, V] (see `BERTWithMaskedWords`) and seq_relationship_logits [B, 2] (next, random).

        The loss is the mean over the `labels` [B, T] (−100 = not scored) plus the mean over `next_sentence_label` [B]
        (0 = B follows A, 1 = B is random); one kind of labels gives one mean. `num_items_in_batch` and
        `num_pairs_in_batch` count the labels and pairs of all accumulated batches (`LineageTrainer`). Without
        the latter, each batch's next-sentence mean is weighted by its share of the labels.
        """
        if labels is None:
            check_labels(self, num_items_in_batch)
        outputs = self.bert(
            input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, cu_seq_lens_q, **kwargs
        )
        logits, loss = self.guess_words(
            outputs.last_hidden_state,
            labels,
            cu_seq_lens_q is not None,
            num_items_in_batch,
            smoothing,
            scored_positions,
        )
        relationship = self.cls.seq_relationship(outputs.pooler_output)
        if next_sentence_label is not None:
            next_loss = mean_cross_entropy(
                relationship, next_sentence_label, num_pairs_in_batch, smoothing, name="next_sentence_label"
            )
            if labels is not None and num_items_in_batch is not None and num_pairs_in_batch is None:
                next_loss = next_loss * (labels != IGNORED).sum() / num_items_in_batch
            loss = next_loss if loss is None else loss + next_loss
        return BertForPreTrainingOutput(loss, logits, relationship, outputs.hidden_states, outputs.attentions)


class BERTForMaskedLM(BERTWithMaskedWords):
    """BERT that guesses masked words."""

    def __init__(self, config: BERTConfig):
        super().__init__(config)
        self.bert = BERTModel(config, add_pooling_layer=False)
        self.cls = BERTHeads(config, masked_words=True)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        cu_seq_lens_q: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
        smoothing: float = 0.0,
        scored_positions: Tensor | None = None,
        **kwargs,
    ) -> MaskedLMOutput:
        """Logits [B, T, V] (see `BERTWithMaskedWords`); with `labels` [B, T] (−100 = not scored) the mean loss."""
        outputs = self.bert(
            input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, cu_seq_lens_q, **kwargs
        )
        logits, loss = self.guess_words(
            outputs.last_hidden_state,
            labels,
            cu_seq_lens_q is not None,
            num_items_in_batch,
            smoothing,
            scored_positions,
        )
        return MaskedLMOutput(loss, logits, outputs.hidden_states, outputs.attentions)


class BERTForNextSentencePrediction(BERTPreTrainedModel):
    """BERT that says whether the second segment follows the first in the text."""

    def __init__(self, config: BERTConfig):
        super().__init__(config)
        self.bert = BERTModel(config)
        self.cls = BERTHeads(config, next_sentence=True)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        cu_seq_lens_q: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
        smoothing: float = 0.0,
        **kwargs,
    ) -> NextSentencePredictorOutput:
        """Logits [B, 2]; with `labels` [B] (0 = B follows A, 1 = B is random) the mean loss."""
        outputs = self.bert(
            input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, cu_seq_lens_q, **kwargs
        )
        logits, loss = self.cls.seq_relationship(outputs.pooler_output), None
        if labels is not None:
            loss = mean_cross_entropy(logits, labels, num_items_in_batch, smoothing)
        return NextSentencePredictorOutput(loss, logits, outputs.hidden_states, outputs.attentions)


def classifier_dropout(config: BERTConfig) -> nn.Dropout:
    """The dropout before an output layer that fine-tuning adds."""
    own = config.classifier_dropout
    return nn.Dropout(config.dropout if own is None else own)


class BERTWithTextVector(BERTPreTrainedModel):
    """What the heads that judge whole texts share: the model, and the vector of a text."""

    def __init__(self, config: BERTConfig):
        super().__init__(config)
        # the mean of the vectors leaves the pooler without a gradient
        self.bert = BERTModel(config, add_pooling_layer=config.classifier_pooling != "mean")
        self.dropout = classifier_dropout(config)

    def check_tensors(self, info, load_config):
        """As in other models; says why a model that was trained on the mean of its vectors has no pooler."""
        missing = sorted(
            name for name in info.missing_keys if name.startswith("bert.pooler.") and self.is_needed(name)
        )
        if missing:
            raise ValueError(
                f"{missing[0]} is missing in the weights of {load_config.pretrained_model_name_or_path}, but "
                f"classifier_pooling is {self.config.classifier_pooling!r}: a model saved with 'mean' has no pooler; "
                "keep 'mean', or begin with the pretrained model"
            )
        super().check_tensors(info, load_config)

    def summary(
        self, outputs: BaseModelOutputWithPooling, attention_mask: Tensor | None, cu_seq_lens: Tensor | None = None
    ) -> Tensor:
        """[texts, D]: the vector at [CLS] after the pooler, or what `classifier_pooling` says."""
        return pooled(self.config, outputs.pooler_output, outputs.last_hidden_state, attention_mask, cu_seq_lens)


class BERTForSequenceClassification(BERTWithTextVector):
    """BERT that labels a text or a pair of texts by [CLS] (figure 4, a and b)."""

    def __init__(self, config: BERTConfig):
        super().__init__(config)
        self.classifier = nn.Linear(pooled_size(config, config.hidden_size), config.num_labels)
        self.post_init()
        refuse_smoothing(self)

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        cu_seq_lens_q: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
        smoothing: float = 0.0,
        **kwargs,
    ) -> SequenceClassifierOutput:
        """Logits [B, num_labels]; `labels` [B] (classes or, for one label, numbers), or [B, num_labels] of 0 and 1."""
        outputs = self.bert(
            input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, cu_seq_lens_q, **kwargs
        )
        logits = self.classifier(self.dropout(self.summary(outputs, attention_mask, cu_seq_lens_q)))
        loss = None
        if labels is not None:
            loss = classification_loss(logits, labels, self.config, num_items_in_batch, smoothing)
        return SequenceClassifierOutput(loss, logits, outputs.hidden_states, outputs.attentions)


class BERTForTokenClassification(LabelsTokens, BERTPreTrainedModel):
    """BERT that labels every token by its vector (figure 4, d)."""

    def __init__(self, config: BERTConfig):
        super().__init__(config)
        self.bert = BERTModel(config, add_pooling_layer=False)
        self.dropout = classifier_dropout(config)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.crf = self.new_chain()
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        cu_seq_lens_q: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
        smoothing: float = 0.0,
        **kwargs,
    ) -> TokenClassifierOutput:
        """Logits [B, T, num_labels]; with `labels` [B, T] (−100 = not scored) the mean loss."""
        outputs = self.bert(
            input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, cu_seq_lens_q, **kwargs
        )
        logits = self.classifier(self.dropout(outputs.last_hidden_state))
        loss = self.label_loss(logits, labels, num_items_in_batch, smoothing)
        return TokenClassifierOutput(loss, logits, outputs.hidden_states, outputs.attentions)


class BERTForQuestionAnswering(BERTPreTrainedModel):
    """BERT that finds the first and last token of the answer in the second segment (figure 4, c)."""

    def __init__(self, config: BERTConfig):
        super().__init__(config)
        self.bert = BERTModel(config, add_pooling_layer=False)
        self.qa_outputs = nn.Linear(config.hidden_size, 2)
        self.post_init()
        refuse_smoothing(self)

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        start_positions: Tensor | None = None,
        end_positions: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
        num_ends_in_batch: Tensor | int | None = None,
        smoothing: float = 0.0,
        **kwargs,
    ) -> QuestionAnsweringModelOutput:
        """start_logits and end_logits [B, T]; with `start_positions` and `end_positions` [B] the mean of both losses.

        A position outside the text (truncation cut off the answer) is not scored.
        """
        outputs = self.bert(input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, **kwargs)
        start_logits, end_logits = self.qa_outputs(outputs.last_hidden_state).unbind(2)  # [B, T]
        loss = None
        if start_positions is not None and end_positions is not None:
            counts = num_items_in_batch, num_ends_in_batch
            positions = start_positions, end_positions
            loss = span_loss(start_logits, end_logits, *positions, attention_mask, smoothing, *counts)
        return QuestionAnsweringModelOutput(
            loss, start_logits.contiguous(), end_logits.contiguous(), outputs.hidden_states, outputs.attentions
        )


class BERTForMultipleChoice(BERTWithTextVector):
    """BERT that chooses one of several continuations, each read with the same first segment (section 4.4)."""

    def __init__(self, config: BERTConfig):
        super().__init__(config)
        self.classifier = nn.Linear(pooled_size(config, config.hidden_size), 1)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
        smoothing: float = 0.0,
        **kwargs,
    ) -> MultipleChoiceModelOutput:
        """All inputs [B, choices, T] -> logits [B, choices]; with `labels` [B] the mean loss.

        Raises:
            ValueError: the inputs have no dimension for the choices.
        """
        ids = tuple(in_rows(x, 2) for x in (input_ids, attention_mask, token_type_ids, position_ids))
        outputs = self.bert(*ids, in_rows(inputs_embeds, 3), **kwargs)
        shape = choices_in(input_ids=input_ids, inputs_embeds=inputs_embeds)
        logits = self.classifier(self.dropout(self.summary(outputs, ids[1]))).view(shape)
        loss = choice_loss(logits, labels, num_items_in_batch, smoothing)
        return MultipleChoiceModelOutput(loss, logits, outputs.hidden_states, outputs.attentions)
