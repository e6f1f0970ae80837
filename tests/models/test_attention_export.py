"""GPT, BERT and the Transformer as one graph: compiled without a break, exported, and in ONNX, equal to the model."""

import pytest
import torch
import transformers

from hf_lineage import BERTConfig, GPTConfig, TransformerConfig
from tests.models.exporting import dynamic, fresh_compiler, new_inputs, onnx_and_model  # noqa: F401 - each test starts fresh


SIZES = {
    "vocab_size": 60,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "num_labels": 3,
}
CONFIGS = [
    GPTConfig(**SIZES, max_position_embeddings=32, initializer_range=0.3),
    BERTConfig(**SIZES, max_position_embeddings=32, initializer_range=0.3),
    TransformerConfig(**SIZES),
]


def all_heads(fast: tuple = (), but: tuple = ()):
    """Parameters `config` and `head` without those of `but`, slow but for those of `fast`."""
    values = [
        pytest.param(config, head, marks=[] if head in fast else pytest.mark.slow, id=f"{config.model_type}-{head}")
        for config in CONFIGS
        for head in config.auto_classes
        if head not in but
    ]
    return pytest.mark.parametrize(("config", "head"), values)


def new_model(config, head: str):
    return getattr(transformers, head).from_config(config).eval()


def real(output: torch.Tensor, inputs: dict) -> torch.Tensor:
    """Without the vectors of padding, which no token sees, and for which onnxruntime's attention has other values."""
    mask = inputs.get("decoder_attention_mask", inputs.get("attention_mask"))
    return output if mask is None or mask.shape != output.shape[:2] else output[mask.bool()]


@pytest.mark.parametrize("padded", [False, True])
@all_heads(fast=("AutoModel",))
def test_one_graph(config, head, padded):
    explained = torch._dynamo.explain(new_model(config, head))(**new_inputs(config, head, padded))
    assert (explained.graph_count, explained.graph_break_count) == (1, 0), explained.break_reasons


@pytest.mark.parametrize("padded", [False, True])
@all_heads(but=("AutoModel",))
def test_training_step_is_one_graph(config, head, padded):
    model, inputs = new_model(config, head).train(), new_inputs(config, head, padded)
    ids, rows = inputs["input_ids"], torch.tensor([0, 1, 0])
    labels = {"labels": rows}
    if head == "AutoModelForPreTraining":
        labels = {"labels": ids, "next_sentence_label": rows}
    elif head == "AutoModelForQuestionAnswering":
        labels = {"start_positions": rows, "end_positions": rows}
    elif head == "AutoModelForTokenClassification":
        labels = {"labels": ids % 3}
    elif head in ("AutoModelForCausalLM", "AutoModelForMaskedLM", "AutoModelForSeq2SeqLM"):
        labels = {"labels": ids}
    inputs.pop("decoder_attention_mask", None)
    inputs.pop("decoder_input_ids", None)
    # the number of tokens that are scored depends on the labels
    with torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True):
        explained = torch._dynamo.explain(model)(**inputs, **labels)
    assert explained.graph_break_count == 0, explained.break_reasons


PACKED = ("AutoModelForCausalLM", "AutoModelForPreTraining", "AutoModelForSeq2SeqLM")


@pytest.mark.parametrize("attention", [pytest.param("eager", marks=pytest.mark.slow), "sdpa"])
@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.model_type)
def test_packed_rows_are_one_graph(config, attention):
    [head] = [head for head in PACKED if head in config.auto_classes]
    model = getattr(transformers, head).from_config(config, attn_implementation=attention).eval()
    ids = torch.randint(5, 60, (1, 14))
    inputs = {"input_ids": ids, "labels": ids, "cu_seq_lens_q": torch.tensor([0, 5, 8, 14])}
    if config.is_encoder_decoder:
        inputs["cu_seq_lens_k"] = torch.tensor([0, 4, 10, 14])
    expected = model(**inputs)
    # of BERT, the number of scored words
    with torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True):
        found = torch.compile(model, backend="eager", fullgraph=True)(**inputs)
    torch.testing.assert_close(found[:2], expected[:2])


@pytest.mark.parametrize("padded", [False, True])
@all_heads()
def test_exported_is_eager(config, head, padded):
    model, inputs = new_model(config, head), new_inputs(config, head, padded)
    exported = torch.export.export(model, (), inputs, strict=False).module()
    torch.testing.assert_close(exported(**inputs)[0], model(**inputs)[0])
    shapes = dynamic(inputs, head, torch.export.Dim.AUTO)
    exported = torch.export.export(model, (), inputs, strict=False, dynamic_shapes=shapes).module()
    for given in (inputs, new_inputs(config, head, padded, batch=5, length=12)):
        torch.testing.assert_close(exported(**given)[0], model(**given)[0])


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("padded", [False, True])
@all_heads()
def test_onnx_is_eager(config, head, padded, tmp_path):
    inputs, larger = new_inputs(config, head, padded), new_inputs(config, head, padded, batch=5, length=12)
    shapes = dynamic(inputs, head, torch.export.Dim.AUTO)
    for given, found, expected in onnx_and_model(new_model(config, head), inputs, [larger], shapes, tmp_path):
        torch.testing.assert_close(real(found, given), real(expected, given), rtol=1e-4, atol=1e-5)
