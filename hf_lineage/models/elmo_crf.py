"""A linear chain over the labels of a sentence (Lafferty et al., 2001): neighbours decide together.

score(y) = start[y_1] + Σ_t emissions[t, y_t] + Σ_t transitions[y_t, y_{t+1}] + end[y_T];  p(y) = exp(score(y)) / Z
"""

import torch
from torch import Tensor, nn


class ConditionalRandomField(nn.Module):
    """Chains over K labels. Row b of a batch has `lengths[b]` tokens; nothing after them is read."""

    def __init__(self, num_labels: int):
        super().__init__()
        self.transitions = nn.Parameter(torch.empty(num_labels, num_labels))  # from, to
        self.start = nn.Parameter(torch.empty(num_labels))
        self.end = nn.Parameter(torch.empty(num_labels))

    def forward(self, emissions: Tensor, labels: Tensor | None, lengths: Tensor) -> Tensor:
        """log p(labels) [B] for emissions [B, T, K] and labels [B, T]; 0 for a row without tokens.

        Without labels it calls `decode`, since offloaded weights are loaded only during this call.
        """
        if labels is None:
            return self.decode(emissions, lengths)
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
