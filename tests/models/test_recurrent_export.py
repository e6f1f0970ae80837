"""Recurrent models, NNLM, word2vec and ELMo exported and in ONNX, for any batch and length, equal to the model."""

import pytest
import torch
import transformers

from hf_lineage import (
    ELMoConfig,
    GRUConfig,
    LSTMConfig,
    LuongConfig,
    NNLMConfig,
    RNNConfig,
    RNNSearchConfig,
    Seq2SeqConfig,
    Word2VecConfig,
)
from tests.models.exporting import dynamic, fresh_compiler, new_inputs, onnx_and_model  # noqa: F401 - each test starts fresh


SIZES = {"vocab_size": 60, "hidden_size": 16, "num_labels": 3}
# one layer: torch needs seconds to record a cell
LAYERS = {**SIZES, "embedding_size": 12, "num_hidden_layers": 1, "initializer_range": 0.3}
TARGET = {**LAYERS, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
CHARACTERS = {
    "vocab_size": 60,
    "num_labels": 3,
    "hidden_size": 16,
    "projection_size": 8,
    "character_size": 4,
    "cnn_filters": [[1, 4], [3, 6]],
    "max_characters": 12,
    "task_size": 8,
    "num_hidden_layers": 1,
}
# by the name of the test
CONFIGS = {
    "nnlm": NNLMConfig(**SIZES, embedding_size=12, initializer_range=0.3),
    "word2vec": Word2VecConfig(**SIZES),
    "rnn": RNNConfig(**LAYERS),
    "lstm": LSTMConfig(**LAYERS),
    "gru": GRUConfig(**LAYERS),
    "seq2seq": Seq2SeqConfig(**TARGET),
    "rnnsearch": RNNSearchConfig(**TARGET),
    "luong": LuongConfig(**TARGET),
    "elmo": ELMoConfig(**CHARACTERS),
}
# what one head per station shows
VARIANTS = {
    "rnn-relu": (RNNConfig(**LAYERS, hidden_act="relu"), "AutoModel"),
    "rnn-both-ways": (RNNConfig(**LAYERS, bidirectional=True), "AutoModelForSequenceClassification"),
    "lstm-both-ways": (LSTMConfig(**LAYERS, bidirectional=True), "AutoModelForTokenClassification"),
    "lstm-peephole": (LSTMConfig(**LAYERS, peephole="full", cell_clip=0.1), "AutoModel"),
    "lstm-coupled": (LSTMConfig(**LAYERS, coupled_gates="input", projection_size=5), "AutoModel"),
    "gru-before": (GRUConfig(**LAYERS, reset_mode="before", update_convention="replace"), "AutoModel"),
    "seq2seq-context": (Seq2SeqConfig.cho(**TARGET), "AutoModelForSeq2SeqLM"),
    "seq2seq-both-ways": (Seq2SeqConfig(**TARGET, bidirectional=True, bridge="dense"), "AutoModelForSeq2SeqLM"),
    "rnnsearch-coverage": (RNNSearchConfig(**TARGET, coverage=True), "AutoModelForSeq2SeqLM"),
    "luong-coverage": (
        LuongConfig(**TARGET, coverage=True, attention="concat", attention_window="local-p"),
        "AutoModelForSeq2SeqLM",
    ),
    "luong-at-once": (LuongConfig(**TARGET, input_feeding=False, attention="general"), "AutoModelForSeq2SeqLM"),
    "word2vec-tree": (Word2VecConfig(**SIZES, objective="hierarchical_softmax"), "AutoModelForPreTraining"),
}


def cases(fast: tuple = (), variants: bool = True):
    """Parameters `config` and `head`, slow but for those named in `fast`."""
    found = {f"{name}-{head}": (config, head) for name, config in CONFIGS.items() for head in config.auto_classes}
    return pytest.mark.parametrize(
        ("config", "head"),
        [
            pytest.param(*value, id=name, marks=[] if name in fast else pytest.mark.slow)
            for name, value in (found | (VARIANTS if variants else {})).items()
        ],
    )


def new_model(config, head: str):
    model = getattr(transformers, head).from_config(config).eval()
    if getattr(config, "objective", None) == "hierarchical_softmax":
        model.huffman_tree()
    return model


@pytest.mark.parametrize("padded", [False, True])
@cases(fast=("lstm-AutoModel",), variants=False)
def test_few_graphs(config, head, padded):
    values, deeper = config.to_dict(), {"num_hidden_layers", "decoder_layers"}
    # these have one layer
    deeper -= {"lineage_nnlm": deeper, "lineage_rnnsearch": {"decoder_layers"}}.get(config.model_type, set())
    values |= dict.fromkeys(deeper & values.keys(), 3)
    config = type(config)(**values)
    explained = torch._dynamo.explain(new_model(config, head))(**new_inputs(config, head, padded))
    assert explained.graph_break_count <= 2, explained.break_reasons


@pytest.mark.parametrize("padded", [False, True])
@cases()
def test_exported_is_eager(config, head, padded):
    model, inputs = new_model(config, head), new_inputs(config, head, padded)
    exported = torch.export.export(model, (), inputs, strict=False).module()
    torch.testing.assert_close(exported(**inputs)[0], model(**inputs)[0])


@pytest.mark.parametrize("padded", [pytest.param(False, marks=pytest.mark.slow), True])
@cases(fast=("rnn-AutoModel",))
@torch.no_grad()
def test_exported_for_any_size_is_eager(config, head, padded):
    model, inputs = new_model(config, head), new_inputs(config, head, padded)
    exported = torch.export.export(model, (), inputs, strict=False, dynamic_shapes=dynamic(inputs, head)).module()
    for given in (inputs, new_inputs(config, head, padded, batch=5, length=12)):
        torch.testing.assert_close(exported(**given)[0], model(**given)[0])


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("padded", [False, True])
@cases()
# with gradients torch 2.13 cannot convert a decoder that reads its source in each step
@torch.no_grad()
def test_onnx_is_eager(config, head, padded, tmp_path):
    inputs, larger = new_inputs(config, head, padded), new_inputs(config, head, padded, batch=5, length=12)
    shapes = dynamic(inputs, head)
    for _, found, expected in onnx_and_model(new_model(config, head), inputs, [larger], shapes, tmp_path):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rnnsearch", "luong"])
def test_onnx_of_a_decoder_with_gradients_is_refused(name, tmp_path):
    pytest.importorskip("onnxscript")
    model, inputs = new_model(CONFIGS[name], "AutoModel"), new_inputs(CONFIGS[name], "AutoModel", False)
    with pytest.raises(torch.onnx.errors.OnnxExporterError, match="torch.no_grad"):
        torch.onnx.export(model, (), str(tmp_path / "model.onnx"), kwargs=inputs, dynamo=True, verbose=False)


@pytest.mark.slow
def test_export_of_a_tree_that_is_not_built_is_refused():
    config = VARIANTS["word2vec-tree"][0]
    model = transformers.AutoModelForPreTraining.from_config(config).eval()
    with pytest.raises(ValueError, match="huffman_tree"):
        torch.export.export(model, (), new_inputs(config, "AutoModelForPreTraining", False), strict=False)
