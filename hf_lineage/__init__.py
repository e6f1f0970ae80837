"""hf_lineage: the lineage of neural language models, each a Hugging Face model.

Importing the package registers every station with the Auto classes of transformers, and our tasks with `pipeline`. The
sub-packages are imported on first use: `hf_lineage.data`, `hf_lineage.training`, …
"""

from importlib import import_module
from typing import TYPE_CHECKING

from hf_lineage import moved, tasks
from hf_lineage.models import LINEAGE
from hf_lineage.models.configuration_bert import BERTConfig
from hf_lineage.models.configuration_elmo import ELMoConfig
from hf_lineage.models.configuration_gpt import GPTConfig
from hf_lineage.models.configuration_luong import LuongConfig
from hf_lineage.models.configuration_nnlm import NNLMConfig
from hf_lineage.models.configuration_rnn import GRUConfig, LSTMConfig, RNNConfig
from hf_lineage.models.configuration_rnnsearch import RNNSearchConfig
from hf_lineage.models.configuration_seq2seq import Seq2SeqConfig
from hf_lineage.models.configuration_transformer import TransformerConfig
from hf_lineage.models.configuration_word2vec import Word2VecConfig
from hf_lineage.models.fast_paths import plain_equations
from hf_lineage.models.modeling_bert import (
    BERTForMaskedLM,
    BERTForMultipleChoice,
    BERTForNextSentencePrediction,
    BERTForPreTraining,
    BERTForQuestionAnswering,
    BERTForSequenceClassification,
    BERTForTokenClassification,
    BERTModel,
)
from hf_lineage.models.modeling_elmo import (
    ELMoForMultipleChoice,
    ELMoForPreTraining,
    ELMoForQuestionAnswering,
    ELMoForSequenceClassification,
    ELMoForTokenClassification,
    ELMoModel,
)
from hf_lineage.models.modeling_gpt import (
    GPTForCausalLM,
    GPTForMultipleChoice,
    GPTForQuestionAnswering,
    GPTForSequenceClassification,
    GPTForTokenClassification,
    GPTModel,
)
from hf_lineage.models.modeling_luong import LuongForConditionalGeneration, LuongModel
from hf_lineage.models.modeling_nnlm import NNLMForCausalLM, NNLMModel
from hf_lineage.models.modeling_rnn import (
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
from hf_lineage.models.modeling_rnnsearch import RNNSearchForConditionalGeneration, RNNSearchModel
from hf_lineage.models.modeling_seq2seq import Seq2SeqForConditionalGeneration, Seq2SeqModel
from hf_lineage.models.modeling_transformer import TransformerForConditionalGeneration, TransformerModel
from hf_lineage.models.modeling_word2vec import (
    Word2VecForMultipleChoice,
    Word2VecForPreTraining,
    Word2VecForSequenceClassification,
    Word2VecForTokenClassification,
    Word2VecModel,
)
from hf_lineage.models.tokenization_elmo import ELMoTokenizer


__version__ = "0.1.0"
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
    "__version__",
    "plain_equations",
]

ON_DEMAND = (
    "arguments",
    "converters",
    "data",
    "inference",
    "metrics",
    "models",
    "pipelines",
    "reports",
    "tokenization",
    "training",
    "word_vectors",
)

if TYPE_CHECKING:
    from hf_lineage import arguments as arguments
    from hf_lineage import converters as converters
    from hf_lineage import data as data
    from hf_lineage import inference as inference
    from hf_lineage import metrics as metrics
    from hf_lineage import models as models
    from hf_lineage import pipelines as pipelines
    from hf_lineage import reports as reports
    from hf_lineage import tokenization as tokenization
    from hf_lineage import training as training
    from hf_lineage import word_vectors as word_vectors
else:
    # hidden from type checkers, since it would tell them that every name exists
    def __getattr__(name: str):
        if name in ON_DEMAND:
            return import_module(f"{__name__}.{name}")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name)


def __dir__() -> list[str]:
    return sorted([*__all__, *ON_DEMAND])


moved.register()
tasks.register()
