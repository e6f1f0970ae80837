"""Muon (Jordan et al., 2024) for the matrices of the hidden layers, AdamW for everything else, as one optimizer."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn
from torch.optim import AdamW, Optimizer
from transformers import PreTrainedModel


class MuonWithAdamW(Optimizer):
    """torch's Muon on the groups with "muon": True, torch's AdamW on the others, under one learning-rate schedule.

    Muon's rate is on AdamW's scale (Liu et al., 2025, "Muon is scalable for LLM training", equation 4).

    Raises:
        ValueError: torch is older than 2.9 and has no Muon, or a group of Muon holds a parameter that is not a matrix.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], **adamw):
        if not hasattr(torch.optim, "Muon"):
            raise ValueError(f"muon_learning_rate needs torch >= 2.9, this is torch {torch.__version__}")
        groups = [{**group, "muon": group.get("muon", False)} for group in groups if group["params"]]
        # an optimizer needs a group; one without parameters does nothing
        of_muon = [group for group in groups if group["muon"]] or [{"params": [], "muon": True}]
        of_adamw = [group for group in groups if not group["muon"]] or [{"params": [], "muon": False}]
        self.muon = torch.optim.Muon(of_muon, adjust_lr_fn="match_rms_adamw")
        self.adamw = AdamW(of_adamw, **adamw)
        super().__init__([*self.muon.param_groups, *self.adamw.param_groups], {})
        self.share()

    def share(self):
        """Lets both parts work on the groups and states of this optimizer."""
        self.muon.param_groups = [group for group in self.param_groups if group["muon"]]
        self.adamw.param_groups = [group for group in self.param_groups if not group["muon"]]
        self.muon.state = self.adamw.state = self.state

    def load_state_dict(self, state_dict):
        super().load_state_dict(state_dict)
        self.share()

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self.muon.step()
        self.adamw.step()
        return loss


def hidden_matrices(model: PreTrainedModel) -> dict[str, nn.Parameter]:
    """The matrices between word vectors and output layer, by name: what Muon is for."""
    tables = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    ends = {id(parameter) for module in tables for parameter in module.parameters()}
    vocab_size = model.config.get_text_config().vocab_size
    return {
        name: parameter
        for name, parameter in model.named_parameters()
        if parameter.ndim == 2 and id(parameter) not in ends and vocab_size not in parameter.shape
    }


def muon_groups(
    model: PreTrainedModel, decaying: Iterable[str], learning_rate: float, weight_decay: float
) -> list[Mapping[str, Any]]:
    """Groups for `MuonWithAdamW`: hidden matrices at `learning_rate`; `decaying` names what has weight decay."""
    decaying, matrices = set(decaying), hidden_matrices(model)
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups.setdefault((name in matrices, name in decaying), []).append(parameter)
    return [
        {"params": members, "muon": is_matrix, "weight_decay": weight_decay if decays else 0.0}
        | ({"lr": learning_rate} if is_matrix else {})
        for (is_matrix, decays), members in groups.items()
    ]
