"""ELMo, embeddings from language models (Peters et al., 2018).

What changes from word2vec: a word's vector depends on its sentence, and mixes all layers of a two-way language model.
char_ids [B, T, C] -> token vectors [B, T, P] -> N layers per direction, each [B, T, P] -> their mix [B, T, 2·P]
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
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

from .cache_argument import CACHE_FIELD, takes_cache
from .choices import choice_loss, choices_in, in_rows
from .classification import answer_labels, classification_loss, refuse_smoothing, span_loss
from .configuration_elmo import ELMoConfig
from .elmo_layers import CharacterCNN, ScalarMix
from .fast_dropout import Dropout
from .fast_scored import without_unscored
from .inputs import IGNORED, check_classes, check_mask, embed_inputs, is_recorded, recomputes
from .loss_terms import check_labels, check_terms
from .losses import mean_cross_entropy, mean_of
from .output_layers import AdaptiveSoftmax, sampled_softmax_loss, weight_and_bias
from .pooling import largest_and_mean
from .recurrent_cells import LSTMCell
from .recurrent_layers import Padding, RecurrentLayer, reversed_time, to_front, to_places
from .recurrent_state import keep_states, open_cache, states_of
from .saved_models import LineagePreTrainedModel
from .token_labels import LabelsTokens


if TYPE_CHECKING:
    # as in encoder_decoder.py: a repository brings the pipelines of its heads
    from .pipeline_question_answering import QuestionAnsweringPipeline  # noqa: F401


@dataclass
class ELMoModelOutput(BaseModelOutputWithPast):
    """`hidden_states`: the layers [B, T, 2·P], the token vectors (twice) first; `stacked_mixes`: their K mixes."""

    # [B, K, T, 2·P]: rows first, since pipelines split batches by rows
    stacked_mixes: Tensor | None = None

    @property
    def mixes(self) -> tuple[Tensor, ...]:
        """Each mix [B, T, 2·P]."""
        return self.stacked_mixes.unbind(1)


@dataclass
class ELMoForPreTrainingOutput(CausalLMOutputWithPast):
    """`logits` and `backward_logits` [B, T, V] of the next and of the previous word, and each direction's mean loss.

    Logits are None if not needed: in training with sampled or adaptive softmax.
    """

    backward_logits: Tensor | None = None
    forward_loss: Tensor | None = None
    backward_loss: Tensor | None = None


class ELMoPreTrainedModel(LineagePreTrainedModel):
    """What every head shares: initial weights as in the authors' code, mostly TensorFlow's defaults."""

    config: ELMoConfig
    base_model_prefix = "model"
    _keys_to_ignore_on_load_unexpected = [r"^(lm_head|classifier|scorer?|qa_outputs|crf|task_layer|word_vectors)\."]
    supports_gradient_checkpointing = True
    _is_stateful = True
    _no_split_modules = ["RecurrentLayer"]

    @classmethod
    def from_pretrained(cls, *args, **kwargs):
        """PreTrainedModel.from_pretrained, then freezes what must stay frozen."""
        loaded = super().from_pretrained(*args, **kwargs)
        (loaded[0] if isinstance(loaded, tuple) else loaded).set_learning()
        return loaded

    def set_learning(self):
        """Turns on gradients only for the weights that learn."""
        self.model.set_learning()

    def resize_token_embeddings(self, *args, **kwargs):
        """PreTrainedModel.resize_token_embeddings, for words.

        Raises:
            ValueError: token_layer is "characters".
        """
        if self.config.token_layer == "characters" and (args or kwargs):
            raise ValueError("token_layer is 'characters', which reads any word: there is no vocabulary to resize")
        return super().resize_token_embeddings(*args, **kwargs)

    def _init_weights(self, module):
        if isinstance(module, nn.Embedding):
            init.uniform_(module.weight, -1, 1)
            if module.padding_idx is not None:
                init.zeros_(module.weight[module.padding_idx])
        elif isinstance(module, nn.Conv1d):
            if self.config.cnn_act == "relu":
                init.uniform_(module.weight, -0.05, 0.05)
            else:
                init.normal_(module.weight, 0.0, (module.in_channels * module.kernel_size[0]) ** -0.5)
            init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            init.normal_(module.weight, 0.0, module.in_features**-0.5)
            if module.bias is not None:
                init.constant_(module.bias, getattr(module, "initial_bias", 0.0))
        elif isinstance(module, LSTMCell):
            self._init_cell(module)
        elif isinstance(module, ScalarMix):
            init.zeros_(module.weights)
            init.ones_(module.gamma)

    def _init_cell(self, cell: LSTMCell):
        """Glorot's uniform distribution for the matrix from [x; h] to the gates; the forget gate starts open."""
        size = cell.hidden_size
        bound = (6 / (cell.weight_ih.shape[1] + cell.weight_hh.shape[1] + 4 * size)) ** 0.5
        for weight in (cell.weight_ih, cell.weight_hh):
            init.uniform_(weight, -bound, bound)
        if cell.weight_hr is not None:
            bound = (6 / sum(cell.weight_hr.shape)) ** 0.5
            init.uniform_(cell.weight_hr, -bound, bound)
        gates = torch.zeros(4, size)
        gates[1] = 1.0
        init.copy_(cell.bias, gates.flatten())


class ELMoModel(ELMoPreTrainedModel):
    """The bidirectional language model without its softmax, and mixes of its layers.

    Two independent LSTMs, one from the left and one from the right, read the same token vectors.
    """

    def __init__(self, config: ELMoConfig):
        super().__init__(config)
        if config.token_layer == "characters":
            self.token_layer = CharacterCNN(config)
        else:
            self.token_layer = nn.Embedding(config.vocab_size, config.projection_size)
        self.forward_layers = self.new_stack()
        self.backward_layers = self.new_stack()
        self.mixes = nn.ModuleList(
            ScalarMix(config.num_hidden_layers + 1, config.mix_layer_norm) for _ in range(config.num_mixes)
        )
        self.dropout = Dropout(config.dropout)
        self.is_frozen = config.freeze_bilm
        self.set_learning()
        # without gradients, on the CPU: run the directions in two threads (then give each half the cores)
        self.parallel_directions = False
        self.gradient_checkpointing = False
        self.post_init()

    def set_learning(self):
        for part in (self.token_layer, self.forward_layers, self.backward_layers):
            part.requires_grad_(not self.is_frozen)

    def new_stack(self) -> nn.ModuleList:
        """One direction's layers."""
        size, config = self.config.projection_size, self.config
        return nn.ModuleList(
            RecurrentLayer(
                LSTMCell(
                    size,
                    config.hidden_size,
                    projection_size=size,
                    cell_clip=config.cell_clip,
                    projection_clip=config.projection_clip,
                )
            )
            for _ in range(config.num_hidden_layers)
        )

    def get_input_embeddings(self):
        is_words = self.config.token_layer == "words"
        return self.token_layer if is_words else self.token_layer.embed_characters

    def set_input_embeddings(self, embeddings):
        if self.config.token_layer == "words":
            self.token_layer = embeddings
        else:
            self.token_layer.embed_characters = embeddings

    def token_vectors(self, input_ids=None, char_ids=None, inputs_embeds=None) -> Tensor:
        """The LSTMs' input [B, T, P]: from `char_ids` or `input_ids`, as the token layer needs, or `inputs_embeds`.

        Raises:
            ValueError: the input that the token layer needs is missing or malformed.
        """
        if self.config.token_layer == "words":
            return embed_inputs(self.token_layer, input_ids, inputs_embeds)
        if inputs_embeds is None and char_ids is None:
            raise ValueError(
                "char_ids is missing, but the token layer reads characters: load the tokenizer as an ELMoTokenizer "
                "(import hf_lineage, or trust_remote_code=True), or give inputs_embeds"
            )
        if inputs_embeds is None:
            return self.token_layer(char_ids)
        if char_ids is not None:
            raise ValueError("give exactly one of char_ids and inputs_embeds")
        if inputs_embeds.dim() != 3 or inputs_embeds.shape[2] != self.config.projection_size:
            raise ValueError(
                f"inputs_embeds must have shape [batch, time, {self.config.projection_size}], not "
                f"{list(inputs_embeds.shape)}"
            )
        return inputs_embeds

    @torch.no_grad()
    def vocabulary_vectors(self, characters: Tensor, batch_size: int = 4096) -> Tensor:
        """The token vectors [V, P] of words spelled by `characters` [V, C], computed once, without gradients.

        While the model does not change, they replace the convolutions: look them up by the ids of words spelled as in
        the vocabulary (`ELMoTokenizer.vocabulary_characters`), and pass them as `inputs_embeds`.

        Raises:
            ValueError: token_layer is "words" (its matrix holds the vectors), or `characters` is malformed.
        """
        if self.config.token_layer == "words":
            raise ValueError("token_layer is 'words': get_input_embeddings().weight holds the vectors")
        return torch.cat([self.token_layer(part[None])[0] for part in characters.split(batch_size)])

    # the cells run in kernels, with almost nothing to compile between them
    @torch.compiler.disable
    def layers_of(self, x: dict, attention_mask: Tensor | None, cache, use_cache: bool | None) -> tuple:
        """All layers [B, T, 2·P] of what `token_vectors` makes of `x`, and the cache."""
        x = self.token_vectors(**x)  # [B, T, P]
        check_mask(attention_mask, x.shape[0], 0, x.shape[1], padding_only=True)
        cache = open_cache(self.config, cache, use_cache, x.shape[0])
        if attention_mask is not None:
            x = x * attention_mask[..., None].to(x.dtype)
        x, padding = to_front(x, attention_mask)
        # --8<-- [start:layers]
        forward, backward = self.read(x, reversed_time(x, padding), padding, cache)
        # side by side, so that they are moved at once
        backward = reversed_time(torch.cat(backward, dim=2), padding).chunk(len(forward), dim=2)
        pairs = zip([x, *forward], [x, *backward], strict=True)
        # --8<-- [end:layers]
        layers = to_places(torch.cat([half for pair in pairs for half in pair], dim=2), padding)
        return layers.chunk(len(forward) + 1, dim=2), cache

    @torch.compiler.disable
    def read(self, forward_x: Tensor, backward_x: Tensor, padding: Padding | None = None, cache=None):
        """Runs both LSTMs over [B, T, P], each in its reading order -> two lists of N outputs [B, T, P]."""
        states = states_of(cache, 2 * len(self.forward_layers))
        halves = states[: len(self.forward_layers)], states[len(self.forward_layers) :]
        directions = (self.forward_layers, forward_x, halves[0]), (self.backward_layers, backward_x, halves[1])
        in_threads = self.parallel_directions and not torch.is_grad_enabled() and not is_recorded(forward_x)
        if in_threads and not torch.is_autocast_enabled("cpu"):
            # grad mode is a setting per thread
            run = torch.no_grad()(self.run_stack)
            with ThreadPoolExecutor(1) as other:
                backward = other.submit(run, *directions[1], padding)
                outputs = run(*directions[0], padding), backward.result()
        else:
            outputs = [self.run_stack(*direction, padding) for direction in directions]
        keep_states(cache, [*halves[0], *halves[1]], forward_x.shape[1])
        return outputs

    def run_stack(self, stack: nn.ModuleList, x: Tensor, states: list, padding: Padding | None) -> list[Tensor]:
        """Every layer's output [B, T, P]; all but the first add their input, after dropout, to it (residual).

        Each layer's state in `states` becomes the one after its last token.
        """
        outputs = []
        for i, layer in enumerate(stack):
            x = self.dropped(x)
            y, states[i] = layer(x, states[i], padding)
            x = y + x if outputs and self.config.residual else y
            outputs.append(x)
        return outputs

    def dropped(self, x: Tensor) -> Tensor:
        """The language model's dropout: none once it is frozen."""
        return x if self.is_frozen else self.dropout(x)

    @takes_cache
    @can_return_tuple
    @merge_with_config_defaults
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        char_ids: Tensor | None = None,
        cache=None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        **kwargs,
    ) -> ELMoModelOutput:
        """char_ids [B, T, C] or input_ids [B, T], attention_mask [B, T] (0 = padding) -> the first mix, all layers.

        Each call starts from empty states. With a `cache` each LSTM continues from its state of the last call: the
        forward one after that sentence's last token, the backward one after its first. The published programs do so
        from batch to batch; a sentence's vectors then depend a little on earlier sentences. All vectors over padding
        are zero.

        Raises:
            ValueError: a malformed input, or a cache of another batch or kind.
        """
        if cache is not None and recomputes(self):
            cache = None
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.is_frozen):
            x = {"input_ids": input_ids, "char_ids": char_ids, "inputs_embeds": inputs_embeds}
            layers, cache = self.layers_of(x, attention_mask, cache, use_cache)
        mixes = self.mix(layers, attention_mask)
        return ELMoModelOutput(mixes[0], cache, layers, None, torch.stack(mixes, dim=1))

    def mix(self, layers, attention_mask: Tensor | None = None) -> tuple[Tensor, ...]:
        """Every mix of the layers, each [B, T, 2·P]."""
        return tuple(mix(layers, attention_mask) for mix in self.mixes)

    def mix_penalty(self) -> Tensor:
        """mix_l2 · Σ ‖w‖² over the mixes: at 1 a mix stays close to the mean, at 0.001 single layers can dominate."""
        return self.config.mix_l2 * sum(mix(None) for mix in self.mixes)


class ELMoForPreTraining(ELMoPreTrainedModel):
    """Two language models that share token vectors and softmax: of the next word, and of the previous one."""

    def __init__(self, config: ELMoConfig):
        super().__init__(config)
        self.model = ELMoModel(config)
        self.model.is_frozen = False
        self.set_learning()
        if config.output_layer == "adaptive":
            self.lm_head = AdaptiveSoftmax(config.projection_size, config.vocab_size, config.adaptive_cutoffs)
        else:
            self.lm_head = nn.Linear(config.projection_size, config.vocab_size)
        self.post_init()
        refuse_smoothing(self)
        # by this name, Trainer counts all labels except the first of each row, as many as a direction predicts
        self.loss_type = "ForCausalLM"

    def set_learning(self):
        super().set_learning()
        # the mixes belong to the tasks
        self.model.mixes.requires_grad_(False)

    def get_output_embeddings(self):
        return None if self.config.output_layer == "adaptive" else self.lm_head

    def set_output_embeddings(self, embeddings):
        self.lm_head = embeddings

    @takes_cache
    @can_return_tuple
    @merge_with_config_defaults
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        char_ids: Tensor | None = None,
        labels: Tensor | None = None,
        backward_input_ids: Tensor | None = None,
        backward_char_ids: Tensor | None = None,
        negative_ids: Tensor | None = None,
        cache=None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        num_items_in_batch: Tensor | int | None = None,
        num_backward_in_batch: Tensor | int | None = None,
        smoothing: float = 0.0,
        **kwargs,
    ) -> ELMoForPreTrainingOutput:
        """½ (forward loss + backward loss), and the logits of both directions.

        For whole sentences, `labels` [B, T] are the sentence's ids (−100 = not scored); this method computes each
        direction's targets. For a stream (`BidirectionalStreams`), the backward LSTM reads `backward_char_ids` or
        `backward_input_ids`, and each direction's `…shift_labels` [B, T] are its targets after each token.

        In training, the sampled softmax uses `negative_ids` [K] instead of the vocabulary; without them, and in
        evaluation, it uses all words.

        `num_items_in_batch` and `num_backward_in_batch` count the targets of both directions in all accumulated
        batches. Without the latter, the former is Trainer's count, and weighs each batch's mean by its labels.
        """
        if backward_char_ids is None and backward_input_ids is None:
            outputs = self.model(
                input_ids, attention_mask, char_ids, cache=cache, inputs_embeds=inputs_embeds, use_cache=use_cache
            )
            cache, hidden_states = outputs.get(CACHE_FIELD), outputs.hidden_states
            forward, backward = hidden_states[-1].chunk(2, dim=2)
            shift_labels, backward_shift_labels = self.targets_in(labels, attention_mask)
            is_exact = labels is None or num_backward_in_batch is not None
            counted = None if is_exact else labels[:, 1:].ne(IGNORED).sum()
        else:
            hidden_states, counted = None, None
            # not named: Trainer expects every argument with "label" in its name in each batch
            shift_labels, backward_shift_labels = kwargs.get("shift_labels"), kwargs.get("backward_shift_labels")
            x = self.stream_vectors(input_ids, char_ids, backward_input_ids, backward_char_ids)
            cache = open_cache(self.config, cache, use_cache, x[0].shape[0])
            forward, backward = (outputs[-1] for outputs in self.model.read(*x, cache=cache))
        forward, backward = self.model.dropped(forward), self.model.dropped(backward)
        if shift_labels is None:
            check_labels(self, num_items_in_batch)
        directions = (forward, shift_labels), (backward, backward_shift_labels)
        counts = num_items_in_batch, num_items_in_batch if num_backward_in_batch is None else num_backward_in_batch
        is_sampled = self.config.output_layer == "sampled" and negative_ids is not None
        if smoothing and self.training and (is_sampled or self.config.output_layer == "adaptive"):
            raise ValueError(
                f"label_smoothing_factor is {smoothing}, but output_layer {self.config.output_layer!r} does not "
                "score all words: set it to 0, or train with output_layer='softmax'"
            )
        if is_sampled and self.training:
            logits = backward_logits = None
            forward_loss, backward_loss = self.sampled_losses(directions, negative_ids, counts, counted)
        else:
            (logits, forward_loss), (backward_logits, backward_loss) = (
                self.score(*direction, count, counted, smoothing)
                for direction, count in zip(directions, counts, strict=True)
            )
        loss = None if forward_loss is None else 0.5 * (forward_loss + backward_loss)
        return ELMoForPreTrainingOutput(
            loss, logits, cache, hidden_states, None, backward_logits, forward_loss, backward_loss
        )

    def stream_vectors(self, input_ids, char_ids, backward_input_ids, backward_char_ids):
        """Both directions' token vectors [B, T, P], computed together: they share many words."""
        both = (
            None if forward is None or backward is None else torch.cat([forward, backward])
            for forward, backward in ((input_ids, backward_input_ids), (char_ids, backward_char_ids))
        )
        return self.model.token_vectors(*both).chunk(2)

    @staticmethod
    def targets_in(labels: Tensor | None, attention_mask: Tensor | None):
        """The labels after and before each token [B, T]; −100 next to padding and at the ends."""
        if labels is None:
            return None, None
        check_classes("labels", labels)
        nothing = labels.new_full(labels[:, :1].shape, IGNORED)
        after = torch.cat([labels[:, 1:], nothing[:, : labels.shape[1]]], dim=1)
        before = torch.cat([nothing[:, : labels.shape[1]], labels[:, :-1]], dim=1)
        if attention_mask is not None:
            mask = attention_mask.bool()
            edge = torch.zeros_like(mask[:, :1])
            after = after.masked_fill(~(mask & torch.cat([mask[:, 1:], edge], dim=1)), IGNORED)
            before = before.masked_fill(~(mask & torch.cat([edge, mask[:, :-1]], dim=1)), IGNORED)
        return after, before

    def sampled_losses(self, directions, negative_ids: Tensor, counts: tuple, counted: Tensor | None):
        """Both directions' mean losses, scored together, so that their shared softmax gets one gradient, not two."""
        if any(targets is None for _, targets in directions):
            return None, None
        read = [without_unscored(x, targets) for x, targets in directions]
        x, targets, scored = (torch.cat(both) for both in zip(*read, strict=True))
        losses = sampled_softmax_loss(x, targets, *weight_and_bias(self.lm_head), negative_ids)
        parts = losses.masked_fill(~scored, 0).split([len(targets) for _, targets, _ in read])
        return tuple(
            mean_of(part.sum(), is_scored.sum(), num_items, counted)
            for part, (*_, is_scored), num_items in zip(parts, read, counts, strict=True)
        )

    def score(self, x: Tensor, targets: Tensor | None, num_items: Tensor | int | None, counted, smoothing: float):
        """One direction's vectors [B, T, P] -> logits [B, T, V] (None if not needed), and the mean loss."""
        is_adaptive = self.config.output_layer == "adaptive" and self.training and targets is not None
        logits = None if is_adaptive else self.lm_head(x)
        if targets is None:
            return logits, None
        if not is_adaptive:
            return logits, mean_cross_entropy(logits, targets, num_items, smoothing, counted)
        scored = targets != IGNORED
        losses = self.lm_head.loss(x[scored], targets[scored])
        return logits, mean_of(losses.sum(), scored.sum(), num_items, counted)


class ELMoForTask(ELMoPreTrainedModel):
    """What the tasks share: a bidirectional LSTM over [x; ELMo]."""

    def __init__(self, config: ELMoConfig):
        super().__init__(config)
        if config.num_mixes > 2:
            raise ValueError(
                f"num_mixes is {config.num_mixes}; a task has 2 at most, at the input and the output of its LSTM"
            )
        self.model = ELMoModel(config)
        self.dropout = Dropout(config.elmo_dropout)
        has_words = config.word_vector_size > 0
        self.word_vectors = nn.Embedding(config.vocab_size, config.word_vector_size) if has_words else None
        size = config.output_size + config.word_vector_size
        self.task_layer = RecurrentLayer(LSTMCell(size, config.task_size), LSTMCell(size, config.task_size))
        self.features_size = 2 * config.task_size + (config.num_mixes - 1) * config.output_size

    @staticmethod
    def summary(features: Tensor, attention_mask: Tensor | None) -> Tensor:
        """A text's vector [B, 2·F]: the largest and the mean value of each feature [B, T, F]; zero without tokens."""
        return torch.cat(largest_and_mean(features, attention_mask), dim=1)

    # the cells run in kernels, with almost nothing to compile between them
    @torch.compiler.disable
    def features(self, input_ids, attention_mask, elmo_layers, **inputs) -> tuple[Tensor, tuple | None]:
        """The task's vector per token [B, T, F], and the language model's layers.

        `elmo_layers` [B, T, N + 1, 2·P] are these layers from an earlier run; with them, the language model does not
        run.
        """
        if elmo_layers is None:
            outputs = self.model(input_ids, attention_mask, **inputs)
            mixes, layers = outputs.mixes, outputs.hidden_states
        else:
            expected = [self.config.num_hidden_layers + 1, self.config.output_size]
            if elmo_layers.dim() != 4 or list(elmo_layers.shape[2:]) != expected:
                raise ValueError(
                    f"elmo_layers must have shape [batch, time, {expected[0]}, {expected[1]}], not "
                    f"{list(elmo_layers.shape)}"
                )
            check_mask(attention_mask, elmo_layers.shape[0], 0, elmo_layers.shape[1], padding_only=True)
            layers = elmo_layers.to(self.dtype).unbind(2)
            mixes = self.model.mix(layers, attention_mask)
        x = self.dropout(mixes[0])
        if self.word_vectors is not None:
            if input_ids is None:
                raise ValueError("input_ids is missing: word_vector_size is above 0, so x needs the words' ids")
            x = torch.cat([embed_inputs(self.word_vectors, input_ids, None), x], dim=2)
        features = self.run_task_layer(x, attention_mask)
        if self.config.num_mixes == 2:
            features = torch.cat([features, self.dropout(mixes[1])], dim=2)
        return features, layers

    def share_of_penalty(self, labels: Tensor, num_items_in_batch: Tensor | int | None) -> Tensor:
        """The penalty on the mixes; of accumulated batches each bears the share of its labels."""
        counted = labels.ne(IGNORED).sum()
        return mean_of(counted * self.model.mix_penalty(), counted, num_items_in_batch)

    def states_if_asked(self, layers: tuple, output_hidden_states: bool | None) -> tuple | None:
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        return tuple(layers) if output_hidden_states else None

    def run_task_layer(self, x: Tensor, attention_mask: Tensor | None) -> Tensor:
        x, padding = to_front(x, attention_mask)
        outputs, _ = self.task_layer(x, None, padding)
        return to_places(outputs, padding)


class ELMoForSequenceClassification(ELMoForTask):
    """Labels a text by the largest and the mean value of each feature of its tokens."""

    def __init__(self, config: ELMoConfig):
        super().__init__(config)
        self.score = nn.Linear(2 * self.features_size, config.num_labels)
        self.post_init()
        refuse_smoothing(self)

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        char_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        elmo_layers: Tensor | None = None,
        labels: Tensor | None = None,
        output_hidden_states: bool | None = None,
        num_items_in_batch: Tensor | int | None = None,
        smoothing: float = 0.0,
        **kwargs,
    ) -> SequenceClassifierOutput:
        """Scores [B, num_labels] of each text; with `labels` [B] the loss (regression if num_labels is 1)."""
        features, layers = self.features(
            input_ids, attention_mask, elmo_layers, char_ids=char_ids, inputs_embeds=inputs_embeds
        )
        logits = self.score(self.summary(features, attention_mask))
        loss = None
        if labels is None:
            check_terms(num_items_in_batch, mix_l2=self.config.mix_l2)
        else:
            loss = classification_loss(logits, labels, self.config, num_items_in_batch, smoothing)
            loss = loss + self.share_of_penalty(labels, num_items_in_batch)
        return SequenceClassifierOutput(loss, logits, self.states_if_asked(layers, output_hidden_states))


class ELMoForTokenClassification(LabelsTokens, ELMoForTask):
    """Labels every token, each by itself or, with `use_crf`, all tokens of a sentence together.

    With `use_crf`, `logits` are the scores of single tokens, and `decode` gives the best labels of the sentence.
    """

    def __init__(self, config: ELMoConfig):
        super().__init__(config)
        self.classifier = nn.Linear(self.features_size, config.num_labels)
        self.crf = self.new_chain()
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        char_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        elmo_layers: Tensor | None = None,
        labels: Tensor | None = None,
        output_hidden_states: bool | None = None,
        num_items_in_batch: Tensor | int | None = None,
        smoothing: float = 0.0,
        **kwargs,
    ) -> TokenClassifierOutput:
        """Scores [B, T, num_labels] of each token; with `labels` [B, T] (−100 = not scored) the loss per label."""
        features, layers = self.features(
            input_ids, attention_mask, elmo_layers, char_ids=char_ids, inputs_embeds=inputs_embeds
        )
        logits = self.classifier(features)
        loss = self.label_loss(logits, labels, num_items_in_batch, smoothing)
        if labels is None:
            check_terms(num_items_in_batch, mix_l2=self.config.mix_l2)
        else:
            loss = loss + self.share_of_penalty(labels, num_items_in_batch)
        return TokenClassifierOutput(loss, logits, self.states_if_asked(layers, output_hidden_states))


class ELMoForQuestionAnswering(ELMoForTask):
    """Marks the first and the last token of an answer."""

    def __init__(self, config: ELMoConfig):
        super().__init__(config)
        self.qa_outputs = nn.Linear(self.features_size, 2)
        self.post_init()
        refuse_smoothing(self)

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        char_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        elmo_layers: Tensor | None = None,
        start_positions: Tensor | None = None,
        end_positions: Tensor | None = None,
        output_hidden_states: bool | None = None,
        num_items_in_batch: Tensor | int | None = None,
        num_ends_in_batch: Tensor | int | None = None,
        smoothing: float = 0.0,
        **kwargs,
    ) -> QuestionAnsweringModelOutput:
        """Scores [B, T] of each token as the answer's first and last; with both positions [B] the loss."""
        features, layers = self.features(
            input_ids, attention_mask, elmo_layers, char_ids=char_ids, inputs_embeds=inputs_embeds
        )
        start_logits, end_logits = self.qa_outputs(features).unbind(2)
        loss = None
        if start_positions is not None and end_positions is not None:
            counts = num_items_in_batch, num_ends_in_batch
            positions = start_positions, end_positions
            loss = span_loss(start_logits, end_logits, *positions, attention_mask, smoothing, *counts)
            labels = answer_labels(start_positions, start_logits.shape[1], attention_mask)
            loss = loss + self.share_of_penalty(labels, num_items_in_batch)
        return QuestionAnsweringModelOutput(
            loss, start_logits, end_logits, self.states_if_asked(layers, output_hidden_states)
        )


class ELMoForMultipleChoice(ELMoForTask):
    """Scores each choice, read after its question, by the largest and the mean value of each feature."""

    def __init__(self, config: ELMoConfig):
        super().__init__(config)
        self.scorer = nn.Linear(2 * self.features_size, 1)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        char_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        elmo_layers: Tensor | None = None,
        labels: Tensor | None = None,
        output_hidden_states: bool | None = None,
        num_items_in_batch: Tensor | int | None = None,
        smoothing: float = 0.0,
        **kwargs,
    ) -> MultipleChoiceModelOutput:
        """Scores [B, C] of the C choices, char_ids [B, C, T, K]; with `labels` [B] the loss.

        Raises:
            ValueError: the inputs have no dimension for the choices.
        """
        mask = in_rows(attention_mask, 2)
        features, layers = self.features(
            in_rows(input_ids, 2),
            mask,
            in_rows(elmo_layers, 4),
            char_ids=in_rows(char_ids, 3),
            inputs_embeds=in_rows(inputs_embeds, 3),
        )
        shape = choices_in(
            input_ids=input_ids, char_ids=char_ids, inputs_embeds=inputs_embeds, elmo_layers=elmo_layers
        )
        logits = self.scorer(self.summary(features, mask)).view(shape)
        loss = choice_loss(logits, labels, num_items_in_batch, smoothing)
        if loss is None:
            check_terms(num_items_in_batch, mix_l2=self.config.mix_l2)
        else:
            loss = loss + self.share_of_penalty(labels, num_items_in_batch)
        return MultipleChoiceModelOutput(loss, logits, self.states_if_asked(layers, output_hidden_states))
