"""Weights of torch's nn.RNN, nn.LSTM and nn.GRU, to and from the recurrent stations."""

import torch
from torch import Tensor, nn

from hf_lineage.models.configuration_rnn import GRUConfig, LSTMConfig, RNNConfig
from hf_lineage.models.fast_kernels import kernel_weights, why_no_kernel
from hf_lineage.models.modeling_rnn import GRUModel, LSTMModel, RNNModel
from hf_lineage.models.recurrent_cells import GRUCell, RecurrentCell


def cells_of(model: RNNModel) -> dict[str, RecurrentCell]:
    """The cells by the ending of torch's parameter names: l0, l0_reverse, l1, …"""
    cells = {}
    for i, layer in enumerate(model.layers):
        cells[f"l{i}"] = layer.cell
        if layer.backward_cell is not None:
            cells[f"l{i}_reverse"] = layer.backward_cell
    return cells


@torch.no_grad()
def fill_cell(cell: RecurrentCell, weights: dict[str, Tensor]):
    """Copies torch's weight_ih, weight_hh, weight_hr and biases, by these names, into a plain cell.

    torch's two biases become their sum, except for the GRU's candidate, whose reset gate acts only on the second.
    """
    size = cell.hidden_size
    zeros = torch.zeros_like(cell.bias)
    first, second = weights.get("bias_ih", zeros), weights.get("bias_hh", zeros)
    bias = first + second
    if isinstance(cell, GRUCell):
        bias = torch.cat([bias[: 2 * size], first[2 * size :]])
    found = {"weight_ih": weights["weight_ih"], "weight_hh": weights["weight_hh"], "bias": bias}
    if isinstance(cell, GRUCell):
        found["bias_hn"] = second[2 * size :]
    if "weight_hr" in weights:
        found["weight_hr"] = weights["weight_hr"]
    for name, tensor in found.items():
        parameter = cell.get_parameter(name)
        if parameter.shape != tensor.shape:
            raise ValueError(f"{name} has shape {list(tensor.shape)}, but the model's has {list(parameter.shape)}")
        parameter.copy_(tensor)


def from_torch(module: nn.RNN | nn.LSTM | nn.GRU, **fields) -> RNNModel:
    """The base model whose layers compute the same as `module`; `fields` complete its configuration (vocab_size, …).

    The module has no embeddings, so those of the model are newly drawn.

    Raises:
        ValueError: `module` is not one of these three.
    """
    if not isinstance(module, nn.RNN | nn.LSTM | nn.GRU):
        raise ValueError(f"module is a {type(module).__name__}; it must be an nn.RNN, nn.LSTM or nn.GRU")
    fields |= {
        "embedding_size": module.input_size,
        "hidden_size": module.hidden_size,
        "num_hidden_layers": module.num_layers,
        "bidirectional": module.bidirectional,
        "hidden_dropout": float(module.dropout),
    }
    if isinstance(module, nn.LSTM):
        model = LSTMModel(LSTMConfig(**fields, projection_size=module.proj_size or None))
    elif isinstance(module, nn.GRU):
        model = GRUModel(GRUConfig(**fields))
    else:
        model = RNNModel(RNNConfig(**fields, hidden_act=module.nonlinearity))
    model.to(module.weight_ih_l0.dtype)
    state = module.state_dict()
    for ending, cell in cells_of(model).items():
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
        fill_cell(cell, {name: state[f"{name}_{ending}"] for name in names if f"{name}_{ending}" in state})
    return model


def to_torch(model: RNNModel) -> nn.RNN | nn.LSTM | nn.GRU:
    """torch's module with `batch_first` that computes the same as the model's layers, on vectors instead of words.

    Coupled gates become two gates, and the update convention "replace" becomes "keep". Dropout between the layers is
    kept; dropout of embeddings and output is outside the layers.

    Raises:
        ValueError: torch has no such cell (peepholes, clips, σ, the reset gate before the product) or dropout (of
            recurrent weights, one mask for all time steps), or its layers differ in size.
    """
    config, cells = model.config, cells_of(model)
    dropout = config.dropout if config.hidden_dropout is None else config.hidden_dropout
    # a single layer has no dropout after it
    dropout = float(dropout) if config.num_hidden_layers > 1 else 0.0
    if config.weight_dropout:
        raise ValueError(
            f"torch's modules drop no recurrent weights, but weight_dropout is {config.weight_dropout}: load the "
            "model with weight_dropout=0.0 for the same outputs in evaluation"
        )
    if dropout and config.dropout_mask == "locked":
        raise ValueError(
            f'torch\'s modules draw one mask per time step, but dropout_mask is "locked" and hidden_dropout '
            f"{dropout}: load the model with hidden_dropout=0.0 for the same outputs in evaluation"
        )
    cell = cells["l0"]
    if why_no_kernel(cell):
        raise ValueError(f"torch has no module for this cell: {why_no_kernel(cell)}")
    if len(set(config.layer_sizes)) > 1:
        raise ValueError(f"the layers have {config.layer_sizes} units; torch's module has one size for all")
    options = {"batch_first": True, "bidirectional": config.bidirectional, "dropout": dropout}
    sizes = (config.embedding_size, config.hidden_size, config.num_hidden_layers)
    if isinstance(model, LSTMModel):
        module = nn.LSTM(*sizes, proj_size=config.projection_size or 0, **options)
    elif isinstance(model, GRUModel):
        module = nn.GRU(*sizes, **options)
    else:
        module = nn.RNN(*sizes, nonlinearity=config.hidden_act, **options)
    module.to(cell.weight_ih.dtype)
    state = {}
    for ending, cell in cells.items():
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
        state |= {f"{name}_{ending}": w for name, w in zip(names, kernel_weights(cell), strict=False)}
    module.load_state_dict(state)
    return module.train(model.training)
