"""Configuration of the Transformer; the defaults are the paper's base model."""

from typing import Literal

from huggingface_hub.dataclasses import strict

from .configuration_lineage import LineageConfig


@strict
class TransformerConfig(LineageConfig):
    """Transformer (Vaswani et al., 2017).

    New: attention in place of recurrence: all positions are computed at once, each looking at all others.

    The defaults are the base model of table 3; `big` gives the big one.

    Args:
        vocab_size: number of tokens, which source and target share.
        hidden_size: length of a vector, d_model; even, and a multiple of num_attention_heads.
        num_hidden_layers: layers of the encoder.
        decoder_layers: layers of the decoder, 1 to 1,000; default: num_hidden_layers.
        num_attention_heads: heads of each attention, h.
        intermediate_size: units of the feed-forward layer, d_ff.
        hidden_act: activation of the feed-forward layer.
        dropout: on the output of every sub-layer and on the sum of token and position vectors, in [0, 1).
        attention_dropout: on the attention weights, in [0, 1); not in the paper.
        layer_norm_eps: ε of layer normalisation, as in the authors' tensor2tensor (the paper gives none).
        position_layout: sines and cosines "interleaved" (the paper), or all sines first: "concatenated" (Marian),
            or "tensor2tensor" with wavelengths from 2π to exactly 10000 · 2π (tensor2tensor, fairseq).
        position_offset: position of the first token: 0; 2 in fairseq (its padding id + 1).
        output_bias: whether the output layer has a bias, as in Marian.
        tie_word_embeddings: whether the output layer reuses the embeddings.

    Raises:
        huggingface_hub.errors.StrictDataclassError: hidden_size is odd or no multiple of num_attention_heads, or
            decoder_layers is not in 1..1000.
    """

    model_type = "lineage_transformer"
    auto_classes = {
        "AutoModel": "modeling_transformer.TransformerModel",
        "AutoModelForSeq2SeqLM": "modeling_transformer.TransformerForConditionalGeneration",
    }

    vocab_size: int = 37_000
    hidden_size: int = 512
    num_hidden_layers: int = 6
    decoder_layers: int | None = None
    num_attention_heads: int = 8
    intermediate_size: int = 2_048
    hidden_act: str = "relu"
    dropout: float | int = 0.1
    attention_dropout: float | int = 0.0
    layer_norm_eps: float = 1e-6
    position_layout: Literal["interleaved", "concatenated", "tensor2tensor"] = "interleaved"
    position_offset: int = 0
    output_bias: bool = False
    tie_word_embeddings: bool = True
    is_encoder_decoder: bool = True
    use_cache: bool = True
    pad_token_id: int | None = 0
    bos_token_id: int | None = 2
    eos_token_id: int | list[int] | None = 3
    decoder_start_token_id: int | None = 2

    def __post_init__(self, **kwargs):
        if self.decoder_layers is None:
            self.decoder_layers = self.num_hidden_layers
        super().__post_init__(**kwargs)

    @classmethod
    def big(cls, **changes) -> "TransformerConfig":
        """The big model of table 3, with the dropout for English-German, 0.3 (English-French: 0.1)."""
        sizes = {"hidden_size": 1_024, "intermediate_size": 4_096, "num_attention_heads": 16, "dropout": 0.3}
        return cls(**sizes | changes)

    def validate_heads(self):
        """Each head takes an equal share of the hidden units, and each wavelength takes two."""
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} must be a multiple of num_attention_heads {self.num_attention_heads}"
            )
        if self.hidden_size % 2:
            raise ValueError(
                f"hidden_size is {self.hidden_size}; it must be even: each wavelength has a sine and a cosine"
            )

    def validate_decoder(self):
        """The limit of `num_hidden_layers` also holds for the decoder."""
        if self.decoder_layers != self.num_hidden_layers and not 1 <= self.decoder_layers <= 1_000:
            raise ValueError(f"decoder_layers is {self.decoder_layers}; it must lie between 1 and 1000")
