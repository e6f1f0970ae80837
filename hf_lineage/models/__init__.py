"""The stations of the lineage in historical order, and their registration with the Auto classes."""

import inspect
import sys

import transformers
from transformers import AutoConfig, AutoTokenizer

from .configuration_bert import BERTConfig
from .configuration_elmo import ELMoConfig
from .configuration_gpt import GPTConfig
from .configuration_lineage import LineageConfig
from .configuration_luong import LuongConfig
from .configuration_nnlm import NNLMConfig
from .configuration_rnn import GRUConfig, LSTMConfig, RNNConfig
from .configuration_rnnsearch import RNNSearchConfig
from .configuration_seq2seq import Seq2SeqConfig
from .configuration_transformer import TransformerConfig
from .configuration_word2vec import Word2VecConfig
from .inputs import plain_equations
from .modeling_bert import (
    BERTForMaskedLM,
    BERTForMultipleChoice,
    BERTForNextSentencePrediction,
    BERTForPreTraining,
    BERTForQuestionAnswering,
    BERTForSequenceClassification,
    BERTForTokenClassification,
    BERTModel,
)
from .modeling_elmo import (
    ELMoForMultipleChoice,
    ELMoForPreTraining,
    ELMoForQuestionAnswering,
    ELMoForSequenceClassification,
    ELMoForTokenClassification,
    ELMoModel,
)
from .modeling_gpt import (
    GPTForCausalLM,
    GPTForMultipleChoice,
    GPTForQuestionAnswering,
    GPTForSequenceClassification,
    GPTForTokenClassification,
    GPTModel,
)
from .modeling_luong import LuongForConditionalGeneration, LuongModel
from .modeling_nnlm import NNLMForCausalLM, NNLMModel
from .modeling_rnn import (
    GRUForCausalLM,
    GRUForMultipleChoice,
    GRUForQuestionAnswering,
    GRUForSequenceClassification,
    GRUForTokenClassification,
    GRUModel,
    LSTMForCausalLM,
    LSTMForMultipleChoice,
    LSTMForQuestionAnswering,
    LSTMForSequenceClassification,
    LSTMForTokenClassification,
    LSTMModel,
    RNNForCausalLM,
    RNNForMultipleChoice,
    RNNForQuestionAnswering,
    RNNForSequenceClassification,
    RNNForTokenClassification,
    RNNModel,
)
from .modeling_rnnsearch import RNNSearchForConditionalGeneration, RNNSearchModel
from .modeling_seq2seq import Seq2SeqForConditionalGeneration, Seq2SeqModel
from .modeling_transformer import TransformerForConditionalGeneration, TransformerModel
from .modeling_word2vec import (
    Word2VecForMultipleChoice,
    Word2VecForPreTraining,
    Word2VecForSequenceClassification,
    Word2VecForTokenClassification,
    Word2VecModel,
)
from .tokenization_elmo import ELMoTokenizer


# a station listed here joins the lineage: Auto classes, README table, common tests, lineage run
LINEAGE = (
    NNLMConfig,
    Word2VecConfig,
    RNNConfig,
    LSTMConfig,
    GRUConfig,
    Seq2SeqConfig,
    RNNSearchConfig,
    LuongConfig,
    TransformerConfig,
    ELMoConfig,
    GPTConfig,
    BERTConfig,
)


def register():
    """Registers every station's configuration, models and tokenizer with the Auto classes."""
    for config_class in LINEAGE:
        AutoConfig.register(config_class.model_type, config_class)
        config_class.register_for_auto_class()
        for auto_name, reference in config_class.auto_classes.items():
            model_class = _class_of(reference)
            getattr(transformers, auto_name).register(config_class, model_class)
            model_class.register_for_auto_class(auto_name)
        if config_class.auto_tokenizer:
            tokenizer_class = _class_of(config_class.auto_tokenizer)
            AutoTokenizer.register(config_class, tokenizer_class)
            tokenizer_class.register_for_auto_class("AutoTokenizer")


def _class_of(reference: str) -> type:
    """`modeling_rnn.LSTMModel` -> the class."""
    module_name, class_name = reference.split(".")
    return getattr(sys.modules[f"{__name__}.{module_name}"], class_name)


def station_of(model_type: str) -> type[LineageConfig] | None:
    """The configuration class of a station; None if `model_type` is none of the lineage."""
    return next((config_class for config_class in LINEAGE if config_class.model_type == model_type), None)


def name_and_idea(config_class: type) -> tuple[str, str]:
    """`LSTMConfig` -> ("Long short-term memory (Hochreiter & …)", "a cell that gates …")."""
    name, _, idea = (inspect.getdoc(config_class) or "").splitlines()[:3]
    return name.rstrip("."), idea.removeprefix("New: ")


register()

__all__ = [
    "LINEAGE",
    "BERTConfig",
    "BERTForMaskedLM",
    "BERTForMultipleChoice",
    "BERTForNextSentencePrediction",
    "BERTForPreTraining",
    "BERTForQuestionAnswering",
    "BERTForSequenceClassification",
    "BERTForTokenClassification",
    "BERTModel",
    "ELMoConfig",
    "ELMoForMultipleChoice",
    "ELMoForPreTraining",
    "ELMoForQuestionAnswering",
    "ELMoForSequenceClassification",
    "ELMoForTokenClassification",
    "ELMoModel",
    "ELMoTokenizer",
    "GPTConfig",
    "GPTForCausalLM",
    "GPTForMultipleChoice",
    "GPTForQuestionAnswering",
    "GPTForSequenceClassification",
    "GPTForTokenClassification",
    "GPTModel",
    "GRUConfig",
    "GRUForCausalLM",
    "GRUForMultipleChoice",
    "GRUForQuestionAnswering",
    "GRUForSequenceClassification",
    "GRUForTokenClassification",
    "GRUModel",
    "LSTMConfig",
    "LSTMForCausalLM",
    "LSTMForMultipleChoice",
    "LSTMForQuestionAnswering",
    "LSTMForSequenceClassification",
    "LSTMForTokenClassification",
    "LSTMModel",
    "LuongConfig",
    "LuongForConditionalGeneration",
    "LuongModel",
    "NNLMConfig",
    "NNLMForCausalLM",
    "NNLMModel",
    "RNNConfig",
    "RNNForCausalLM",
    "RNNForMultipleChoice",
    "RNNForQuestionAnswering",
    "RNNForSequenceClassification",
    "RNNForTokenClassification",
    "RNNModel",
    "RNNSearchConfig",
    "RNNSearchForConditionalGeneration",
    "RNNSearchModel",
    "Seq2SeqConfig",
    "Seq2SeqForConditionalGeneration",
    "Seq2SeqModel",
    "TransformerConfig",
    "TransformerForConditionalGeneration",
    "TransformerModel",
    "Word2VecConfig",
    "Word2VecForMultipleChoice",
    "Word2VecForPreTraining",
    "Word2VecForSequenceClassification",
    "Word2VecForTokenClassification",
    "Word2VecModel",
    "plain_equations",
]
