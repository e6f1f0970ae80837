"""From and to Marian's Transformer in transformers' layout (MarianMTModel, such as the OPUS-MT models)."""

from pathlib import Path

import torch
from transformers import GenerationConfig, MarianConfig, MarianMTModel

from hf_lineage.converters.fairseq import filled, layer_names
from hf_lineage.converters.foreign_files import naming
from hf_lineage.converters.safetensors_file import read_safetensors
from hf_lineage.models import TransformerConfig, TransformerForConditionalGeneration


EMBEDDINGS = ("shared", "encoder.embed_tokens", "decoder.embed_tokens")


@naming
def from_marian(folder: str | Path) -> TransformerForConditionalGeneration:
    """A `TransformerForConditionalGeneration` with configuration and weights of a MarianMTModel's folder.

    The folder holds config.json and model.safetensors, and optionally generation_config.json.

    Raises:
        ValueError: the model is none of Marian, shares no vocabulary, does not scale its embeddings, is incomplete, or
            a tensor holds NaN or infinity.
        OSError: a file is missing.
    """
    folder = Path(folder)
    settings, _ = MarianConfig.get_config_dict(folder)
    if settings.get("model_type") != "marian":
        raise ValueError(f"{folder}/config.json: model_type is {settings.get('model_type')!r}; it must be 'marian'")
    theirs = MarianConfig.from_dict(settings)
    for name in ("share_encoder_decoder_embeddings", "scale_embedding"):
        if not getattr(theirs, name):
            raise ValueError(f"{folder} has {name}=false, but the Transformer's embeddings are shared and scaled")
    for side in ("heads", "ffn_dim"):
        sizes = [getattr(theirs, name) for name in _pair(side)]
        if sizes[0] != sizes[1]:
            raise ValueError(f"{folder} has {_pair(side)} {sizes}; encoder and decoder must be alike")
    weights = read_safetensors(folder / "model.safetensors")
    weights = {name.removeprefix("model."): tensor for name, tensor in weights.items()}
    shared = [weights.pop(f"{name}.weight") for name in EMBEDDINGS if f"{name}.weight" in weights]
    head = weights.pop("lm_head.weight", None)
    if not (shared or head is not None):
        raise ValueError(f"{folder} has no embeddings")
    bias = weights.pop("final_logits_bias", None)
    weights = {name: tensor for name, tensor in weights.items() if ".embed_positions." not in name}
    config = TransformerConfig(
        vocab_size=theirs.vocab_size,
        hidden_size=theirs.d_model,
        num_hidden_layers=theirs.encoder_layers,
        decoder_layers=theirs.decoder_layers,
        num_attention_heads=theirs.encoder_attention_heads,
        intermediate_size=theirs.encoder_ffn_dim,
        hidden_act=theirs.activation_function,
        dropout=theirs.dropout,
        attention_dropout=theirs.attention_dropout,
        layer_norm_eps=1e-5,
        position_layout="concatenated",
        output_bias=True,
        pad_token_id=theirs.pad_token_id,
        bos_token_id=theirs.bos_token_id,
        eos_token_id=theirs.eos_token_id,
        decoder_start_token_id=theirs.decoder_start_token_id,
    )
    weights["embeddings"] = shared[0] if shared else head
    # as long as the embeddings, whatever the configuration says
    weights["output_bias"] = torch.zeros(len(weights["embeddings"])) if bias is None else bias.flatten()
    model = filled(config, weights, str(folder))
    if (folder / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(folder)
    return model


def to_marian(model: TransformerForConditionalGeneration, max_position_embeddings: int = 1_024) -> MarianMTModel:
    """transformers' MarianMTModel with the model's weights, for texts of up to `max_position_embeddings` tokens.

    Raises:
        ValueError: Marian has other positions, or the output layer is not tied.
    """
    config = model.config
    for name, wanted in (("position_layout", "concatenated"), ("position_offset", 0), ("tie_word_embeddings", True)):
        if getattr(config, name) != wanted:
            raise ValueError(f"Marian has {name}={wanted!r} only; this model has {getattr(config, name)!r}")
    if config.layer_norm_eps != 1e-5:
        raise ValueError(f"Marian's layer_norm_eps is 1e-5, this model's {config.layer_norm_eps}")
    theirs = MarianMTModel(
        MarianConfig(
            vocab_size=config.vocab_size,
            d_model=config.hidden_size,
            encoder_layers=config.num_hidden_layers,
            decoder_layers=config.decoder_layers,
            **dict.fromkeys(_pair("heads"), config.num_attention_heads),
            **dict.fromkeys(_pair("ffn_dim"), config.intermediate_size),
            activation_function=config.hidden_act,
            dropout=config.dropout,
            attention_dropout=config.attention_dropout,
            max_position_embeddings=max_position_embeddings,
            scale_embedding=True,
            pad_token_id=config.pad_token_id,
            bos_token_id=config.bos_token_id,
            eos_token_id=config.eos_token_id,
            decoder_start_token_id=config.decoder_start_token_id,
        )
    )
    ours, parameters = dict(model.model.named_parameters()), dict(theirs.model.named_parameters())
    with torch.no_grad():
        for name, their_name in layer_names(config):
            parameters[their_name].copy_(ours[name])
        theirs.get_input_embeddings().weight.copy_(model.get_input_embeddings().weight)
        if model.lm_head.bias is not None:
            theirs.final_logits_bias.copy_(model.lm_head.bias[None])
    theirs.generation_config = model.generation_config
    return theirs.eval()


def _pair(size: str) -> tuple[str, str]:
    """The two fields of MarianConfig for a size of encoder and decoder."""
    size = {"heads": "attention_heads"}.get(size, size)
    return f"encoder_{size}", f"decoder_{size}"
