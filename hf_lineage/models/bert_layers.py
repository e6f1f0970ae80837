"""BERT's bricks under the names of the released checkpoints: embeddings, encoder, pooler, heads.

What changes from GPT's: segments in the embeddings, no causal mask, a vector for the whole text, a masked-word head.
word vectors [B, T, D] -> embeddings -> encoder [B, T, D] -> pooler [B, D]; masked-word head [..., D] -> [..., V]
"""

import torch
from torch import Tensor, nn
from transformers.activations import ACT2FN
from transformers.core_model_loading import WeightRenaming

from .fast_dropout import Dropout
from .inputs import check_ids, table_of
from .transformer_layers import SelfAttentionBlock


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
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.dropout)

    def forward(self, words: Tensor, position_ids: Tensor, token_type_ids: Tensor | None) -> Tensor:
        """Word vectors [B, T, D], positions and segments (default: the first) [B or 1, T] -> [B, T, D]

        Raises:
            ValueError: there is no such segment.
        """
        if token_type_ids is None:
            token_type_ids = torch.zeros_like(position_ids)
        segments = table_of(self.token_type_embeddings).num_embeddings
        check_ids("token_type_ids", token_type_ids, segments, "type_vocab_size")
        vectors = words + self.token_type_embeddings(token_type_ids) + self.position_embeddings(position_ids)
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
