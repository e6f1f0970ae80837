"""Configuration of GPT; the defaults are the paper's 12-layer model (116,534,784 parameters)."""

from typing import Literal

from huggingface_hub.dataclasses import strict

from .configuration_lineage import LineageConfig


@strict
class GPTConfig(LineageConfig):
    """GPT, generative pre-training (Radford et al., 2018).

    New: the Transformer's decoder alone, pretrained on plain text and then fine-tuned to any task.

    The defaults are the sizes of section 4.1. Every dropout lies in [0, 1).

    Args:
        vocab_size: number of tokens.
        hidden_size: length of a vector; a multiple of num_attention_heads.
        num_hidden_layers: number of layers.
        num_attention_heads: heads of each attention.
        intermediate_size: units of the feed-forward layer.
        max_position_embeddings: longest text in tokens.
        hidden_act: "gelu_new" is the tanh form of the GELU, as released; "gelu" is the exact one.
        dropout: after every sub-layer.
        embedding_dropout: on the embeddings, as embedding_dropout_of says.
        embedding_dropout_of: "vectors" drops from the sum of token and position vectors; "tables" drops entries of
            both embedding tables, and so of the tied output layer, as the released code does.
        attention_dropout: on the attention weights.
        classifier_dropout: on the vector that a classifier reads.
        classifier_pooling: what a classifier of texts reads: the vector at the extract token ("last"), the mean of all
            vectors ("mean"), or both and the largest values ("concat"; Howard & Ruder, 2018).
        use_crf: whether the tagger scores whole tag sequences by a conditional random field.
        lm_loss_weight: λ of equation 5, weight of the language model's loss in classification; 0 or more.
        layer_norm_eps: ε of layer normalisation.
        initializer_range: standard deviation of the initial weights.
        tie_word_embeddings: whether the output layer reuses the embeddings.
    """

    model_type = "lineage_gpt"
    auto_classes = {
        "AutoModel": "modeling_gpt.GPTModel",
        "AutoModelForCausalLM": "modeling_gpt.GPTForCausalLM",
        "AutoModelForSequenceClassification": "modeling_gpt.GPTForSequenceClassification",
        "AutoModelForMultipleChoice": "modeling_gpt.GPTForMultipleChoice",
        "AutoModelForTokenClassification": "modeling_gpt.GPTForTokenClassification",
        "AutoModelForQuestionAnswering": "modeling_gpt.GPTForQuestionAnswering",
    }

    vocab_size: int = 40_478
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3_072
    max_position_embeddings: int = 512
    hidden_act: str = "gelu_new"
    dropout: float | int = 0.1
    embedding_dropout: float | int = 0.1
    embedding_dropout_of: Literal["vectors", "tables"] = "vectors"
    attention_dropout: float | int = 0.1
    classifier_dropout: float | int = 0.1
    classifier_pooling: Literal["last", "mean", "concat"] = "last"
    use_crf: bool = False
    lm_loss_weight: float | int = 0.5
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

    def validate_lm_loss_weight(self):
        """A negative weight would reward a worse language model."""
        if self.lm_loss_weight < 0:
            raise ValueError(f"lm_loss_weight is {self.lm_loss_weight}; it must be at least 0 (the paper's is 0.5)")
