"""Language models of awd-lstm-lm, the code of Merity et al. (2017): its state dict, to and from `LSTMForCausalLM`.

It also reads the models of fastai (ULMFiT; Howard and Ruder, 2018), which have other names.

Their own checkpoints are pickles, which may run any code, and are not opened here. Convert one that you trust to
safetensors, where its own code has loaded the `model` (fastai: `learn.model`). safetensors cannot hold shared tensors,
so tied weights are copied:

    from safetensors.torch import save_file

    weights = {name: tensor.clone().contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, "model.safetensors")
"""

import re
from pathlib import Path

import torch
from torch import Tensor

from hf_lineage.converters.foreign_files import naming
from hf_lineage.converters.safetensors_file import read_weights
from hf_lineage.converters.torch_recurrent import fill_cell
from hf_lineage.models.configuration_rnn import LSTMConfig
from hf_lineage.models.fast_recurrence import kernel_weights, why_no_kernel
from hf_lineage.models.modeling_rnn import LSTMForCausalLM


# rnns.0.module.weight_hh_l0_raw with weight dropout (fastai: rnns.0.weight_hh_l0_raw), rnns.0.weight_hh_l0 without
WEIGHT = re.compile(r"rnns\.(\d+)\.(?:module\.)?(weight_ih|weight_hh|bias_ih|bias_hh)_l0(_raw)?")
# fastai's model has two parts: 0. is the encoder and the LSTMs, 1. the decoder
FASTAI = re.compile(r"0\.(?=encoder\.|rnns\.)|1\.(?=decoder\.)")
# second copies of the embeddings, in the module that drops some: in fastai 1 and 2, and in older versions
FASTAI_COPIES = {"0.encoder_dp.emb.weight", "0.encoder_with_dropout.embed.weight"}


@naming
def from_awd_lstm_lm(state: dict[str, Tensor] | str | Path, **fields) -> LSTMForCausalLM:
    """The model of a state dict, or of its safetensors file; `fields` complete its configuration (dropouts, …).

    The state dict may come from a fastai language model. The token ids follow its vocabulary (fastai: `vocab` of the
    data, or `itos` in older versions), which the weights do not contain.

    Raises:
        ValueError: a weight is missing, unknown, not finite, or of a shape that no LSTM of this code has (GRU, QRNN
            and backward layers are not read); or the file is not in safetensors.
    """
    state, _ = read_weights(state)
    if "0.encoder.weight" in state:
        state = {FASTAI.sub("", name): tensor for name, tensor in state.items() if name not in FASTAI_COPIES}
        # fastai's decoder may have no bias, as in the first published models
        if "decoder.weight" in state:
            state.setdefault("decoder.bias", state["decoder.weight"].new_zeros(len(state["decoder.weight"])))
    outside = ("encoder.weight", "decoder.weight", "decoder.bias")
    if unread := [name for name in state if not WEIGHT.fullmatch(name) and name not in outside]:
        raise ValueError(
            f"the state dict has {', '.join(sorted(unread)[:5])}, which a model of LSTMs has no place for"
        )
    layers = {}
    # the raw weights last: the state may also hold copies after weight dropout
    for name in sorted(state, key=lambda name: name.endswith("_raw")):
        if match := WEIGHT.fullmatch(name):
            layers.setdefault(int(match[1]), {})[match[2]] = state[name]
    for name in outside:
        if name not in state:
            raise ValueError(f"the state dict has no {name}: it is not a language model of awd-lstm-lm")
    if sorted(layers) != list(range(len(layers))) or not layers:
        raise ValueError(f"the state dict has the layers {sorted(layers)}; it must have 0, 1, …")
    for i, weights in layers.items():
        missing = {"weight_ih", "weight_hh", "bias_ih", "bias_hh"} - weights.keys()
        if missing or weights["weight_hh"].shape[0] != 4 * weights["weight_hh"].shape[1]:
            shapes = {name: list(weight.shape) for name, weight in weights.items()}
            raise ValueError(f"rnns.{i} is not an LSTM: its weights are {shapes}")
    sizes = [layers[i]["weight_hh"].shape[1] for i in range(len(layers))]
    if len(set(sizes[:-1])) > 1:
        raise ValueError(f"the layers have {sizes} units; all but the last must be of one size")
    embeddings = state["encoder.weight"]
    model = LSTMForCausalLM(
        LSTMConfig(
            vocab_size=embeddings.shape[0],
            embedding_size=embeddings.shape[1],
            hidden_size=sizes[0],
            last_hidden_size=sizes[-1],
            num_hidden_layers=len(sizes),
            tie_word_embeddings=torch.equal(embeddings, state["decoder.weight"]),
            **{"dropout_mask": "locked", **fields},
        )
    )
    with torch.no_grad():
        model.model.embed_tokens.weight.copy_(embeddings)
        model.lm_head.weight.copy_(state["decoder.weight"])
        model.lm_head.bias.copy_(state["decoder.bias"])
    for i, layer in enumerate(model.model.layers):
        fill_cell(layer.cell, layers[i])
    return model


def to_awd_lstm_lm(model: LSTMForCausalLM) -> dict[str, Tensor]:
    """The state dict that awd-lstm-lm loads (`--model LSTM`, with weight dropout as in `config.weight_dropout`).

    Raises:
        ValueError: awd-lstm-lm has no such cells.
    """
    state = {
        "encoder.weight": model.model.embed_tokens.weight,
        "decoder.weight": model.lm_head.weight,
        "decoder.bias": model.lm_head.bias,
    }
    drops = model.config.weight_dropout > 0
    for i, layer in enumerate(model.model.layers):
        if why_no_kernel(layer.cell) or layer.cell.weight_hr is not None:
            raise ValueError(f"awd-lstm-lm has no such cell: {why_no_kernel(layer.cell) or 'a projection'}")
        weights = kernel_weights(layer.cell)
        prefix = f"rnns.{i}.module." if drops else f"rnns.{i}."
        for name, weight in zip(("weight_ih", "weight_hh", "bias_ih", "bias_hh"), weights, strict=True):
            state[f"{prefix}{name}_l0" + ("_raw" if drops and name == "weight_hh" else "")] = weight
    return {name: tensor.detach().clone() for name, tensor in state.items()}
