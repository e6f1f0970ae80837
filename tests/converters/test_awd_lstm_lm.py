"""awd-lstm-lm's state dict against a model written as its code writes it, from torch.nn."""

import re

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


class FastaiWeightDropout(nn.Module):
    """As in fastai: the raw weight is outside the LSTM, which keeps what the last dropout left of it."""

    def __init__(self, module):
        super().__init__()
        self.module = module
        self.weight_hh_l0_raw = nn.Parameter(module.weight_hh_l0.detach().clone())
        with torch.no_grad():
            module.weight_hh_l0.mul_(torch.bernoulli(torch.full_like(module.weight_hh_l0, 0.5)))


class FastaiModel(nn.Module):
    """fastai's AWD_LSTM and LinearDecoder, by their equations: gates i f g o, one step after the other."""

    def __init__(self, has_module_weight, bias):
        super().__init__()
        sizes = [6, 9, 9, 6]
        body = nn.Module()
        body.encoder = nn.Embedding(30, 6, padding_idx=1)
        body.encoder_dp = nn.Module()
        body.encoder_dp.emb = body.encoder
        lstms = [nn.LSTM(n, h, batch_first=True) for n, h in zip(sizes, sizes[1:], strict=False)]
        body.rnns = nn.ModuleList(map(FastaiWeightDropout, lstms))
        head = nn.Module()
        head.decoder = nn.Linear(6, 30, bias=bias)
        head.decoder.weight = body.encoder.weight
        self.parts, self.has_module_weight = nn.ModuleList([body, head]), has_module_weight

    def weights(self):
        state = {name.removeprefix("parts."): tensor.clone() for name, tensor in self.state_dict().items()}
        return {n: t for n, t in state.items() if self.has_module_weight or not n.endswith("module.weight_hh_l0")}

    @torch.no_grad()
    def logits(self, ids):
        body, head = self.parts
        x = body.encoder.weight[ids]
        for layer in body.rnns:
            h = c = x.new_zeros(len(ids), layer.weight_hh_l0_raw.shape[1])
            outputs = []
            for step in x.unbind(1):
                gates = step @ layer.module.weight_ih_l0.T + layer.module.bias_ih_l0
                gates = gates + h @ layer.weight_hh_l0_raw.T + layer.module.bias_hh_l0
                i, f, g, o = gates.chunk(4, 1)
                c = f.sigmoid() * c + i.sigmoid() * g.tanh()
                h = o.sigmoid() * c.tanh()
                outputs.append(h)
            x = torch.stack(outputs, 1)
        return x @ head.decoder.weight.T + (0 if head.decoder.bias is None else head.decoder.bias)


@pytest.mark.parametrize("has_module_weight", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_fastai_models_compute_the_same(has_module_weight, bias, tmp_path):
    reference = FastaiModel(has_module_weight, bias)
    state = reference.weights()
    assert {"0.encoder.weight", "0.encoder_dp.emb.weight", "0.rnns.2.weight_hh_l0_raw", "1.decoder.weight"} < set(
        state
    )
    save_file(state, tmp_path / "model.safetensors")
    ids = torch.randint(30, (3, 7))
    for source in (state, tmp_path / "model.safetensors"):
        model = from_awd_lstm_lm(source).eval()
        assert_close(model(ids).logits, reference.logits(ids))
        assert model.config.tie_word_embeddings
    older = {name.replace("encoder_dp.emb", "encoder_with_dropout.embed"): tensor for name, tensor in state.items()}
    older = {re.sub(r"(rnns\.\d\.)(weight_hh)", r"\1module.\2", name): tensor for name, tensor in older.items()}
    assert_close(from_awd_lstm_lm(older).eval()(ids).logits, reference.logits(ids))


def test_weights_without_a_place_are_named():
    state = FastaiModel(False, True).weights()
    with pytest.raises(ValueError, match="rnns.0.module.weight_hh_l0_reverse"):
        from_awd_lstm_lm(state | {"0.rnns.0.module.weight_hh_l0_reverse": torch.zeros(36, 9)})
    with pytest.raises(ValueError, match="1.layers.0.weight"):
        from_awd_lstm_lm(state | {"1.layers.0.weight": torch.zeros(2, 2)})


def test_foreign_state_dicts_are_refused():
    state = {name: tensor.clone() for name, tensor in RNNModel(False).state_dict().items()}
    with pytest.raises(ValueError, match="no decoder.bias"):
        from_awd_lstm_lm({name: tensor for name, tensor in state.items() if name != "decoder.bias"})
    with pytest.raises(ValueError, match=r"layers \[0, 2\]"):
        from_awd_lstm_lm({name: tensor for name, tensor in state.items() if "rnns.1" not in name})
    with pytest.raises(ValueError, match="rnns.0 is not an LSTM"):
        from_awd_lstm_lm(state | {"rnns.0.weight_hh_l0": torch.zeros(24, 8)})


def test_other_cells_are_refused():
    with pytest.raises(ValueError, match="peephole full"):
        to_awd_lstm_lm(LSTMForCausalLM(LSTMConfig(vocab_size=9, hidden_size=4, peephole="full")))
