"""Configuration of RNNsearch."""

import warnings
from dataclasses import fields
from typing import Literal

from huggingface_hub.dataclasses import strict
from transformers import CONFIG_MAPPING

from .configuration_recurrent_seq2seq import AttentionalSeq2SeqConfig


# fields of Luong's form before it had its own configuration, with the values of RNNsearch
FIELDS_OF_LUONG = {
    "attention": "additive",
    "attention_window": "global",
    "window_size": 10,
    "max_source_length": 50,
    "input_feeding": False,
    "answer_bias": False,
}


@strict
class RNNSearchConfig(AttentionalSeq2SeqConfig):
    """RNNsearch (Bahdanau et al., 2015).

    New: the decoder looks back at every source word, and learns where; no single state must hold a whole sentence.

    The defaults are the paper's. The score of a source vector h for the decoder's state s is v·tanh(W s + U h). For
    the fields see RecurrentSeq2SeqConfig and AttentionalSeq2SeqConfig.
    """

    model_type = "lineage_rnnsearch"
    auto_classes = {
        "AutoModel": "modeling_rnnsearch.RNNSearchModel",
        "AutoModelForSeq2SeqLM": "modeling_rnnsearch.RNNSearchForConditionalGeneration",
    }

    embedding_size: int | None = 620
    cell: Literal["rnn", "lstm", "gru"] = "gru"
    reset_mode: Literal["before", "after"] = "before"
    update_convention: Literal["keep", "replace"] = "replace"
    bidirectional: bool = True
    bridge: Literal["copy", "dense", "backward"] = "backward"
    readout_size: int | None = 500
    output_bias: bool = False
    initialization: Literal["uniform", "orthogonal"] = "orthogonal"
    initializer_range: float = 0.01

    def __post_init__(self, **kwargs):
        for name, value in FIELDS_OF_LUONG.items():
            # sizes that nothing reads may have any value
            if kwargs.pop(name, value) != value and not name.endswith(("size", "length")):
                raise ValueError(
                    f"{name} is not a field of RNNSearchConfig, whose attention is additive: for Luong's form use "
                    'LuongConfig (model_type "lineage_luong")'
                )
        if self.decoder_layers is None:
            self.decoder_layers = 1
        super().__post_init__(**kwargs)

    @classmethod
    def from_dict(cls, config_dict, **kwargs):
        """The configuration of a dictionary; a LuongConfig if an earlier checkpoint had Luong's form."""
        if config_dict.get("attention", "additive") == "additive":
            return super().from_dict(config_dict, **kwargs)
        luong = CONFIG_MAPPING["lineage_luong"]
        shared = {field.name: field.default for field in fields(cls)} | FIELDS_OF_LUONG
        defaults = {field.name: shared[field.name] for field in fields(luong) if field.name in shared}
        return luong.from_dict(defaults | config_dict | {"model_type": luong.model_type}, **kwargs)

    @classmethod
    def luong(cls, **changes):
        """The old name of `LuongConfig(...)`."""
        warnings.warn("RNNSearchConfig.luong is now LuongConfig", DeprecationWarning, stacklevel=2)
        return CONFIG_MAPPING["lineage_luong"](**changes)

    def validate_readout(self):
        """The decoder has one layer and a readout."""
        if self.readout_size is None or self.decoder_layers not in (1, None):
            raise ValueError(
                f"RNNsearch needs a readout_size and one decoder layer, not {self.readout_size} and "
                f'{self.decoder_layers}: for more layers see LuongConfig and its attention="concat"'
            )
