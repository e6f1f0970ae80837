"""torch's recurrent modules become models and come back, computing the same."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from hf_lineage import GRUConfig, GRUModel, LSTMConfig, LSTMModel, RNNConfig, RNNModel
from hf_lineage.converters import from_torch, to_torch


MODULES = {
    "tanh": lambda **options: nn.RNN(5, 4, 2, **options),
    "relu": lambda **options: nn.RNN(5, 4, 2, nonlinearity="relu", **options),
    "lstm": lambda **options: nn.LSTM(5, 4, 2, **options),
    "projected": lambda **options: nn.LSTM(5, 4, 2, proj_size=3, **options),
    "gru": lambda **options: nn.GRU(5, 4, 2, **options),
    "without bias": lambda **options: nn.GRU(5, 4, 2, bias=False, **options),
}


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("kind", MODULES)
def test_models_compute_what_the_module_does(kind, bidirectional):
    module = MODULES[kind](batch_first=True, bidirectional=bidirectional).double().eval()
    x = torch.randn(3, 6, 5, dtype=torch.double)
    model = from_torch(module, vocab_size=9).eval()
    assert_close(model(inputs_embeds=x).last_hidden_state, module(x)[0])
    assert_close(to_torch(model)(x)[0], module(x)[0])


@pytest.mark.parametrize(
    ("model_class", "config"),
    [
        (LSTMModel, LSTMConfig(coupled_gates="input", hidden_size=6, vocab_size=9)),
        (LSTMModel, LSTMConfig(coupled_gates="forget", hidden_size=6, vocab_size=9)),
        (GRUModel, GRUConfig(update_convention="replace", hidden_size=6, vocab_size=9)),
    ],
)
def test_variants_that_torch_can_compute_are_written_out(model_class, config):
    model, x = model_class(config).eval(), torch.randn(3, 6, 6)
    assert_close(to_torch(model)(x)[0], model(inputs_embeds=x).last_hidden_state, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", ["tanh", "lstm", "gru"])
def test_dropout_between_the_layers_comes_along(kind):
    module = MODULES[kind](dropout=0.5)
    model = from_torch(module, vocab_size=9)
    assert to_torch(model).dropout == 0.5
    # all but the middle of it is outside of the layers
    x, back = torch.ones(2, 3, 5), to_torch(model.train())
    torch.manual_seed(1)
    expected, _ = back(x)
    assert not torch.equal(expected, back(x)[0])
    assert_close(back.eval()(x)[0], module.eval()(x.transpose(0, 1))[0].transpose(0, 1))


def test_the_dropout_that_stands_for_all_is_that_between_the_layers():
    sizes = {"vocab_size": 9, "hidden_size": 4}
    assert to_torch(LSTMModel(LSTMConfig(dropout=0.3, **sizes))).dropout == 0.3
    assert to_torch(LSTMModel(LSTMConfig(dropout=0.3, hidden_dropout=0.0, **sizes))).dropout == 0.0
    assert to_torch(LSTMModel(LSTMConfig(dropout=0.3, num_hidden_layers=1, **sizes))).dropout == 0.0
    # where nothing is dropped the kind of mask is all one
    assert to_torch(LSTMModel(LSTMConfig(input_dropout=0.3, dropout_mask="locked", **sizes))).dropout == 0.0


@pytest.mark.parametrize(
    ("model_class", "config", "message"),
    [
        (LSTMModel, LSTMConfig(weight_dropout=0.5), r"weight_dropout is 0\.5.*weight_dropout=0"),
        (GRUModel, GRUConfig(dropout=0.4, dropout_mask="locked"), r'dropout_mask is "locked" and hidden_dropout 0\.4'),
        (LSTMModel, LSTMConfig(peephole="diagonal"), "peephole diagonal"),
        (LSTMModel, LSTMConfig(cell_clip=3.0), "cell_clip 3.0"),
        (LSTMModel, LSTMConfig(last_hidden_size=100), r"\[200, 100\] units"),
        (GRUModel, GRUConfig(reset_mode="before"), "reset_mode before"),
        (RNNModel, RNNConfig(hidden_act="sigmoid"), "hidden_act sigmoid"),
    ],
)
def test_what_torch_cannot_compute_is_refused(model_class, config, message):
    with pytest.raises(ValueError, match=message):
        to_torch(model_class(config))


def test_other_modules_are_refused():
    with pytest.raises(ValueError, match="module is a Linear"):
        from_torch(nn.Linear(2, 2))
