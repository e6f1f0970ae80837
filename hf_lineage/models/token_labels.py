"""Labels of tokens: what the heads of all stations share, and a linear chain over the labels (Lafferty et al., 2001).

In a chain neighbours decide together:
score(y) = start[y_1] + Σ_t emissions[t, y_t] + Σ_t transitions[y_t, y_{t+1}] + end[y_T];  p(y) = exp(score(y)) / Z
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from transformers import initialization as init

from .inputs import IGNORED, check_classes, check_ids
from .losses import mean_cross_entropy, mean_of


if TYPE_CHECKING:
    # as in encoder_decoder.py: a repository brings the pipelines of its heads
    from .pipeline_token_classification import ChainPipeline  # noqa: F401


class ConditionalRandomField(nn.Module):
    """Chains over K labels. Row b of a batch has `lengths[b]` tokens; nothing after them is read."""

    def __init__(self, num_labels: int):
        super().__init__()
        self.transitions = nn.Parameter(torch.empty(num_labels, num_labels))  # from, to
        self.start = nn.Parameter(torch.empty(num_labels))
        self.end = nn.Parameter(torch.empty(num_labels))

    def forward(self, emissions: Tensor, labels: Tensor | None, lengths: Tensor, marginals: bool = False) -> Tensor:
        """log p(labels) [B] for emissions [B, T, K] and labels [B, T]; 0 for a row without tokens.

        Without labels it calls `decode`, or `marginals`, since offloaded weights are loaded only during this call.
        """
        if labels is None:
            return self.marginals(emissions, lengths) if marginals else self.decode(emissions, lengths)
        # sums of many exponentials need more than half precision
        emissions = emissions.float()
        return self.score(emissions, labels, lengths) - self.log_normalizer(emissions, lengths)

    def score(self, emissions: Tensor, labels: Tensor, lengths: Tensor) -> Tensor:
        """The exponent of each row's labels [B]."""
        if emissions.shape[1] == 0:
            return emissions.new_zeros(emissions.shape[0])
        is_token = torch.arange(labels.shape[1], device=labels.device) < lengths[:, None]
        labels = labels * is_token
        of_tokens = (emissions.gather(2, labels[..., None])[..., 0] * is_token).sum(1)
        of_pairs = (self.transitions[labels[:, :-1], labels[:, 1:]] * is_token[:, 1:]).sum(1)
        last = labels.gather(1, (lengths - 1).clamp(min=0)[:, None])[:, 0]
        of_ends = (self.start[labels[:, 0]] + self.end[last]) * (lengths > 0)
        return of_tokens + of_pairs + of_ends

    def log_normalizer(self, emissions: Tensor, lengths: Tensor) -> Tensor:
        """log Z [B]: the forward algorithm, `alpha` [B, K] sums over all beginnings that end in a label."""
        if emissions.shape[1] == 0:
            return emissions.new_zeros(emissions.shape[0])
        alpha = self.start + emissions[:, 0]
        for t in range(1, emissions.shape[1]):
            longer = torch.logsumexp(alpha[:, :, None] + self.transitions, dim=1) + emissions[:, t]
            alpha = torch.where((t < lengths)[:, None], longer, alpha)
        return torch.where(lengths > 0, torch.logsumexp(alpha + self.end, dim=1), 0.0)

    @torch.no_grad()
    def marginals(self, emissions: Tensor, lengths: Tensor) -> Tensor:
        """p(y_t = k) [B, T, K] of each token, a sum over all paths; 0 after a row's end.

        The forward-backward algorithm (Baum, 1970): with the beginnings `alpha` of `log_normalizer` and
        beta_t[k] = log Σ_j exp(transitions[k, j] + emissions[t+1, j] + beta_{t+1}[j]), at the row's last token end[k],
        p(y_t = k) = exp(alpha_t[k] + beta_t[k]) / Z.
        """
        emissions = emissions.to(torch.promote_types(emissions.dtype, torch.float32))
        alpha, alphas = self.start, []
        for t in range(emissions.shape[1]):
            before = torch.logsumexp(alpha[:, :, None] + self.transitions, dim=1) if t else alpha
            alpha = before + emissions[:, t]
            alphas.append(alpha)
        beta, shares = self.end.expand(emissions.shape[0], -1), []
        for t in range(emissions.shape[1] - 1, -1, -1):
            # what stands at and behind a row's end keeps beta at end
            shares.append((alphas[t] + beta).softmax(1) * (t < lengths)[:, None])
            longer = torch.logsumexp(self.transitions + (emissions[:, t] + beta)[:, None], dim=2)
            beta = torch.where((t < lengths)[:, None], longer, beta)
        return torch.stack(shares[::-1], 1) if shares else emissions

    @torch.no_grad()
    def decode(self, emissions: Tensor, lengths: Tensor) -> Tensor:
        """The most probable labels [B, T] (Viterbi, 1967); 0 after a row's end."""
        batch, time, num_labels = emissions.shape
        best = emissions.new_zeros(batch, time, dtype=torch.long)
        if time == 0:
            return best
        emissions = emissions.float()
        score = self.start + emissions[:, 0]
        stay, came_from = torch.arange(num_labels, device=emissions.device), []
        for t in range(1, time):
            longer, source = (score[:, :, None] + self.transitions).max(dim=1)
            is_token = (t < lengths)[:, None]
            score = torch.where(is_token, longer + emissions[:, t], score)
            came_from.append(torch.where(is_token, source, stay))
        label = (score + self.end).argmax(1)
        best[:, -1] = label
        for t in range(time - 2, -1, -1):
            label = came_from[t].gather(1, label[:, None])[:, 0]
            best[:, t] = label
        return best * (torch.arange(time, device=best.device) < lengths[:, None])


class LabelsTokens:
    """What heads that label every token share: the loss and the best labels, of single tokens or of a chain.

    A head has `crf`, a ConditionalRandomField with `use_crf`, else None. With it, `logits` are the scores of single
    tokens, `decode` gives the best labels of the sentence, and `probabilities` those of each token's labels.
    """

    def _init_weights(self, module):
        if isinstance(module, ConditionalRandomField):
            for parameter in module.parameters():
                init.zeros_(parameter)
        else:
            super()._init_weights(module)

    def new_chain(self) -> ConditionalRandomField | None:
        return ConditionalRandomField(self.config.num_labels) if self.config.use_crf else None

    def label_loss(
        self, logits: Tensor, labels: Tensor | None, num_items_in_batch: Tensor | int | None = None, smoothing=0.0
    ) -> Tensor | None:
        """The mean loss per label of logits [B, T, C]; `labels` [B, T], −100 = not scored and no part of a chain.

        Raises:
            ValueError: a label is out of its range; label smoothing with `use_crf`, since it is not defined for
                sequences of labels; Trainer withholds the labels of a chain.
        """
        if self.crf is not None and (smoothing or (labels is None and num_items_in_batch is not None)):
            raise ValueError(
                f"label_smoothing_factor is {smoothing or 'set'} (or compute_loss_func), but use_crf is True, which "
                "scores whole sequences of labels: set label_smoothing_factor to 0, or use_crf to False"
            )
        if labels is None:
            return None
        if self.crf is None:
            return mean_cross_entropy(logits, labels, num_items_in_batch, smoothing)
        check_classes("labels", labels, logits.shape[:-1].numel())
        check_ids("labels", labels, self.config.num_labels, "num_labels", IGNORED)
        scored = labels != IGNORED
        order, lengths = in_front(scored)
        labels = labels.long()
        total = self.crf(logits.take_along_dim(order[..., None], 1), labels.gather(1, order).clamp(min=0), lengths)
        return mean_of(-total.sum(), scored.sum(), num_items_in_batch)

    def decode(self, logits: Tensor, mask: Tensor) -> Tensor:
        """The best labels [B, T] for `logits` [B, T, num_labels]; −100 where `mask` [B, T] is 0.

        `mask` marks the tokens that have a label. Exclude sentence marks (for example by `labels != -100`), which are
        not part of the chain.
        """
        if self.crf is None:
            return logits.argmax(2).masked_fill(~mask.bool(), IGNORED)
        order, lengths = in_front(mask.bool())
        labels = self.crf(logits.take_along_dim(order[..., None], 1), None, lengths)
        return labels.gather(1, order.argsort(1)).masked_fill(~mask.bool(), IGNORED)

    def probabilities(self, logits: Tensor, mask: Tensor) -> Tensor:
        """p(label) of each token [B, T, num_labels]: of a chain its marginals; 0 where `mask` is 0, as in `decode`."""
        if self.crf is None:
            return logits.float().softmax(2) * mask[..., None].bool()
        order, lengths = in_front(mask.bool())
        shares = self.crf(logits.take_along_dim(order[..., None], 1), None, lengths, marginals=True)
        return shares.take_along_dim(order.argsort(1)[..., None], 1)


def in_front(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Index [B, T] that moves the tokens of `mask` [B, T] to each row's front, and their number [B]."""
    return mask.int().argsort(dim=1, descending=True, stable=True), mask.sum(1)
