"""Configuration of BERT; the defaults are the paper's base model (109,482,240 parameters)."""

from typing import Literal

from huggingface_hub.dataclasses import strict

from .configuration_lineage import LineageConfig


@strict
class BERTConfig(LineageConfig):
    """BERT, bidirectional encoder representations from Transformers (Devlin et al., 2019).

    New: every layer reads the text on both sides; the model guesses masked words, so that no word can see itself.

    The defaults are BERT-base (section 3); BERT-large has 24 layers of 1,024 units, 16 heads and an intermediate size
    of 4,096. The fields have the names of transformers' BertConfig, and each class reads the other's files.

    Args:
        vocab_size: number of tokens.
        hidden_size: length of a vector; a multiple of num_attention_heads.
        num_hidden_layers: number of layers.
        num_attention_heads: heads of each attention.
        intermediate_size: units of the feed-forward layer.
        max_position_embeddings: longest input in tokens.
        type_vocab_size: kinds of segments (A and B).
        hidden_act: "gelu" is the exact form, as in the 2018 release.
        hidden_dropout_prob: after the embeddings and every sub-layer, in [0, 1).
        attention_probs_dropout_prob: on the attention weights, in [0, 1).
        classifier_dropout: before a fine-tuned output layer; default: hidden_dropout_prob.
        classifier_pooling: what a classifier of texts reads: the vector at [CLS] after the pooler ("cls"), the mean of
            all vectors ("mean"), or both and the largest values ("concat"; Howard & Ruder, 2018).
        use_crf: whether the tagger scores whole tag sequences by a conditional random field.
        layer_norm_eps: ε of layer normalisation.
        initializer_range: standard deviation of the initial weights, drawn from a truncated normal distribution.
        tie_word_embeddings: whether the output layer of the masked words reuses the embeddings.

    Raises:
        ValueError: the file belongs to a model of another type.
        huggingface_hub.errors.StrictDataclassError: as `LineageConfig`, or the file's BERT is a decoder or has
            relative positions.
    """

    model_type = "lineage_bert"
    auto_classes = {
        "AutoModel": "modeling_bert.BERTModel",
        "AutoModelForPreTraining": "modeling_bert.BERTForPreTraining",
        "AutoModelForMaskedLM": "modeling_bert.BERTForMaskedLM",
        "AutoModelForNextSentencePrediction": "modeling_bert.BERTForNextSentencePrediction",
        "AutoModelForSequenceClassification": "modeling_bert.BERTForSequenceClassification",
        "AutoModelForTokenClassification": "modeling_bert.BERTForTokenClassification",
        "AutoModelForQuestionAnswering": "modeling_bert.BERTForQuestionAnswering",
        "AutoModelForMultipleChoice": "modeling_bert.BERTForMultipleChoice",
    }
    # the names that the shared layers use
    attribute_map = {"dropout": "hidden_dropout_prob", "attention_dropout": "attention_probs_dropout_prob"}
    foreign_types = ("bert",)

    vocab_size: int = 30_522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3_072
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    hidden_act: str = "gelu"
    hidden_dropout_prob: float | int = 0.1
    attention_probs_dropout_prob: float | int = 0.1
    classifier_dropout: float | int | None = None
    classifier_pooling: Literal["cls", "mean", "concat"] = "cls"
    use_crf: bool = False
    layer_norm_eps: float = 1e-12
    initializer_range: float = 0.02
    pad_token_id: int | None = 0
    tie_word_embeddings: bool = True

    @classmethod
    def get_config_dict(cls, pretrained_model_name_or_path, **kwargs):
        """The fields of the file; those of transformers' BERT become ours."""
        fields, kwargs = super().get_config_dict(pretrained_model_name_or_path, **kwargs)
        return {**fields, "model_type": cls.model_type}, kwargs

    def validate_heads(self):
        """Each head takes an equal share of the hidden units."""
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} must be a multiple of num_attention_heads {self.num_attention_heads}"
            )

    def validate_variant(self):
        """Refuses variants that transformers' BertConfig allows but the paper does not have."""
        for name, allowed in {"is_decoder": (False, None), "position_embedding_type": ("absolute", None)}.items():
            value = getattr(self, name, None)
            if value not in allowed:
                raise ValueError(f"{name} is {value!r}; BERT (Devlin et al., 2019) has {name}={allowed[0]!r} only")
