"""Output layers for large vocabularies, whose cost does not grow with the vocabulary while training.

Two ways, both over words numbered by falling frequency, as word-level tokenizers number them. The adaptive softmax
(Grave et al., 2017) is a layer of its own, exact, that looks at rare words only where they are due. Sampled softmax
and noise-contrastive estimation train an ordinary output layer (weight [V, D], bias [V]) by comparing each target
with a few words drawn from `log_uniform_probability`; their gradients vanish where the model is the distribution of
the data. What such a model answers is still the exact softmax over all words.

x [..., T, D], targets [..., T], negatives [K], or [..., K] for T positions each -> losses [..., T]
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, linear, log_softmax, logsigmoid


def log_uniform_probability(ids: Tensor, vocab_size: int) -> Tensor:
    """q(k) = log((k + 2) / (k + 1)) / log(V + 1), close to Zipf's law where k counts from the most frequent word."""
    k = ids.double()
    return (((k + 2) / (k + 1)).log() / math.log(vocab_size + 1)).float()


def sampled_scores(
    x: Tensor, targets: Tensor, weight: Tensor, bias: Tensor, negatives: Tensor
) -> tuple[Tensor, Tensor]:
    """Scores of the targets [..., T] and of the negatives [..., T, K], each less log q of its word.

    Reads T + K rows of the weight, never all of it.
    """
    vocab_size = weight.shape[0]
    of_targets = (x * embedding(targets, weight)).sum(-1) + bias[targets]
    of_negatives = x @ embedding(negatives, weight).transpose(-1, -2) + bias[negatives][..., None, :]
    log_q = log_uniform_probability(targets, vocab_size).log(), log_uniform_probability(negatives, vocab_size).log()
    return of_targets - log_q[0], of_negatives - log_q[1][..., None, :]


def sampled_softmax_loss(x: Tensor, targets: Tensor, weight: Tensor, bias: Tensor, negatives: Tensor) -> Tensor:
    """−s(w) + log of the normaliser, estimated from the target w and the K negatives (Jean et al., 2015).

    Z ≈ 1 / (K + 1) Σ_c exp(s(c)) / q(c). Its gradient is that of telling the target from the negatives, each weighed
    by 1 / q. A negative equal to the target stays: so the estimate is consistent for every K. Negatives [K] that all
    rows of x share cost least: each different one is scored once, and weighed by how often it was drawn.
    """
    log_q = log_uniform_probability(targets, weight.shape[0]).log()
    if negatives.dim() == 1:
        target, log_sample = _shared_scores(x, targets, weight, bias, negatives)
    else:
        target, sample = sampled_scores(x, targets, weight, bias, negatives)
        log_sample = sample.logsumexp(-1)
    return torch.logaddexp(target, log_sample) - math.log(negatives.shape[-1] + 1) - target - log_q


def _shared_scores(x, targets, weight, bias, negatives) -> tuple[Tensor, Tensor]:
    """Scores less log q of the targets [..., T], and log Σ exp of those of the negatives [K] -> [..., T]."""
    drawn, counts = negatives.unique(return_counts=True)
    words, places = torch.cat([targets.flatten(), drawn]).unique(return_inverse=True)
    rows = _DifferentRows.apply(weight, words)
    offsets = _DifferentRows.apply(bias, words) - log_uniform_probability(words, weight.shape[0]).log()
    of_targets, of_drawn = places.split([targets.numel(), drawn.numel()])
    of_targets = of_targets.view(targets.shape)
    target = (x * embedding(of_targets, rows)).sum(-1) + offsets[of_targets]
    sample = linear(x, rows[of_drawn], offsets[of_drawn] + counts.log())
    return target, sample.logsumexp(-1)


class _DifferentRows(torch.autograd.Function):
    """weight[ids] for ids that all differ: their gradients are put in place, with nothing to sort or to add up."""

    @staticmethod
    def forward(ctx, weight: Tensor, ids: Tensor) -> Tensor:
        ctx.save_for_backward(ids)
        ctx.shape = weight.shape
        return weight.index_select(0, ids)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        (ids,) = ctx.saved_tensors
        return gradient.new_zeros(ctx.shape).index_copy_(0, ids, gradient), None


def nce_loss(x: Tensor, targets: Tensor, weight: Tensor, bias: Tensor, negatives: Tensor) -> Tensor:
    """Tells the target from K words of noise, one by one (Gutmann and Hyvärinen, 2010; Mnih and Teh, 2012).

    −log σ(s(w) − log K q(w)) − Σ_k log σ(log K q(k) − s(k)): the scores learn to be log-probabilities themselves, for
    which the bias had better start at −log V.
    """
    target, sample = sampled_scores(x, targets, weight, bias, negatives)
    log_k = math.log(sample.shape[-1])
    return -logsigmoid(target - log_k) - logsigmoid(log_k - sample).sum(-1)


class AdaptiveSoftmax(nn.AdaptiveLogSoftmaxWithLoss):
    """torch's adaptive softmax with a bias in the first cluster, for inputs [..., D].

    Words from cutoffs[0] on share, cluster by cluster, a narrow projection (D / 4, D / 16, …) and one entry of the
    first cluster. Calling it gives the log-probabilities of all words [..., V].
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
        """−log p of the targets [N] given x [N, D] -> [N], looking only at the clusters that occur."""
        # float from here on, as in cross entropy under mixed precision
        head = log_softmax(self.head(x).float(), dim=-1)
        bounds = torch.tensor(self.cutoffs, device=x.device)
        cluster_of = torch.bucketize(targets, bounds, right=True)  # 0 = the first, whose words the head scores
        entries = torch.where(cluster_of > 0, self.shortlist_size - 1 + cluster_of, targets)
        losses = -head.gather(1, entries[:, None])[:, 0]
        for i, cluster in enumerate(self.tail):
            rows = (cluster_of == i + 1).nonzero()[:, 0]
            log_p = log_softmax(cluster(x[rows]).float(), dim=-1)
            within = log_p.gather(1, (targets[rows] - self.cutoffs[i])[:, None])[:, 0]
            losses = losses.index_add(0, rows, within, alpha=-1)
        return losses
