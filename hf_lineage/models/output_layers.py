"""Output layers for large vocabularies: the cost of training does not grow with the vocabulary.

Both kinds need words numbered by falling frequency, as word-level tokenizers number them. The adaptive softmax
(Grave et al., 2017) is an exact layer that scores rare words only when the target is one. Sampled softmax and
noise-contrastive estimation train an ordinary output layer (weight [V, D], bias [V]): they compare each target with a
few words drawn from `log_uniform_probability`. Such a model still predicts with the exact softmax.

x [..., T, D], targets [..., T], negatives [K], or [..., K] for T positions each -> losses [..., T]
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, log_softmax, logsigmoid

from .fast_sampled_softmax import shared_scores
from .inputs import can_look, fast_paths_allowed


def log_uniform_probability(ids: Tensor, vocab_size: int) -> Tensor:
    """q(k) = log((k + 2) / (k + 1)) / log(V + 1), close to Zipf's law where k counts from the most frequent word."""
    k = ids.double()
    return (((k + 2) / (k + 1)).log() / math.log(vocab_size + 1)).float()


def log_q(ids: Tensor, vocab_size: int) -> Tensor:
    """log q(k) of `log_uniform_probability`."""
    return log_uniform_probability(ids, vocab_size).log()


def weight_and_bias(layer: nn.Module) -> tuple[Tensor, Tensor]:
    """Weight [V, D] and bias [V] of the output layer; the sampled losses read a few of their rows.

    Raises:
        ValueError: the layer is wrapped in an adapter (PEFT's), whose share they would leave out.
    """
    if not isinstance(layer, nn.Linear):
        raise ValueError(
            f"lm_head is a {type(layer).__name__}, but negative_ids need the rows of a plain linear layer: "
            "leave out negative_ids, or put no adapter on lm_head"
        )
    return layer.weight, layer.bias


def sampled_scores(
    x: Tensor, targets: Tensor, weight: Tensor, bias: Tensor, negatives: Tensor
) -> tuple[Tensor, Tensor]:
    """Scores of the targets [..., T] and of the negatives [..., T, K], minus log q of each word; reads T + K rows."""
    vocab_size = weight.shape[0]
    of_targets = (x * embedding(targets, weight)).sum(-1) + bias[targets]
    of_negatives = x @ embedding(negatives, weight).transpose(-1, -2) + bias[negatives][..., None, :]
    return of_targets - log_q(targets, vocab_size), of_negatives - log_q(negatives, vocab_size)[..., None, :]


def sampled_softmax_loss(x: Tensor, targets: Tensor, weight: Tensor, bias: Tensor, negatives: Tensor) -> Tensor:
    """−s(w) + log of the normaliser, estimated from the target w and the K negatives (Jean et al., 2015).

    Z ≈ 1 / (K + 1) Σ_c exp(s(c)) / q(c). A negative equal to the target stays, so the estimate is consistent for every
    K. Negatives [K] shared by all rows of x cost least: each distinct one is scored once, and weighted by its draws.
    """
    # which words are distinct, only the data tell
    if negatives.dim() == 1 and fast_paths_allowed() and can_look(negatives):
        target, log_sample = shared_scores(x, targets, weight, bias, negatives, log_q)
    else:
        target, sample = sampled_scores(x, targets, weight, bias, negatives)
        log_sample = sample.logsumexp(-1)
    log_z = torch.logaddexp(target, log_sample) - math.log(negatives.shape[-1] + 1)
    return log_z - target - log_q(targets, weight.shape[0])


def nce_loss(x: Tensor, targets: Tensor, weight: Tensor, bias: Tensor, negatives: Tensor) -> Tensor:
    """Tells the target from each of K noise words (Gutmann and Hyvärinen, 2010; Mnih and Teh, 2012).

    −log σ(s(w) − log K q(w)) − Σ_k log σ(log K q(k) − s(k)): the scores become log-probabilities, so the bias should
    start at −log V.
    """
    target, sample = sampled_scores(x, targets, weight, bias, negatives)
    log_k = math.log(sample.shape[-1])
    return -logsigmoid(target - log_k) - logsigmoid(log_k - sample).sum(-1)


class AdaptiveSoftmax(nn.AdaptiveLogSoftmaxWithLoss):
    """torch's adaptive softmax with a bias in the first cluster, for inputs [..., D].

    Words from cutoffs[0] on form clusters; each has one entry in the first cluster and a narrow projection (D / 4,
    D / 16, …). Calling the layer gives the log-probabilities of all words [..., V].
    """

    def __init__(self, in_features: int, vocab_size: int, cutoffs: list[int]):
        super().__init__(in_features, vocab_size, cutoffs, div_value=4.0, head_bias=True)

    def forward(self, x: Tensor) -> Tensor:
        head = log_softmax(self.head(x), dim=-1)  # [..., cutoffs[0] + clusters]
        rare = [
            log_softmax(cluster(x), dim=-1) + head[..., self.shortlist_size + i, None]
            for i, cluster in enumerate(self.tail)
        ]
        return torch.cat([head[..., : self.shortlist_size], *rare], dim=-1)

    def loss(self, x: Tensor, targets: Tensor) -> Tensor:
        """−log p of the targets [N] given x [N, D] -> [N]; computes only the clusters that occur."""
        # float32 from here, as in cross entropy under mixed precision
        head = log_softmax(self.head(x).float(), dim=-1)
        # 0 = the first, scored by the head
        cluster_of = sum((targets >= bound).long() for bound in self.cutoffs[:-1])
        entries = torch.where(cluster_of > 0, self.shortlist_size - 1 + cluster_of, targets)
        losses = -head.gather(1, entries[:, None])[:, 0]
        for i, cluster in enumerate(self.tail):
            rows = (cluster_of == i + 1).nonzero()[:, 0]
            log_p = log_softmax(cluster(x[rows]).float(), dim=-1)
            within = log_p.gather(1, (targets[rows] - self.cutoffs[i])[:, None])[:, 0]
            losses = losses.index_add(0, rows, within, alpha=-1)
        return losses
