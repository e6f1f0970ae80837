"""Configuration of GPT; the defaults are the paper's 12-layer model (116,534,784 parameters)."""

from huggingface_hub.dataclasses import strict

from .configuration_lineage import LineageConfig


@strict
class GPTConfig(LineageConfig):
    """GPT, generative pre-training (Radford et al., 2018).

    New: the Transformer's decoder alone, pretrained on plain text and then fine-tuned to any task.

    The defaults are the sizes of section 4.1. `dropout` acts after every sub-layer, `embedding_dropout` on the sum of
    token and position vectors and `attention_dropout` on the attention weights. `hidden_act="gelu_new"` is the tanh
    form of the GELU, as released.
    """

    model_type = "lineage_gpt"
    auto_classes = {"AutoModel": "modeling_gpt.GPTModel", "AutoModelForCausalLM": "modeling_gpt.GPTForCausalLM"}

    vocab_size: int = 40_478
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3_072
    max_position_embeddings: int = 512
    hidden_act: str = "gelu_new"
    dropout: float | int = 0.1
    embedding_dropout: float | int = 0.1
    attention_dropout: float | int = 0.1
    layer_norm_eps: float = 1e-5
    initializer_range: float = 0.02
    tie_word_embeddings: bool = True
    use_cache: bool = True

    def validate_heads(self):
        """Each head takes an equal share of the hidden units."""
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} must be a multiple of num_attention_heads {self.num_attention_heads}"
            )
