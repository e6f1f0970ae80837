"""Every cell in every recurrent encoder-decoder, which their own tests try with one or two."""

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from torch.testing import assert_close

from hf_lineage import (
    LuongConfig,
    LuongForConditionalGeneration,
    RNNSearchConfig,
    RNNSearchForConditionalGeneration,
    Seq2SeqConfig,
    Seq2SeqForConditionalGeneration,
)
from tests.models.test_modeling_luong import LUONG
from tests.models.test_modeling_rnnsearch import BAHDANAU
from tests.models.test_modeling_seq2seq import SIZES


CHO = {**SIZES, "num_hidden_layers": 1, "feed_context": True, "bridge": "dense", "readout_size": 14}
STATIONS = {
    "seq2seq": (Seq2SeqForConditionalGeneration, Seq2SeqConfig, SIZES),
    "cho": (Seq2SeqForConditionalGeneration, Seq2SeqConfig, CHO),
    # the paper starts its energies at zero, so that what they weigh has no gradient
    "bahdanau": (RNNSearchForConditionalGeneration, RNNSearchConfig, {**BAHDANAU, "initialization": "uniform"}),
    "coverage": (
        RNNSearchForConditionalGeneration,
        RNNSearchConfig,
        {**BAHDANAU, "initialization": "uniform", "coverage": True},
    ),
    "luong": (LuongForConditionalGeneration, LuongConfig, LUONG),
    "luong at once": (LuongForConditionalGeneration, LuongConfig, {**LUONG, "input_feeding": False}),
    "luong local": (
        LuongForConditionalGeneration,
        LuongConfig,
        {**LUONG, "attention": "concat", "coverage": True, "attention_window": "local-p"},
    ),
}
CELLS = {
    "peephole": {"cell": "lstm", "peephole": "diagonal"},
    "full peephole": {"cell": "lstm", "peephole": "full", "coupled_gates": "forget"},
    "coupled": {"cell": "lstm", "coupled_gates": "input"},
    "sigmoid": {"cell": "rnn", "hidden_act": "sigmoid"},
    "relu": {"cell": "rnn", "hidden_act": "relu"},
    "gru before": {"cell": "gru", "reset_mode": "before"},
    "gru after": {"cell": "gru", "reset_mode": "after", "update_convention": "replace"},
}


def new_model(station, **cell):
    model_class, config_class, sizes = STATIONS[station]
    torch.manual_seed(0)
    return model_class(config_class(**{**sizes, **cell})).eval()


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("station", STATIONS)
def test_padding_cache_and_gradients(station, cell):
    model = new_model(station, **CELLS[cell]).double()
    # relu grows without bound
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if cell == "relu" and "weight_hh" in name:
                parameter *= 0.5
    lengths, target = [6, 3, 1], torch.randint(4, 60, (3, 5))
    ids = torch.randint(4, 60, (3, 6))
    mask = (torch.arange(6) >= 6 - torch.tensor(lengths)[:, None]).long()
    logits = model(ids, mask, decoder_input_ids=target).logits
    for row, length in enumerate(lengths):
        alone = model(ids[row : row + 1, 6 - length :], decoder_input_ids=target[row : row + 1]).logits
        assert_close(logits[row], alone[0])

    answers = [
        model.generate(ids, attention_mask=mask, num_beams=3, max_new_tokens=6, use_cache=use_cache, eos_token_id=None)
        for use_cache in (True, False)
    ]
    assert torch.equal(*answers)

    model(ids, mask, labels=target).loss.backward()
    assert [name for name, parameter in model.named_parameters() if not parameter.grad.any()] == []


@pytest.mark.parametrize("station", STATIONS)
@pytest.mark.parametrize(("coupled_gates", "gate", "sign"), [(None, 1, 1.0), ("forget", 0, 1.0), ("input", 0, -1.0)])
def test_the_forget_gate_starts_open_on_both_sides(station, coupled_gates, gate, sign):
    """A coupled input gate is its opposite."""
    model = new_model(station, cell="lstm", coupled_gates=coupled_gates, forget_gate_bias=1.5)
    found = {name: bias.view(-1, 16) for name, bias in model.named_parameters() if name.endswith("cell.bias")}
    assert {name.split(".")[1] for name in found} == {"encoder", "decoder"}
    for gates in found.values():
        assert torch.equal(gates[gate], torch.full((16,), sign * 1.5))
        others = [row for index, row in enumerate(gates) if index != gate]
        assert all((row.abs() < 1.5).all() for row in others)


@pytest.mark.parametrize("cell", ["rnn", "gru"])
@pytest.mark.parametrize(
    ("name", "value"), [("peephole", "full"), ("coupled_gates", "input"), ("forget_gate_bias", 1)]
)
@pytest.mark.parametrize("config_class", [Seq2SeqConfig, RNNSearchConfig, LuongConfig])
def test_what_only_an_lstm_has_is_refused_elsewhere(config_class, name, value, cell):
    with pytest.raises(StrictDataclassError, match=f'{name} is .* the cell "{cell}" has none: use cell="lstm"'):
        config_class(cell=cell, **{name: value})
