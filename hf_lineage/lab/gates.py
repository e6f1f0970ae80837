"""View b: the gates and the cell of LSTM and GRU over time, unit by unit (LSTMVis; Strobelt et al., 2018)."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import linear

import hf_lineage
from hf_lineage.lab.opened import LabModel
from hf_lineage.lab.view import Given, View, first_known, packed, passages
from hf_lineage.models.recurrent_cells import GRUCell, LSTMCell


# bytes of one model's pictures: tokens × units × layers × gates
MOST_BYTES = 420_000
FEWEST_TOKENS = 24


def compute(models: Sequence[LabModel], given: Given) -> dict | None:
    """Per model: tokens as they read, and per layer what each unit does at each token, bytes [T, D]."""
    shown = []
    for model in models:
        if not isinstance(model.model.base_model, hf_lineage.LSTMModel | hf_lineage.GRUModel):
            continue
        text = first_known(model, passages(given))
        if text is not None:
            shown.append(_shown(model, text))
    return {"models": shown} if shown else None


def _shown(model: LabModel, text: str) -> dict:
    reading = model.read(text)
    layers = values_of(model, reading.inputs["input_ids"])
    # bytes per token
    size = sum(value.numel() for layer in layers for value in layer.values()) // len(reading.ids)
    kept = max(1, -(-size * FEWEST_TOKENS // MOST_BYTES))
    length = min(len(reading.ids), MOST_BYTES * kept // size)
    shown = []
    for layer in layers:
        # a cell may grow beyond 1; the output gate reads its tanh
        layer = dict(
            ("tanh(cell)", value.tanh()) if name == "cell" else (name, value) for name, value in layer.items()
        )
        state = layer["state"][:length]
        # of a large layer the units that change most
        units = state.std(0).topk(max(1, state.shape[1] // kept)).indices.sort().values
        ranges = {name: _range(name, value[:length, units]) for name, value in layer.items()}
        shown.append(
            {
                "units": units.tolist(),
                "values": {name: packed(value[:length, units], *ranges[name]) for name, value in layer.items()},
            }
        )
    return {
        "name": model.name,
        "tokens": reading.labels()[:length],
        "layers": shown,
        "all_units": layers[0]["state"].shape[1],
    }


def _range(name: str, value: Tensor) -> tuple[float, float]:
    """Gates lie between 0 and 1; states are drawn around 0."""
    if name.endswith("gate"):
        return 0.0, 1.0
    bound = max(value.abs().max().item(), 1e-6)
    return -bound, bound


@torch.no_grad()
def values_of(model: LabModel, input_ids: Tensor) -> list[dict[str, Tensor]]:
    """What each layer's forward cell computes at each token of input_ids [1, T], name -> [T, D].

    LSTM: input, forget and output gate, candidate, cell and state. GRU: reset and update gate, candidate and state.
    The update gate is shown as the share of the state that is kept, in either convention.
    """
    network = model.model.base_model
    x = network.embed_tokens(input_ids)
    layers = []
    for layer in network.layers:
        states = [layer.cell.initial_state(x[:, 0])]
        projected = linear(x, layer.cell.weight_ih, layer.cell.bias)  # [1, T, G·D]
        for step in projected.unbind(1):
            states.append(layer.cell.step(step, states[-1]))
        before, after = ([torch.cat(parts) for parts in zip(*part, strict=True)] for part in (states[:-1], states[1:]))
        of_cell = lstm_values if isinstance(layer.cell, LSTMCell) else gru_values
        layers.append(of_cell(layer.cell, projected[0], before, after))
        x = layer(x)[0]
    return layers


def lstm_values(cell: LSTMCell, projected: Tensor, before: list[Tensor], after: list[Tensor]) -> dict[str, Tensor]:
    """The gates of every step at once, from W x [T, G·D] and the states (h, c) before and after it."""
    size, updates = cell.hidden_size, cell.num_gates - 2
    scores = projected + linear(before[0], cell.weight_hh)
    update, candidate, output = scores.split([updates * size, size, size], dim=1)
    if cell.peephole:
        update = update + cell.seen_through_peepholes(before[1], 0, updates)
        output = output + cell.seen_through_peepholes(after[1], updates, updates + 1)
    update = torch.sigmoid(update)
    if cell.coupled_gates == "input":
        input_gate, forget_gate = update, 1 - update
    elif cell.coupled_gates == "forget":
        input_gate, forget_gate = 1 - update, update
    else:
        input_gate, forget_gate = update.chunk(2, dim=1)
    return {
        "input gate": input_gate,
        "forget gate": forget_gate,
        "output gate": torch.sigmoid(output),
        "candidate": torch.tanh(candidate),
        "cell": after[1],
        # before the projection, if there is one: unit by unit
        "state": torch.sigmoid(output) * torch.tanh(after[1]),
    }


def gru_values(cell: GRUCell, projected: Tensor, before: list[Tensor], after: list[Tensor]) -> dict[str, Tensor]:
    """The gates of every step at once, from W x [T, 3·D] and the states before and after it."""
    size, h = cell.hidden_size, before[0]
    x_gates, x_candidate = projected.split([2 * size, size], dim=1)
    weight_gates, weight_candidate = cell.weight_hh.split([2 * size, size])
    reset, update = torch.sigmoid(x_gates + linear(h, weight_gates)).chunk(2, dim=1)
    if cell.reset_mode == "after":
        candidate = torch.tanh(x_candidate + reset * linear(h, weight_candidate, cell.bias_hn))
    else:
        candidate = torch.tanh(x_candidate + linear(reset * h, weight_candidate))
    kept = 1 - update if cell.update_convention == "replace" else update
    return {"reset gate": reset, "update gate": kept, "candidate": candidate, "state": after[0]}


VIEW = View(
    "gates",
    "Gates",
    "Gates and memory over time",
    "Each column is a token and each row a unit: a forget gate near 1 keeps the cell as it is, an input gate near 1 "
    "writes to it. Choose units and a stretch of text, then let the page find other places where the same units are "
    "active.",
    "Hochreiter & Schmidhuber (1997), section 4; Gers et al. (2000); Cho et al. (2014), section 2.3; the search is "
    "that of LSTMVis (Strobelt et al., 2018)",
    compute,
)
