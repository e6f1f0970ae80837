"""OpenNMT-py's and JoeyNMT's recurrent models: state dicts, to and from `LuongForConditionalGeneration`.

Their own checkpoints are pickles, which may run any code, and are not opened here. Convert one that you trust to
safetensors, where their own code has loaded the `checkpoint`. safetensors cannot hold shared tensors, so tied weights
are copied. OpenNMT-py stores the output layer apart, JoeyNMT stores all weights together; this converts both:

    from safetensors.torch import save_file

    weights = checkpoint.get("model_state") or checkpoint["model"]
    weights |= {f"generator.{name}": tensor for name, tensor in checkpoint.get("generator", {}).items()}
    save_file({name: tensor.clone().contiguous() for name, tensor in weights.items()}, "model.safetensors")
"""

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from hf_lineage.converters.foreign_files import naming
from hf_lineage.converters.safetensors_file import read_weights
from hf_lineage.converters.torch_recurrent import fill_cell
from hf_lineage.files import replacing
from hf_lineage.models.configuration_luong import LuongConfig
from hf_lineage.models.fast_recurrence import kernel_weights
from hf_lineage.models.modeling_luong import LuongForConditionalGeneration


CELL_WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
# both projects have the same ids for <unk>, padding, start and end
SPECIAL_TOKENS = {"pad_token_id": 1, "bos_token_id": 2, "eos_token_id": 3, "decoder_start_token_id": 2}
OPENNMT = {
    "source": "encoder.embeddings.make_embedding.emb_luts.0.weight",
    "target": "decoder.embeddings.make_embedding.emb_luts.0.weight",
    "output": "generator.0.weight",
    "output_bias": "generator.0.bias",
    "general": "decoder.attn.linear_in.weight",
    "key": "decoder.attn.linear_context.weight",
    "query": "decoder.attn.linear_query.weight",
    "bias": "decoder.attn.linear_query.bias",
    "energy": "decoder.attn.v.weight",
    "answer": "decoder.attn.linear_out.weight",
    "answer_bias": "decoder.attn.linear_out.bias",
}
JOEYNMT = {
    "source": "src_embed.lut.weight",
    "target": "trg_embed.lut.weight",
    "output": "decoder.output_layer.weight",
    "key": "decoder.attention.key_layer.weight",
    "query": "decoder.attention.query_layer.weight",
    "energy": "decoder.attention.energy_layer.weight",
    "answer": "decoder.att_vector_layer.weight",
    "answer_bias": "decoder.att_vector_layer.bias",
    "bridge": "decoder.bridge_layer.weight",
    "bridge_bias": "decoder.bridge_layer.bias",
}


def cell_names(config: LuongConfig, stacked: bool) -> dict[str, str]:
    """Path of each cell in our model -> its names in theirs, with {} for weight_ih and so on."""
    names = {}
    for i in range(config.num_hidden_layers):
        names[f"encoder.layers.{i}.cell"] = f"encoder.rnn.{{}}_l{i}"
        if config.bidirectional:
            names[f"encoder.layers.{i}.backward_cell"] = f"encoder.rnn.{{}}_l{i}_reverse"
    for i in range(config.decoder_layers):
        names[f"decoder.layers.{i}.cell"] = f"decoder.rnn.layers.{i}.{{}}" if stacked else f"decoder.rnn.{{}}_l{i}"
    return names


def matrices(model: LuongForConditionalGeneration) -> dict[str, Tensor]:
    """The parameters outside the cells, by the keys of `OPENNMT` and `JOEYNMT`."""
    decoder, alignment = model.model.decoder, model.model.decoder.alignment
    found = {
        "source": model.model.encoder.embed_tokens.weight,
        "target": decoder.embed_tokens.weight,
        "output": model.lm_head.weight,
        "output_bias": model.lm_head.bias,
        "answer_bias": decoder.from_state.bias,
        "context_part": decoder.from_context.weight,
        "state_part": decoder.from_state.weight,
    }
    found |= {name.removeprefix("weight_"): parameter for name, parameter in alignment.named_parameters()}
    if "energy" in found:
        # theirs is a matrix of one row
        found["energy"] = found["energy"][None]
    if decoder.bridge.dense is not None:
        found |= {"bridge": decoder.bridge.dense.weight, "bridge_bias": decoder.bridge.dense.bias}
    return {name: tensor for name, tensor in found.items() if tensor is not None}


def build(found: dict[str, Tensor], source: str, stacked: bool, settings: dict) -> LuongForConditionalGeneration:
    """A model with these weights and their sizes; `found` has our keys for matrices, and theirs for cells."""
    for name in ("source", "target", "output", "context_part", "encoder.rnn.weight_hh_l0"):
        if name not in found:
            raise ValueError(f"{source} has no weight for {name}: it is not a recurrent model with attention")
    gates, size = found["encoder.rnn.weight_hh_l0"].shape
    kind = {4: "lstm", 3: "gru"}.get(gates // size)
    if kind is None:
        raise ValueError(f"{source} has cells of {gates // size} gates; it must be an LSTM (4) or a GRU (3)")
    depths = [
        len({match[1] for name in found if (match := re.fullmatch(pattern, name))})
        for pattern in (r"encoder\.rnn\.weight_hh_l(\d+)", r"decoder\.rnn\.(?:layers\.|weight_hh_l)(\d+).*")
    ]
    embedding_size, hidden_size = found["source"].shape[1], found["context_part"].shape[0]
    if found["target"].shape[1] != embedding_size:
        raise ValueError(
            f"{source} has source word vectors of size {embedding_size} and target word vectors of size "
            f"{found['target'].shape[1]}; the sizes must be equal"
        )
    first = found["decoder.rnn.layers.0.weight_ih" if stacked else "decoder.rnn.weight_ih_l0"]
    model = LuongForConditionalGeneration(
        LuongConfig(
            **{
                "vocab_size": found["source"].shape[0],
                "decoder_vocab_size": found["target"].shape[0],
                "embedding_size": embedding_size,
                "hidden_size": hidden_size,
                "encoder_hidden_size": size,
                "num_hidden_layers": depths[0],
                "decoder_layers": depths[1],
                "cell": kind,
                "reset_mode": "after",
                "update_convention": "keep",
                "bidirectional": "encoder.rnn.weight_hh_l0_reverse" in found,
                "reverse_source": False,
                "bridge": "dense" if "bridge" in found else "copy",
                "attention": "concat" if "energy" in found else "general" if "key" in found else "dot",
                "attention_bias": "bias" in found,
                "input_feeding": first.shape[1] > embedding_size,
                "answer_bias": "answer_bias" in found,
                "output_bias": "output_bias" in found,
                **SPECIAL_TOKENS,
            }
            | settings
        )
    )
    expected = matrices(model)
    cells = cell_names(model.config, stacked)
    wanted = expected.keys() | {name.format(part) for name in cells.values() for part in CELL_WEIGHTS}
    if lost := wanted ^ found.keys():
        raise ValueError(
            f"{source}: {', '.join(sorted(lost)[:5])} {'is missing' if lost & wanted else 'has no place in the model'}"
        )
    with torch.no_grad():
        for name, parameter in expected.items():
            if parameter.shape != found[name].shape:
                raise ValueError(f"{source}: {name} is {list(found[name].shape)}, the model's {list(parameter.shape)}")
            parameter.copy_(found[name])
    for ours, theirs in cells.items():
        weights = {part: found[theirs.format(part)] for part in CELL_WEIGHTS}
        fill_cell(model.model.get_submodule(ours), weights)
    return model.eval()


def renamed(weights: dict[str, Tensor], names: dict[str, str]) -> dict[str, Tensor]:
    theirs = {theirs: ours for ours, theirs in names.items()}
    return {theirs.get(name, name): tensor for name, tensor in weights.items()}


@naming
def from_opennmt(weights: Mapping[str, Tensor] | str | Path, **settings) -> LuongForConditionalGeneration:
    """The model of OpenNMT-py's `rnn` or `brnn` encoder and `rnn` decoder (LSTM, GRU; attention general, dot, mlp).

    `weights`: see above, or their safetensors file. `settings` are fields of `LuongConfig` (dropout, tokens, …).

    Raises:
        ValueError: it is another architecture (copy attention, coverage, bridge, context gate, features, no
            attention), or the file is not in safetensors.
    """
    weights, source = read_weights(weights)
    found = renamed(weights, OPENNMT)
    if "answer" in found:
        # linear_out([c; s])
        found["context_part"], found["state_part"] = found.pop("answer").chunk(2, dim=1)
    if "general" in found:
        # (A s) · h = s · (Aᵀ h)
        found["key"] = found.pop("general").T
    # their global attention has no tanh around the answer if its score has one
    answer = {"answer_act": "linear" if "energy" in found else "tanh"}
    return build(found, source, "decoder.rnn.layers.0.weight_ih" in found, answer | settings)


@naming
def from_joeynmt(
    weights: Mapping[str, Tensor] | str | Path, *, scaled_embeddings: bool = False, **settings
) -> LuongForConditionalGeneration:
    """The model of JoeyNMT's recurrent encoder and decoder (LSTM or GRU, attention luong or bahdanau, its bridge).

    `weights`: see above, or their safetensors file. `settings` are fields of `LuongConfig` (dropout, tokens, …). Set
    `scaled_embeddings` if JoeyNMT's YAML says `embeddings: scale: True`, which the weights do not show: JoeyNMT then
    multiplies vectors of E numbers by √E when it reads them; here they are stored multiplied.

    Raises:
        ValueError: it is another architecture (`init_hidden` other than bridge, a Transformer), or the file is not in
            safetensors.
    """
    weights, source = read_weights(weights)
    found = renamed(weights, JOEYNMT)
    if scaled_embeddings:
        found |= {side: found[side] * found[side].shape[1] ** 0.5 for side in ("source", "target") if side in found}
    if "answer" in found:
        # att_vector_layer([s; c])
        answer = found.pop("answer")
        found["state_part"], found["context_part"] = answer.split(
            [answer.shape[0], answer.shape[1] - answer.shape[0]], dim=1
        )
    return build(found, source, False, settings)


def export(model, names: dict[str, str], found: dict[str, Tensor], stacked: bool, path, wanted: dict):
    """`found` and the cells under their names, also as a safetensors file; refuses what their format cannot hold."""
    config = model.config
    wanted = wanted | {"reverse_source": False, "attention_window": "global", "coverage": False}
    wanted |= {"peephole": None, "coupled_gates": None, "hidden_size": model.model.decoder.layers[0].cell.hidden_size}
    for name, value in wanted.items():
        allowed = value if isinstance(value, tuple) else (value,)
        if getattr(config, name) not in allowed:
            raise ValueError(f"{name} is {getattr(config, name)!r}; the other format has only {allowed}")
    if config.cell == "rnn" or (config.cell == "gru" and config.reset_mode != "after"):
        raise ValueError(
            f"cell {config.cell!r} with reset_mode {config.reset_mode!r} has no place in the other format"
        )
    weights = {names[name]: tensor for name, tensor in found.items()}
    for ours, theirs in cell_names(config, stacked).items():
        cell = model.model.get_submodule(ours)
        fused = kernel_weights(cell)
        weights |= {theirs.format(part): tensor for part, tensor in zip(CELL_WEIGHTS, fused, strict=True)}
    weights = {name: tensor.detach().clone().contiguous() for name, tensor in weights.items()}
    if path is not None:
        with replacing(path) as temporary:
            save_file(weights, temporary)
    return weights


def to_opennmt(model: LuongForConditionalGeneration, path: str | Path | None = None) -> dict[str, Tensor]:
    """The model's weights under OpenNMT-py's names, the output layer's under "generator."; writes them to `path` too.

    Raises:
        ValueError: OpenNMT-py does not have a feature of the model.
    """
    if model.config.attention not in ("general", "dot", "concat"):
        raise ValueError(f"attention is {model.config.attention!r}; OpenNMT-py has general, dot and concat (mlp)")
    found, additive = matrices(model), model.config.attention == "concat"
    found["answer"] = torch.cat([found.pop("context_part"), found.pop("state_part")], dim=1)
    if model.config.attention == "general":
        found["general"] = found.pop("key").T
    wanted = {"bridge": "copy", "output_bias": True, "attention_bias": additive, "answer_bias": additive}
    wanted["answer_act"] = "linear" if additive else "tanh"
    if additive:
        wanted["attention_size"] = model.config.hidden_size
    return export(model, OPENNMT, found, model.config.input_feeding, path, wanted)


def to_joeynmt(model: LuongForConditionalGeneration, path: str | Path | None = None) -> dict[str, Tensor]:
    """The model's weights under JoeyNMT's names, for `embeddings: scale: False`; writes them to `path` too.

    Raises:
        ValueError: JoeyNMT does not have a feature of the model, or needs one that the model lacks (a bridge,
            answer_bias).
    """
    if model.config.attention not in ("general", "concat"):
        raise ValueError(f"attention is {model.config.attention!r}; JoeyNMT has general (luong) and concat (bahdanau)")
    found = matrices(model)
    found["answer"] = torch.cat([found.pop("state_part"), found.pop("context_part")], dim=1)
    wanted = {"bridge": "dense", "answer_bias": True, "output_bias": False, "bidirectional": True}
    wanted |= {"attention_bias": False, "answer_act": "tanh"}
    return export(model, JOEYNMT, found, False, path, wanted | {"attention_size": model.config.hidden_size})
