"""The optimizer that trained BERT."""

import math

from torch.optim import AdamW


class BertAdam(AdamW):
    """Adam with decoupled weight decay and without bias correction, as in the authors' optimization.py.

    m ← β₁m + (1 − β₁)g,  v ← β₂v + (1 − β₂)g²,  θ ← θ − lr · (m / (√v + ε) + λθ). The first updates are larger than
    Adam's; the warm-up makes up for that. The class runs torch's AdamW (fused where torch has that) with a rate, ε and
    λ that cancel its bias correction.
    """

    def __init__(self, params, lr: float = 1e-4, betas=(0.9, 0.999), eps: float = 1e-6, weight_decay: float = 0.01):
        super().__init__(params, lr, betas, eps, weight_decay, fused=True)
        for group in self.param_groups:
            group["updates"] = 0

    def step(self, closure=None):
        """One update of all parameters."""
        given = [(group["lr"], group["eps"], group["weight_decay"]) for group in self.param_groups]
        for group in self.param_groups:
            group["updates"] += 1
            beta1, beta2 = group["betas"]
            root = math.sqrt(1 - beta2 ** group["updates"])
            correction = (1 - beta1 ** group["updates"]) / root
            group["lr"] *= correction
            group["weight_decay"] /= correction
            group["eps"] /= root
        try:
            return super().step(closure)
        finally:
            for group, (lr, eps, weight_decay) in zip(self.param_groups, given, strict=True):
                group.update(lr=lr, eps=eps, weight_decay=weight_decay)
