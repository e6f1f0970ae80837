"""Recurrent cells in mixed precision, and what torch's kernels are given, as cuDNN asks for it."""

import pytest
import torch
from torch.testing import assert_close

from hf_lineage import (
    GRUConfig,
    GRUForCausalLM,
    LSTMConfig,
    LSTMForCausalLM,
    LuongConfig,
    LuongForConditionalGeneration,
    RNNConfig,
    RNNForCausalLM,
    Seq2SeqConfig,
    Seq2SeqForConditionalGeneration,
)
from hf_lineage.models import fast_recurrence
from hf_lineage.models.fast_recurrence import flat_weights, kernel_weights
from hf_lineage.models.recurrent_cells import GRUCell, LSTMCell
from tests.models.common import gradients


LANGUAGE_MODELS = {
    "rnn": (RNNForCausalLM, RNNConfig, {}),
    "lstm": (LSTMForCausalLM, LSTMConfig, {}),
    "peephole": (LSTMForCausalLM, LSTMConfig, {"peephole": "diagonal"}),
    "projection": (LSTMForCausalLM, LSTMConfig, {"projection_size": 24, "cell_clip": 3.0, "projection_clip": 3.0}),
    "gru": (GRUForCausalLM, GRUConfig, {}),
    "gru of the paper": (GRUForCausalLM, GRUConfig, {"reset_mode": "before"}),
}
TRANSLATORS = {
    "seq2seq": (Seq2SeqForConditionalGeneration, Seq2SeqConfig, {}),
    "both directions": (Seq2SeqForConditionalGeneration, Seq2SeqConfig, {"bidirectional": True, "bridge": "dense"}),
    "luong": (LuongForConditionalGeneration, LuongConfig, {}),
    "luong without input feeding": (LuongForConditionalGeneration, LuongConfig, {"input_feeding": False}),
}


@pytest.fixture
def calls_of_kernels(monkeypatch):
    """The states, the weights and the data of each call of a kernel, and whether autocast was on."""
    calls, find = [], fast_recurrence.kernel_of

    def kernel_of(cell):
        kernel = find(cell)

        def recorded(data, *others):
            # after batch sizes, if rows differ in length
            is_packed = isinstance(others[0], torch.Tensor) and others[0].dtype is torch.int64
            states, weights = others[1:3] if is_packed else others[:2]
            states = [states] if isinstance(states, torch.Tensor) else states
            calls.append(([data, *states, *weights], states, torch.is_autocast_enabled("cpu")))
            return kernel(data, *others)

        return None if kernel is None else recorded

    monkeypatch.setattr(fast_recurrence, "kernel_of", kernel_of)
    return calls


def new_model(model_class, config_class, fields):
    torch.manual_seed(0)
    sizes = {"vocab_size": 40, "hidden_size": 32, "initializer_range": 0.2, "dropout": 0.0}
    return model_class(config_class(**sizes, **fields)).train()


@pytest.mark.parametrize("name", [*LANGUAGE_MODELS, *TRANSLATORS])
@pytest.mark.parametrize("padded", [False, True], ids=["full", "padded"])
def test_kernels_get_contiguous_states_and_run_outside_autocast(calls_of_kernels, name, padded):
    model = new_model(*(LANGUAGE_MODELS | TRANSLATORS)[name])
    ids = torch.randint(40, (3, 6))
    batch = {"input_ids": ids, "labels": ids}
    if padded:
        batch["attention_mask"] = (torch.arange(6) < torch.tensor([[6], [4], [3]])).long()
    with torch.autocast("cpu", torch.bfloat16):
        model(**batch).loss.backward()
    kernels = {"rnn": 2, "lstm": 2, "gru": 2}
    assert len(calls_of_kernels) == kernels.get(name, len(calls_of_kernels))
    for given, states, is_autocast in calls_of_kernels:
        assert not is_autocast
        assert {x.dtype for x in given} == {torch.bfloat16}
        assert all(state.is_contiguous() for state in states)


@pytest.mark.parametrize("name", LANGUAGE_MODELS)
@pytest.mark.parametrize("scale", [1.0, 1 / 16], ids=["one batch", "16 accumulated"])
def test_gradients_in_bfloat16_are_within_a_hundredth(name, scale):
    model, found = new_model(*LANGUAGE_MODELS[name]), {}
    ids = torch.randint(40, (8, 20))
    for is_low in (False, True):
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=is_low):
            loss = model(input_ids=ids, labels=ids, use_cache=False).loss
        (loss * scale).backward()
        found[is_low] = gradients(model)
    low, high = (torch.cat([gradient.flatten() for gradient in found[is_low].values()]) for is_low in (True, False))
    assert (low - high).norm() < 1e-2 * high.norm()
    for parameter, expected in found[False].items():
        error = (found[True][parameter] - expected).norm() / expected.norm()
        assert error < 2e-2, parameter
        assert (found[True][parameter] == 0).float().mean() < (expected == 0).float().mean() + 0.01, parameter


@pytest.mark.parametrize(
    "cell", [LSTMCell(5, 4), GRUCell(5, 4), LSTMCell(5, 4, projection_size=3)], ids=["lstm", "gru", "projection"]
)
def test_flat_weights_are_in_one_piece_and_keep_their_gradient(cell):
    for parameter in cell.parameters():
        torch.nn.init.uniform_(parameter)
    weights = kernel_weights(cell)
    flat = flat_weights(weights)
    assert_close(flat, weights, rtol=0, atol=0)
    assert len({w.untyped_storage().data_ptr() for w in flat}) == 1
    # matrices in the order of the kernel's arguments, then biases, end to end
    ordered = [w for w in flat if w.dim() == 2] + [w for w in flat if w.dim() == 1]
    starts = [w.storage_offset() for w in ordered]
    assert starts == [sum(w.numel() for w in ordered[:i]) for i in range(len(ordered))]
    sum((i + 1) * w.square().sum() for i, w in enumerate(flat)).backward()
    assert_close(cell.weight_hh.grad, 4 * cell.weight_hh)
