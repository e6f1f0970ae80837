"""awd-lstm-lm's state dict against a model written as its code writes it, from torch.nn."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.testing import assert_close

from hf_lineage import LSTMConfig, LSTMForCausalLM
from hf_lineage.converters import from_awd_lstm_lm, to_awd_lstm_lm


class WeightDrop(nn.Module):
    """Holds the LSTM as `module`, its recurrent weight under another name."""

    def __init__(self, module):
        super().__init__()
        self.module = module
        raw = module.weight_hh_l0
        del module._parameters["weight_hh_l0"]
        module.register_parameter("weight_hh_l0_raw", nn.Parameter(raw.data))

    def forward(self, x):
        self.module.weight_hh_l0 = self.module.weight_hh_l0_raw
        return self.module(x)


class RNNModel(nn.Module):
    def __init__(self, weight_drop, tied=True):
        super().__init__()
        self.encoder = nn.Embedding(30, 6)
        sizes = [6, 8, 8, 6]
        rnns = [nn.LSTM(n, h) for n, h in zip(sizes, sizes[1:], strict=False)]
        self.rnns = nn.ModuleList(WeightDrop(rnn) if weight_drop else rnn for rnn in rnns)
        self.decoder = nn.Linear(6, 30)
        if tied:
            self.decoder.weight = self.encoder.weight

    def forward(self, ids):  # time first, as there
        x = self.encoder(ids)
        for rnn in self.rnns:
            x, _ = rnn(x)
        return self.decoder(x)


@pytest.mark.filterwarnings("ignore:RNN module weights are not part of single contiguous chunk")
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("weight_drop", [True, False])
def test_models_compute_the_same(weight_drop, tied, tmp_path):
    reference = RNNModel(weight_drop, tied).eval()
    ids = torch.randint(30, (3, 7))
    state = {name: tensor.clone() for name, tensor in reference.state_dict().items()}
    expected = reference(ids.T).transpose(0, 1)
    save_file(state, tmp_path / "model.safetensors")
    for source in (state, tmp_path / "model.safetensors"):
        model = from_awd_lstm_lm(source, weight_dropout=0.5 if weight_drop else 0.0, dropout=0.4).eval()
        assert_close(model(ids).logits, expected)
        assert model.config.tie_word_embeddings == tied
        assert model.config.dropout == 0.4

    back = to_awd_lstm_lm(model)
    assert back.keys() == state.keys()
    again = RNNModel(weight_drop, tied).eval()
    again.load_state_dict(back)
    assert_close(again(ids.T).transpose(0, 1), expected)


def test_foreign_state_dicts_are_refused():
    state = {name: tensor.clone() for name, tensor in RNNModel(False).state_dict().items()}
    with pytest.raises(ValueError, match="no decoder.bias"):
        from_awd_lstm_lm({name: tensor for name, tensor in state.items() if name != "decoder.bias"})
    with pytest.raises(ValueError, match=r"layers \[0, 2\]"):
        from_awd_lstm_lm({name: tensor for name, tensor in state.items() if "rnns.1" not in name})
    with pytest.raises(ValueError, match="rnns.0 is no LSTM"):
        from_awd_lstm_lm(state | {"rnns.0.weight_hh_l0": torch.zeros(24, 8)})


def test_other_cells_are_refused():
    with pytest.raises(ValueError, match="peephole full"):
        to_awd_lstm_lm(LSTMForCausalLM(LSTMConfig(vocab_size=9, hidden_size=4, peephole="full")))
