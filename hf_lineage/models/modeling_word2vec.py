"""word2vec (Mikolov et al., 2013a, b): word vectors learned from words that occur together.

What changes from NNLM: no hidden layer; neighbours on both sides; a few binary decisions in place of the softmax.
input_ids [B, T], neighbours of a word -> vectors [B, T, D] -> their mean [B, D] -> a score per word [B, V]
"""

import heapq
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, pad
from transformers import initialization as init
from transformers.modeling_outputs import (
    BaseModelOutput,
    MultipleChoiceModelOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)
from transformers.utils import ModelOutput
from transformers.utils.generic import can_return_tuple

from .choices import choice_loss, choices_in, in_rows
from .classification import classification_loss, refuse_smoothing
from .configuration_word2vec import Word2VecConfig
from .inputs import IGNORED, check_classes, check_ids, embed_inputs, is_exported
from .loss_terms import check_labels
from .losses import mean_cross_entropy, mean_of
from .saved_models import LineagePreTrainedModel
from .token_labels import LabelsTokens


@dataclass
class HuffmanTree:
    """A binary code per word, short for frequent words: `nodes` and `signs` [V, depth], 0 in `signs` = no node.

    Word w has probability Π_i σ(signs[w, i] · v_{nodes[w, i]} · h): one factor per turn on the path from the root.
    """

    nodes: Tensor
    signs: Tensor

    @classmethod
    def of(cls, counts: list[int]) -> "HuffmanTree":
        """The tree of V word counts; inner node n of V − 1 is the n-th pair that was joined, the rarest first."""
        size = len(counts)
        heap = [(count, word) for word, count in enumerate(counts)]
        heapq.heapify(heap)
        parent, sign = [0] * (2 * size - 1), [0] * (2 * size - 1)
        for joined in range(size, 2 * size - 1):
            (first, left), (second, right) = heapq.heappop(heap), heapq.heappop(heap)
            parent[left] = parent[right] = joined
            # as in the authors' code, the more frequent child has bit 1 (σ of minus the score)
            sign[left], sign[right] = 1, -1
            heapq.heappush(heap, (first + second, joined))
        paths = []
        for word in range(size):
            path, node = [], word
            while node != 2 * size - 2:
                path.append((parent[node] - size, sign[node]))
                node = parent[node]
            paths.append(path[::-1])
        depth = max(map(len, paths))
        padded = torch.tensor([path + [(0, 0)] * (depth - len(path)) for path in paths]).view(size, depth, 2)
        # a single word has no path, and its tensor would be of float32
        return cls(padded[..., 0].long(), padded[..., 1].long())

    @classmethod
    def grown(cls, counts: list[int], sizes: list[int]) -> "HuffmanTree":
        """The tree of a vocabulary that grew through each of `sizes` to its present size.

        Old words keep their path and its nodes. The new words form their own tree, and a new root joins both trees.
        The root's node follows the nodes of the old tree; those of the new tree come next.

        Raises:
            ValueError: `sizes` do not rise from 1 or more to less than the number of words.
        """
        if any(first >= second for first, second in pairwise([0, *sizes, len(counts)])):
            raise ValueError(f"tree_sizes is {sizes}; it must rise from 1 or more to less than {len(counts)} words")
        tree = cls.of(counts[: sizes[0]])
        for size, new_size in pairwise([*sizes, len(counts)]):
            new, depth = cls.of(counts[size:new_size]), tree.nodes.shape[1]
            depth = max(depth, new.nodes.shape[1])
            nodes = [pad(part, (0, depth - part.shape[1])) for part in (tree.nodes, new.nodes + size)]
            signs = [pad(part, (0, depth - part.shape[1])) for part in (tree.signs, new.signs)]
            turn = torch.where(torch.arange(new_size) < size, -1, 1)[:, None]
            tree = cls(
                torch.cat([torch.full_like(turn, size - 1), torch.cat(nodes)], 1),
                torch.cat([turn, torch.cat(signs)], 1),
            )
        return tree


@dataclass
class Word2VecForPreTrainingOutput(ModelOutput):
    """`logits` [P, V]: scores of all words; for hierarchical softmax their log-probabilities."""

    loss: Tensor | None = None
    logits: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None


class Word2VecPreTrainedModel(LineagePreTrainedModel):
    """What every head shares: vectors start uniform in ± initializer_range / D, context vectors at zero."""

    config: Word2VecConfig
    base_model_prefix = "model"
    _keys_to_ignore_on_load_unexpected = [r"^((classifier|scorer|crf)\.|context_embeddings$|word_counts$)"]

    def _init_weights(self, module):
        bound = self.config.initializer_range / self.config.hidden_size
        if isinstance(module, nn.Embedding):
            init.uniform_(module.weight, -bound, bound)
        elif isinstance(module, nn.Linear):
            init.uniform_(module.weight, -bound, bound)
            init.zeros_(module.bias)
        elif isinstance(module, Word2VecForPreTraining):
            init.zeros_(module.context_embeddings)
            init.ones_(module.word_counts)


class Word2VecModel(Word2VecPreTrainedModel):
    """Looks up the vector of each word; the rest of word2vec is about learning these vectors."""

    def __init__(self, config: Word2VecConfig):
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.post_init()
        self.train()

    def train(self, mode: bool = True):
        """Sets the training mode, and keeps frozen embeddings frozen."""
        # from_pretrained replaces the weights by trainable ones, and then calls eval(), which calls this method
        if self.config.freeze_embeddings:
            self.embed_tokens.weight.requires_grad_(False)
        return super().train(mode)

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        output_hidden_states: bool | None = None,
        **kwargs,
    ) -> BaseModelOutput:
        """input_ids [B, T], attention_mask [B, T] (0 = padding) -> last_hidden_state [B, T, D], zero over padding.

        They are the only hidden states: there is no layer.
        """
        x = embed_inputs(self.embed_tokens, input_ids, inputs_embeds, attention_mask)  # [B, T, D]
        if attention_mask is not None:
            x = x * attention_mask[..., None].to(x.dtype)
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        return BaseModelOutput(x, (x,) if output_hidden_states else None)


def mean_of_words(x: Tensor, attention_mask: Tensor | None) -> Tensor:
    """x [B, T, D], zero over padding -> the mean of each row's words [B, D]; zero for a row without words."""
    count = max(x.shape[1], 1) if attention_mask is None else attention_mask.sum(1, keepdim=True).clamp(min=1)
    # a sum in float16 overflows
    return (x.sum(1, dtype=torch.promote_types(x.dtype, torch.float32)) / count).to(x.dtype)


class Word2VecForPreTraining(Word2VecPreTrainedModel):
    """word2vec with its second matrix: a context vector per word or, in a Huffman tree, per inner node.

    The papers keep only `model`: `Word2VecModel.from_pretrained(folder)` drops the context vectors, and
    `pretraining.model.save_pretrained(folder)` writes a checkpoint without them. `word_counts` [V] is part of the
    checkpoint and defines the noise distribution and the tree.

    The forward pass is the objective written out, for any optimizer and for evaluation; `Word2VecTrainer` computes the
    same gradients many times faster.
    """

    def __init__(self, config: Word2VecConfig):
        super().__init__(config)
        self.model = Word2VecModel(config)
        self.context_embeddings = nn.Parameter(torch.empty(config.vocab_size, config.hidden_size))
        self.register_buffer("word_counts", torch.ones(config.vocab_size, dtype=torch.int64))
        self._tree = None
        self.post_init()

    def set_word_counts(self, counts: Tensor):
        """Sets how often each word of the vocabulary occurs in the training text, int [V].

        Raises:
            ValueError: the number of words is not vocab_size, a count is negative, or all are zero.
        """
        if counts.shape != self.word_counts.shape or counts.min() < 0 or counts.sum() == 0:
            raise ValueError(
                f"counts must be {self.config.vocab_size} numbers of at least 0, not all 0; got shape "
                f"{list(counts.shape)} from {counts.min().item()} to {counts.max().item()}"
            )
        self.word_counts.copy_(counts)
        self._tree = None

    def noise(self) -> Tensor:
        """The distribution of the negative words, float64 [V]."""
        weights = self.word_counts.double() ** self.config.noise_exponent * (self.word_counts > 0)
        return weights / weights.sum()

    def huffman_tree(self) -> HuffmanTree:
        """The tree of `word_counts`, built once.

        Raises:
            ValueError: an export needs it, which cannot build it.
        """
        if self._tree is None and is_exported():
            raise ValueError("word_counts have no Huffman tree yet: call model.huffman_tree() before the export")
        if self._tree is None:
            counts, sizes = self.word_counts.tolist(), self.config.tree_sizes
            self._tree = HuffmanTree.grown(counts, sizes) if sizes else HuffmanTree.of(counts)
        return self._tree

    def resize_token_embeddings(self, new_num_tokens=None, pad_to_multiple_of=None, mean_resizing=False):
        """Resizes both matrices. New words start as in a new model, and have count 0 until `set_word_counts`.

        With hierarchical softmax, old words keep their path in the tree (`HuffmanTree.grown`) as long as their counts
        do not change.

        Raises:
            ValueError: a hierarchical softmax would lose words, whose nodes other words share.
        """
        old_size = self.config.vocab_size
        uses_tree = self.config.objective == "hierarchical_softmax"
        if uses_tree and new_num_tokens is not None and new_num_tokens < old_size:
            raise ValueError(
                f"new_num_tokens is {new_num_tokens}, but a Huffman tree of {old_size} words can only grow: train a "
                "new model, or use objective='negative_sampling'"
            )
        embeddings = super().resize_token_embeddings(new_num_tokens, pad_to_multiple_of, mean_resizing)
        size, kept = self.config.vocab_size, min(old_size, self.config.vocab_size)
        if uses_tree and size > old_size:
            self.config.tree_sizes = [*(self.config.tree_sizes or []), old_size]
        grown = self.context_embeddings.new_zeros(size, self.config.hidden_size)
        grown[:kept] = self.context_embeddings.detach()[:kept]
        self.context_embeddings = nn.Parameter(grown)
        counts = self.word_counts.new_zeros(size)
        counts[:kept] = self.word_counts[:kept]
        self.word_counts = counts
        self._tree = None
        return embeddings

    def combine(self, x: Tensor, attention_mask: Tensor | None) -> Tensor:
        """Vectors of the predicting words [P, C, D] -> one vector [P, D], with the gradient of config.cbow_grad."""
        total = x.sum(1)
        if not self.config.cbow_mean:
            return total
        mean = mean_of_words(x, attention_mask)
        return mean if self.config.cbow_grad == "corrected" else total + (mean - total).detach()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        negative_ids: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
        smoothing: float = 0.0,
        **kwargs,
    ) -> Word2VecForPreTrainingOutput:
        """Scores [P, V] of all words from the predicting words `input_ids` [P, C] (skip-gram: C = 1).

        With `labels` [P] (−100 = not scored), the loss is the mean over the pairs in nats. `negative_ids` [P, K] are
        words drawn from `noise()`; those equal to the label do not count, and no logits are computed. Without them,
        negative sampling's loss is its exact expectation over the noise. `num_items_in_batch` counts the pairs of all
        accumulated batches.

        Raises:
            ValueError: label smoothing, which no objective supports, or labels that Trainer withholds for it.
        """
        if smoothing:
            raise ValueError(f"label_smoothing_factor is {smoothing}; word2vec's objectives have none: set it to 0")
        if labels is None:
            check_labels(self, num_items_in_batch)
        else:
            check_classes("labels", labels)
            check_ids("labels", labels, self.config.vocab_size, "vocab_size", IGNORED)
            scored = labels != IGNORED
        outputs = self.model(input_ids, attention_mask, inputs_embeds, **kwargs)
        h = self.combine(outputs.last_hidden_state, attention_mask)  # [P, D]
        if labels is not None and negative_ids is not None:
            losses = self.negative_sampling_losses(h, labels.clamp(min=0), negative_ids) * scored
            loss = mean_of(losses.sum(), scored.sum(), num_items_in_batch)
            return Word2VecForPreTrainingOutput(loss, None, outputs.hidden_states)

        scores = h @ self.context_embeddings.T  # [P, V]
        if self.config.objective == "hierarchical_softmax":
            tree = self.huffman_tree()
            signs = tree.signs.to(h.device)
            turns = logsigmoid(signs * scores[:, tree.nodes.to(h.device)]) * (signs != 0)  # [P, V, depth]
            scores = turns.sum(2)
        loss = None
        if labels is not None and self.config.objective == "negative_sampling":
            words = labels.long().clamp(min=0)[:, None]
            noise = self.noise().to(scores).expand_as(scores).scatter(1, words, 0.0)
            positive = logsigmoid(scores.gather(1, words))[:, 0]
            negative = (noise * logsigmoid(-scores)).sum(1)
            total = -((positive + self.config.num_negatives * negative) * scored).sum()
            loss = mean_of(total, scored.sum(), num_items_in_batch)
        elif labels is not None:
            loss = mean_cross_entropy(scores, labels, num_items_in_batch)
        return Word2VecForPreTrainingOutput(loss, scores, outputs.hidden_states)

    # --8<-- [start:idea]
    def negative_sampling_losses(self, h: Tensor, labels: Tensor, negative_ids: Tensor) -> Tensor:
        """−log σ(u_o · h) − Σ_k log σ(−u_k · h) of each pair [P], eq. 4 of Mikolov et al. (2013b)."""
        positive = logsigmoid((self.context_embeddings[labels] * h).sum(1))
        scores = torch.einsum("pkd,pd->pk", self.context_embeddings[negative_ids], h)
        negative = (logsigmoid(-scores) * (negative_ids != labels[:, None])).sum(1)
        return -(positive + negative)

    # --8<-- [end:idea]


class Word2VecForSequenceClassification(Word2VecPreTrainedModel):
    """Labels a text by the mean of its word vectors, which are also trained unless `freeze_embeddings`."""

    def __init__(self, config: Word2VecConfig):
        super().__init__(config)
        self.model = Word2VecModel(config)
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
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
        """Logits [B, num_labels]; `labels` [B] (classes or, for one label, numbers), or [B, num_labels] of 0 and 1."""
        outputs = self.model(input_ids, attention_mask, inputs_embeds, **kwargs)
        logits = self.classifier(self.dropout(mean_of_words(outputs.last_hidden_state, attention_mask)))
        loss = None
        if labels is not None:
            loss = classification_loss(logits, labels, self.config, num_items_in_batch, smoothing)
        return SequenceClassifierOutput(loss, logits, outputs.hidden_states)


class Word2VecForTokenClassification(LabelsTokens, Word2VecPreTrainedModel):
    """Labels every word by its own vector alone; only a chain (`use_crf`) looks at its neighbours."""

    def __init__(self, config: Word2VecConfig):
        super().__init__(config)
        self.model = Word2VecModel(config)
        self.dropout = nn.Dropout(config.classifier_dropout)
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
        """Scores [B, T, num_labels] of each word; with `labels` [B, T] (−100 = not scored) the loss."""
        outputs = self.model(input_ids, attention_mask, inputs_embeds, **kwargs)
        logits = self.classifier(self.dropout(outputs.last_hidden_state))
        loss = self.label_loss(logits, labels, num_items_in_batch, smoothing)
        return TokenClassifierOutput(loss, logits, outputs.hidden_states)


class Word2VecForMultipleChoice(Word2VecPreTrainedModel):
    """Scores each choice, together with its question, by the mean of the word vectors."""

    def __init__(self, config: Word2VecConfig):
        super().__init__(config)
        self.model = Word2VecModel(config)
        self.dropout = nn.Dropout(config.classifier_dropout)
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
        """Scores [B, C] of the C choices [B, C, T]; with `labels` [B] the loss.

        Raises:
            ValueError: the inputs have no dimension for the choices.
        """
        mask = in_rows(attention_mask, 2)
        outputs = self.model(in_rows(input_ids, 2), mask, in_rows(inputs_embeds, 3), **kwargs)
        shape = choices_in(input_ids=input_ids, inputs_embeds=inputs_embeds)
        logits = self.scorer(self.dropout(mean_of_words(outputs.last_hidden_state, mask))).view(shape)
        loss = choice_loss(logits, labels, num_items_in_batch, smoothing)
        return MultipleChoiceModelOutput(loss, logits, outputs.hidden_states)
