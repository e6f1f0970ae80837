"""The neural cache and dynamic evaluation against their equations, written out token by token."""

import copy
import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from hf_lineage import GPTConfig, GPTForCausalLM, LSTMConfig, LSTMForCausalLM
from hf_lineage.data import TokenStream
from hf_lineage.metrics import dynamic_log_probabilities, measure_perplexity, neural_cache_log_probabilities


def stream(length=23):
    tokens = np.random.default_rng(0).integers(0, 9, length).astype(np.int32)
    return TokenStream(tokens, np.array([1]), num_words=length, num_characters=length, num_unknown=0)


def lstm():
    torch.manual_seed(0)
    return LSTMForCausalLM(LSTMConfig(vocab_size=9, hidden_size=6, initializer_range=0.8)).double()


QUIET = {"show_progress": False}


@pytest.mark.parametrize("block_size", [1, 5, 50])
@pytest.mark.parametrize("window", [1, 4, 100])
def test_neural_cache_is_grave_et_al(window, block_size):
    model, text = lstm(), stream()
    found = neural_cache_log_probabilities(
        model, text, window=window, share=0.3, sharpness=0.7, block_size=block_size, **QUIET
    )
    x = text.tokens.tolist()
    h = model.eval().model(torch.tensor([x])).last_hidden_state[0]
    p = model.lm_head(h).softmax(1)
    for t in range(len(x) - 1):
        weights = {}
        for i in range(max(t - window, 0), t):
            weights[x[i + 1]] = weights.get(x[i + 1], 0) + math.exp(0.7 * (h[t] @ h[i]).item())
        expected = p[t, x[t + 1]].item()
        if weights:
            expected = 0.7 * expected + 0.3 * weights.get(x[t + 1], 0) / sum(weights.values())
        assert found[t] == pytest.approx(math.log(expected), rel=1e-9)


def test_cache_without_share_is_the_model():
    model, text = lstm(), stream()
    log_p = neural_cache_log_probabilities(model, text, share=0.0, **QUIET)
    assert -log_p.sum() == pytest.approx(measure_perplexity(model, text, block_size=5, **QUIET)["nll"], rel=1e-6)


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_dynamic_evaluation_is_krause_et_al(decay):
    model, text = lstm().train(), stream(13)
    before = copy.deepcopy(model.state_dict())
    found = dynamic_log_probabilities(model, text, learning_rate=0.5, decay=decay, block_size=4, **QUIET)
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())

    # the same by torch's own LSTM cells, weights and optimizer
    x, expected = torch.from_numpy(text.tokens).long(), []
    cells = [torch.nn.LSTMCell(6, 6).double() for _ in range(2)]
    embed, head = torch.nn.Embedding(9, 6).double(), torch.nn.Linear(6, 9).double()
    with torch.no_grad():
        embed.weight.copy_(model.model.embed_tokens.weight)
        head.load_state_dict(model.lm_head.state_dict())
        for cell, layer in zip(cells, model.model.layers, strict=True):
            cell.weight_ih.copy_(layer.cell.weight_ih)
            cell.weight_hh.copy_(layer.cell.weight_hh)
            cell.bias_ih.copy_(layer.cell.bias)
            cell.bias_hh.zero_()
            cell.bias_hh.requires_grad_(False)
    parts = torch.nn.ModuleList([embed, head, *cells])
    weights = [parameter for parameter in parts.parameters() if parameter.requires_grad]
    given, optimizer = [w.detach().clone() for w in weights], torch.optim.SGD(weights, lr=0.5)
    states = [(torch.zeros(1, 6, dtype=torch.double),) * 2 for _ in cells]
    for start in range(0, 12, 4):
        states = [tuple(s.detach() for s in state) for state in states]
        losses = []
        for t in range(start, start + 4):
            v = embed(x[t : t + 1])
            for i, cell in enumerate(cells):
                states[i] = cell(v, states[i])
                v = states[i][0]
            losses.append(-head(v).log_softmax(1)[0, x[t + 1]])
        expected += [-loss.item() for loss in losses]
        optimizer.zero_grad()
        (sum(losses) / 4).backward()
        pulls = [decay * (first - w.detach()) for first, w in zip(given, weights, strict=True)]
        optimizer.step()
        with torch.no_grad():
            for w, pull in zip(weights, pulls, strict=True):
                w += pull
    assert_close(torch.from_numpy(found), torch.tensor(expected, dtype=torch.double), rtol=1e-5, atol=1e-6)


def test_bad_arguments_are_named():
    gpt = GPTForCausalLM(GPTConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=1))
    for function, settings in (
        (neural_cache_log_probabilities, {}),
        (dynamic_log_probabilities, {"learning_rate": 0.1}),
    ):
        with pytest.raises(ValueError, match="GPTForCausalLM.*state"):
            function(gpt, stream(), **settings, **QUIET)
    with pytest.raises(ValueError, match="share 1.0"):
        neural_cache_log_probabilities(lstm(), stream(), share=1.0, **QUIET)
    with pytest.raises(ValueError, match="decay 2"):
        dynamic_log_probabilities(lstm(), stream(), learning_rate=0.1, decay=2, **QUIET)
