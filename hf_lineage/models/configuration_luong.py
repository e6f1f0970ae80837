"""Configuration of Luong's attentional encoder-decoder."""

from typing import Literal

from huggingface_hub.dataclasses import strict

from .configuration_recurrent_seq2seq import AttentionalSeq2SeqConfig


@strict
class LuongConfig(AttentionalSeq2SeqConfig):
    """Attentional encoder-decoder with simpler scores and local windows (Luong et al., 2015).

    New: the state after each step asks where to look, by scores as simple as a product, over all words or a few.

    The defaults are the paper's (section 4.1), with the options that its published code has as defaults.

    `attention` is the score of a source vector h for a target state s: "dot" s·h, "general" s·W h, "concat"
    v·tanh(W [s; h]), and "location", where W s has a score for each of `max_source_length` positions.
    `attention_size` is the length of v (default: `hidden_size`).

    `attention_window` "global" looks at all words, "local-m" at ± `window_size` of them around the target's own
    position, "local-p" at as many around a position that it predicts, weighted by a Gaussian.

    `input_feeding` lets the first layer read the last answer tanh(W [c; s]); `answer_bias` adds b to W [c; s], as some
    published code does.

    `coverage` adds the attention that a word got so far to its score (See et al., 2017, equation 11; "concat" only);
    in training, `coverage_loss_weight` times their equation 12 punishes looking there again.
    """

    model_type = "lineage_luong"
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

    def validate_attention(self):
        """Luong's decoder has no readout, and some scores need sizes that fit."""
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
        if self.coverage and self.attention != "concat":
            raise ValueError(f'coverage needs attention="concat", not "{self.attention}"')
        for name in ("window_size", "max_source_length"):
            if not 1 <= getattr(self, name) <= 1_000_000:
                raise ValueError(f"{name} is {getattr(self, name)}; it must lie between 1 and 1,000,000")
