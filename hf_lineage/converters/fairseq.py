"""fairseq's Transformer: its state dict, as a mapping or in a safetensors file, and back.

fairseq's own .pt files are pickles, which may run any code, and are not opened here. Convert one that you trust to
safetensors, where fairseq has loaded the `checkpoint`. safetensors cannot hold shared tensors, so the shared
embeddings are copied:

    from safetensors.torch import save_file

    weights = {name: tensor.clone().contiguous() for name, tensor in checkpoint["model"].items()}
    save_file(weights, "model.safetensors")
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from hf_lineage.converters.foreign_files import naming
from hf_lineage.converters.safetensors_file import read_weights
from hf_lineage.files import replacing
from hf_lineage.models import TransformerConfig, TransformerForConditionalGeneration


# ours -> fairseq's, within a layer; transformers' Bart and Marian use fairseq's names
LAYER_NAMES = {
    "attention": "self_attn",
    "attention_norm": "self_attn_layer_norm",
    "cross_attention": "encoder_attn",
    "cross_attention_norm": "encoder_attn_layer_norm",
    "feed_forward.up_proj": "fc1",
    "feed_forward.down_proj": "fc2",
    "feed_forward_norm": "final_layer_norm",
}
EMBEDDINGS = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "decoder.output_projection.weight")
# counters and tables that fairseq keeps among the weights
WITHOUT_MEANING = (".version", "._float_tensor", ".embed_positions.weights")


def layer_names(config: TransformerConfig) -> Iterator[tuple[str, str]]:
    """Our name and fairseq's of each parameter of the blocks, below encoder and decoder."""
    for side, count in (("encoder", config.num_hidden_layers), ("decoder", config.decoder_layers)):
        for i in range(count):
            for ours, theirs in LAYER_NAMES.items():
                if side == "encoder" and ours.startswith("cross"):
                    continue
                inner = ("",)
                if ours.endswith("attention"):
                    inner = (".q_proj", ".k_proj", ".v_proj", ".out_proj")
                for part in inner:
                    for kind in ("weight", "bias"):
                        yield f"{side}.blocks.{i}.{ours}{part}.{kind}", f"{side}.layers.{i}.{theirs}{part}.{kind}"


def filled(
    config: TransformerConfig, weights: Mapping[str, Tensor], source: str
) -> TransformerForConditionalGeneration:
    """A model with fairseq-named `weights` of the blocks, and `embeddings` and `output_bias`.

    It is built only after every weight was found with its shape, since the configuration may ask for more than the
    machine holds.

    Raises:
        ValueError: a weight is missing, has another shape, or has no place in the model; the error names `source`.
    """
    names = {"model.encoder.embed_tokens.weight": "embeddings"}
    names |= {f"model.{ours}": theirs for ours, theirs in layer_names(config)}
    if config.output_bias:
        names["lm_head.bias"] = "output_bias"
    if lost := set(names.values()) ^ weights.keys():
        raise ValueError(
            f"{source} is not a post-norm Transformer of these sizes: {', '.join(sorted(lost)[:5])} "
            f"{'is missing' if lost - weights.keys() else 'has no place in it'}"
        )
    with torch.device("meta"):
        expected = dict(TransformerForConditionalGeneration(config).named_parameters())
    for ours, theirs in names.items():
        if expected[ours].shape != weights[theirs].shape:
            raise ValueError(
                f"{source}: {theirs} is {list(weights[theirs].shape)}, the model's {list(expected[ours].shape)}"
            )
    model = TransformerForConditionalGeneration(config)
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for ours, theirs in names.items():
            parameters[ours].copy_(weights[theirs])
    return model.eval()


@naming
def from_fairseq(
    weights: Mapping[str, Tensor] | str | Path, num_attention_heads: int | None = None, **settings
) -> TransformerForConditionalGeneration:
    """A `TransformerForConditionalGeneration` with the weights of a fairseq `transformer` (post-norm, all shared).

    `weights` is the state dict, or its safetensors file. It gives all sizes except the number of heads, which must be
    given: 8 in the base model. `settings` are fields of `TransformerConfig`. By default the special tokens are
    fairseq's: <s> 0, <pad> 1, </s> 2, which also starts the target.

    Raises:
        ValueError: the weights belong to another architecture (pre-norm, learned positions, separate embeddings), are
            incomplete, or the file is not in safetensors; or num_attention_heads is missing.
    """
    weights, source = read_weights(weights)
    weights = {name: tensor for name, tensor in weights.items() if not name.endswith(WITHOUT_MEANING)}
    for name in ("encoder.layer_norm.weight", "encoder.embed_positions.weight", "encoder.layernorm_embedding.weight"):
        if name in weights:
            kind = {"layer_norm": "pre-norm", "embed_positions": "of learned positions"}.get(name.split(".")[1])
            raise ValueError(f"{source} is {kind or 'normalised after the embeddings'} ({name}), unlike the paper's")
    shared = [weights.pop(name) for name in EMBEDDINGS if name in weights]
    if not shared or any(matrix.shape != shared[0].shape or not matrix.equal(shared[0]) for matrix in shared[1:]):
        raise ValueError(
            f"{source} does not share one matrix between source, target and output (--share-all-embeddings)"
        )
    weights = dict(_split_projections(weights)) | {"embeddings": shared[0]}
    depths = [
        1 + max((int(name.split(".")[2]) for name in weights if name.startswith(f"{side}.layers.")), default=-1)
        for side in ("encoder", "decoder")
    ]
    if 0 in depths or "encoder.layers.0.fc1.weight" not in weights:
        raise ValueError(f"{source} has no encoder.layers and decoder.layers: is it a fairseq transformer?")
    if num_attention_heads is None:
        raise ValueError(f"{source} does not hold the number of heads: give num_attention_heads (8 in the base model)")
    pad = settings.get("pad_token_id", 1)
    config = TransformerConfig(
        **{
            "vocab_size": shared[0].shape[0],
            "hidden_size": shared[0].shape[1],
            "num_hidden_layers": depths[0],
            "decoder_layers": depths[1],
            "intermediate_size": weights["encoder.layers.0.fc1.weight"].shape[0],
            "num_attention_heads": num_attention_heads,
            "layer_norm_eps": 1e-5,
            "position_layout": "tensor2tensor",
            "position_offset": pad + 1,
            "pad_token_id": pad,
            "bos_token_id": 0,
            "eos_token_id": 2,
            "decoder_start_token_id": 2,
        }
        | settings
    )
    return filled(config, weights, source)


def to_fairseq(model: TransformerForConditionalGeneration, path: str | Path | None = None) -> dict[str, Tensor]:
    """The model's weights under fairseq's names, also written to `path` (safetensors, in one piece) if given.

    Raises:
        ValueError: fairseq cannot hold the model: it has other positions, or a bias on the output layer.
    """
    config = model.config
    for name, wanted in (("position_layout", "tensor2tensor"), ("output_bias", False)):
        if getattr(config, name) != wanted:
            raise ValueError(f"fairseq has {name}={wanted!r} only; this model has {getattr(config, name)!r}")
    if config.position_offset != config.pad_token_id + 1:
        raise ValueError(
            f"fairseq counts positions from pad_token_id + 1 = {config.pad_token_id + 1}; this model's "
            f"position_offset is {config.position_offset}"
        )
    parameters = dict(model.model.named_parameters())
    weights = {theirs: parameters[ours].detach().clone() for ours, theirs in layer_names(config)}
    # copies, since safetensors cannot hold shared tensors
    weights |= {name: model.get_input_embeddings().weight.detach().clone() for name in EMBEDDINGS}
    if path is not None:
        with replacing(path) as temporary:
            save_file(weights, temporary)
    return weights


def _split_projections(weights):
    """Query, key and value, which fairseq up to 0.8 kept in one matrix."""
    for name, tensor in weights.items():
        if ".in_proj_" in name:
            for part, chunk in zip(("q_proj.", "k_proj.", "v_proj."), tensor.chunk(3), strict=True):
                yield name.replace("in_proj_", part), chunk
        else:
            yield name, tensor
