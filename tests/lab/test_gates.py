"""View b: gates of LSTM and GRU, against torch.nn's formulas and the model's own states."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from hf_lineage import GRUConfig, GRUModel, LSTMConfig, LSTMModel
from hf_lineage.lab.gates import compute, values_of
from hf_lineage.lab.opened import LabModel
from hf_lineage.lab.view import Given


IDS = torch.tensor([[3, 1, 4, 1, 5, 9, 2]])
SIZES = {"vocab_size": 12, "embedding_size": 5, "hidden_size": 6, "num_hidden_layers": 2, "initializer_range": 0.8}


def opened(model):
    return LabModel("", model.eval(), None)


def test_gates_of_an_lstm_follow_torch_lstmcell():
    model = LSTMModel(LSTMConfig(**SIZES))
    found = values_of(opened(model), IDS)
    x = model.embed_tokens(IDS)[0].detach()
    for layer, values in zip(model.layers, found, strict=True):
        cell = nn.LSTMCell(x.shape[1], 6)
        cell.load_state_dict(
            {
                "weight_ih": layer.cell.weight_ih,
                "weight_hh": layer.cell.weight_hh,
                "bias_ih": layer.cell.bias,
                "bias_hh": torch.zeros(24),
            }
        )
        h = c = torch.zeros(1, 6)
        states = []
        for t, word in enumerate(x):
            # the documented formula of torch.nn.LSTM, gate by gate
            i, f, g, o = (
                (word @ w.T + h[0] @ u.T + b)
                for w, u, b in zip(
                    cell.weight_ih.chunk(4), cell.weight_hh.chunk(4), cell.bias_ih.chunk(4), strict=True
                )
            )
            assert_close(values["input gate"][t], i.sigmoid())
            assert_close(values["forget gate"][t], f.sigmoid())
            assert_close(values["output gate"][t], o.sigmoid())
            assert_close(values["candidate"][t], g.tanh())
            h, c = (state.detach() for state in cell(word[None], (h, c)))
            assert_close(values["cell"][t], c[0])
            assert_close(values["state"][t], h[0])
            states.append(h[0])
        x = torch.stack(states)


@pytest.mark.parametrize(
    "options", [{"peephole": "diagonal"}, {"coupled_gates": "input"}, {"coupled_gates": "forget"}]
)
def test_gates_of_other_lstms_make_their_cells(options):
    model = LSTMModel(LSTMConfig(**SIZES, **options))
    states = model(IDS, output_hidden_states=True).hidden_states
    for values, state in zip(values_of(opened(model), IDS), states[1:], strict=True):
        before = torch.cat([torch.zeros(1, 6), values["cell"][:-1]])
        cell = values["forget gate"] * before + values["input gate"] * values["candidate"]
        assert_close(values["cell"], cell)
        assert_close(values["output gate"] * cell.tanh(), state[0].detach())


@pytest.mark.parametrize("reset_mode", ["after", "before"])
@pytest.mark.parametrize("convention", ["keep", "replace"])
def test_gates_of_a_gru_make_its_states(reset_mode, convention):
    model = GRUModel(GRUConfig(**SIZES, reset_mode=reset_mode, update_convention=convention))
    states = model(IDS, output_hidden_states=True).hidden_states
    for values, state in zip(values_of(opened(model), IDS), states[1:], strict=True):
        before = torch.cat([torch.zeros(1, 6), values["state"][:-1]])
        # shown as the share that is kept, whatever the convention
        kept = values["update gate"]
        assert_close(kept * before + (1 - kept) * values["candidate"], state[0].detach())
        assert_close(values["state"], state[0].detach())


def test_reset_gate_is_torchs():
    model = GRUModel(GRUConfig(**SIZES))
    values, cell = values_of(opened(model), IDS)[0], model.layers[0].cell
    words, before = model.embed_tokens(IDS)[0], torch.cat([torch.zeros(1, 6), values["state"][:-1]])
    reset = (words @ cell.weight_ih[:6].T + before @ cell.weight_hh[:6].T + cell.bias[:6]).sigmoid()
    assert_close(values["reset gate"], reset.detach())


def test_page_keeps_the_units_that_change_most(monkeypatch, lab_models):
    monkeypatch.setattr("hf_lineage.lab.gates.MOST_BYTES", 2_000)
    [shown] = compute([lab_models["lstm"]], Given())["models"]
    whole = values_of(lab_models["lstm"], lab_models["lstm"].read(passage()).inputs["input_ids"])
    assert shown["all_units"] == 16
    for layer, values in zip(shown["layers"], whole, strict=True):
        length, number = layer["values"]["tanh(cell)"]["shape"]
        assert length == len(shown["tokens"]) < len(values["cell"])
        changes = values["state"][:length].std(0)
        assert set(layer["units"]) == set(changes.argsort(descending=True)[:number].tolist())


def passage():
    from hf_lineage.lab.examples import PASSAGES

    return PASSAGES[0]
