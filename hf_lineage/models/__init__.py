"""The stations of the lineage in historical order, and their registration with the Auto classes."""

import inspect
from importlib import import_module

import transformers
from transformers import AutoConfig, AutoTokenizer

from .configuration_bert import BERTConfig
from .configuration_elmo import ELMoConfig
from .configuration_gpt import GPTConfig
from .configuration_nnlm import NNLMConfig
from .configuration_rnn import GRUConfig, LSTMConfig, RNNConfig
from .configuration_seq2seq import RNNSearchConfig, Seq2SeqConfig
from .configuration_transformer import TransformerConfig
from .configuration_word2vec import Word2VecConfig
from .fast_paths import plain_equations


# a station joins the lineage (Auto classes, README table, common tests, lineage run) by its name here
LINEAGE = (
    NNLMConfig,
    Word2VecConfig,
    RNNConfig,
    LSTMConfig,
    GRUConfig,
    Seq2SeqConfig,
    RNNSearchConfig,
    TransformerConfig,
    ELMoConfig,
    GPTConfig,
    BERTConfig,
)


def register() -> list[str]:
    """Registers every station's configuration, models and tokenizer with the Auto classes; returns their names."""
    names = []
    for config_class in LINEAGE:
        AutoConfig.register(config_class.model_type, config_class)
        config_class.register_for_auto_class()
        names.append(config_class.__name__)
        globals()[config_class.__name__] = config_class
        for auto_name, reference in config_class.auto_classes.items():
            module_name, class_name = reference.split(".")
            model_class = getattr(import_module(f".{module_name}", __name__), class_name)
            getattr(transformers, auto_name).register(config_class, model_class)
            model_class.register_for_auto_class(auto_name)
            globals()[class_name] = model_class
            names.append(class_name)
        if config_class.auto_tokenizer:
            module_name, class_name = config_class.auto_tokenizer.split(".")
            tokenizer_class = getattr(import_module(f".{module_name}", __name__), class_name)
            AutoTokenizer.register(config_class, tokenizer_class)
            tokenizer_class.register_for_auto_class("AutoTokenizer")
            globals()[class_name] = tokenizer_class
            names.append(class_name)
    return names


def name_and_idea(config_class: type) -> tuple[str, str]:
    """`LSTMConfig` -> ("Long short-term memory (Hochreiter & …)", "a cell that gates …")."""
    name, _, idea = inspect.getdoc(config_class).splitlines()[:3]
    return name.rstrip("."), idea.removeprefix("New: ")


__all__ = ["LINEAGE", "plain_equations", *register()]
