"""Configuration of Luong's attentional encoder-decoder."""

from typing import Literal

from huggingface_hub.dataclasses import strict

from .configuration_recurrent_seq2seq import AttentionalSeq2SeqConfig


@strict
class LuongConfig(AttentionalSeq2SeqConfig):
    """Attentional encoder-decoder with simpler scores and local windows (Luong et al., 2015).

    New: the state after each step decides where to look; a score can be a plain dot product, over all words or a few.

    The defaults are the paper's (section 4.1), with the default options of its published code. For the other fields
    see RecurrentSeq2SeqConfig and AttentionalSeq2SeqConfig; coverage needs "concat", as does attention_bias.

    Args:
        attention: score of a source vector h for a target state s: "dot" s·h, "general" s·W h, "concat"
            v·tanh(W [s; h]), "location" (W s)_j for the word at position j.
        attention_window: "global" sees all words, "local-m" ± window_size words around the target's own position,
            "local-p" ± window_size words around a predicted position, weighted by a Gaussian.
        window_size: words on each side of a local window, 1 to 1,000,000.
        max_source_length: most source words for "location", 1 to 1,000,000.
        input_feeding: whether the first layer also reads the last answer tanh(W [c; s]).
        answer_bias: whether the answer is tanh(W [c; s] + b), as in some published code.
        answer_act: the answer's function; "linear" is W [c; s], as in OpenNMT-py's additive attention.
    """

    model_type = "lineage_luong"
    # earlier checkpoints
    foreign_types = ("lineage_rnnsearch",)
    auto_classes = {
        "AutoModel": "modeling_luong.LuongModel",
        "AutoModelForSeq2SeqLM": "modeling_luong.LuongForConditionalGeneration",
    }

    vocab_size: int = 50_000
    num_hidden_layers: int = 4
    reset_mode: Literal["before", "after"] = "before"
    update_convention: Literal["keep", "replace"] = "replace"
    reverse_source: bool = True
    output_bias: bool = False
    dropout: float | int = 0.2
    initializer_range: float = 0.1
    attention: Literal["dot", "general", "concat", "location"] = "general"
    attention_window: Literal["global", "local-m", "local-p"] = "global"
    window_size: int = 10
    max_source_length: int = 50
    input_feeding: bool = True
    answer_bias: bool = False
    answer_act: Literal["tanh", "linear"] = "tanh"

    def validate_attention(self):
        """Luong's decoder has no readout, and some scores need matching sizes."""
        if self.readout_size is not None or self.output_rank is not None:
            raise ValueError(
                f"readout_size is {self.readout_size} and output_rank {self.output_rank}; both must be None, since "
                "Luong's decoder has no readout: see RNNSearchConfig"
            )
        if self.attention == "dot" and self.encoder_hidden_size and self.source_size != self.hidden_size:
            raise ValueError(
                f'attention="dot" needs vectors of one length, not {self.source_size} and {self.hidden_size}: '
                'change encoder_hidden_size or use attention="general"'
            )
        for name in ("coverage", "attention_bias"):
            if getattr(self, name) and self.attention != "concat":
                raise ValueError(f'{name} needs attention="concat", not "{self.attention}"')
        for name in ("window_size", "max_source_length"):
            if not 1 <= getattr(self, name) <= 1_000_000:
                raise ValueError(f"{name} is {getattr(self, name)}; it must lie between 1 and 1,000,000")
