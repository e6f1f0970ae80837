"""DropConnect in two processes: each drops weights of its own, both learn the same from it."""

import copy

import pytest
import torch
from torch import distributed, multiprocessing
from torch.nn.parallel import DistributedDataParallel
from torch.testing import assert_close

from hf_lineage import LSTMConfig, LSTMForCausalLM
from tests.models.common import gradients


def of_both(tensor: torch.Tensor) -> list[torch.Tensor]:
    """What the two processes hold."""
    both = [torch.empty_like(tensor) for _ in "12"]
    distributed.all_gather(both, tensor.contiguous())
    return both


def train_one_of_two(rank: int, rendezvous: str):
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    torch.manual_seed(0)
    model = LSTMForCausalLM(LSTMConfig(vocab_size=30, hidden_size=8, num_hidden_layers=2, weight_dropout=0.5)).train()
    # the same text for both, so that only what is dropped can differ
    ids = torch.randint(30, (3, 6))
    alone, together = copy.deepcopy(model), DistributedDataParallel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for step in range(3):
        alone.load_state_dict(model.state_dict())
        for trained in (alone, together):
            trained.zero_grad()
            torch.manual_seed(10 * step + rank)
            trained(input_ids=ids, labels=ids).loss.backward()
        local, averaged = gradients(alone), gradients(model)
        for name, gradient in averaged.items():
            first, second = of_both(local[name])
            assert_close(gradient, (first + second) / 2)
            if name.endswith("weight_hh"):
                # a dropped weight has no gradient, and each process dropped others
                for own in (first, second):
                    assert 0.3 < (own == 0).float().mean() < 0.7
                assert not torch.equal(first == 0, second == 0)
                # what neither dropped, and nothing else, is learned from both
                assert torch.equal(gradient != 0, (first != 0) | (second != 0))
        before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
        optimizer.step()
        for name, parameter in model.named_parameters():
            first, second = of_both(parameter.detach())
            assert torch.equal(first, second), name
            assert_close(parameter.detach(), before[name] - 0.5 * averaged[name])
    distributed.destroy_process_group()


@pytest.mark.slow
def test_dropped_weights_of_two_processes_are_averaged(tmp_path):
    multiprocessing.spawn(train_one_of_two, args=(str(tmp_path / "rendezvous"),), nprocs=2)
