"""GPT, BERT and the Transformer as one graph: compiled without a break, exported, and in ONNX, equal to the model."""

import pytest
import torch
import transformers

from hf_lineage import BERTConfig, GPTConfig, TransformerConfig


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


def new_inputs(config, head: str, padded: bool, batch: int = 3, length: int = 7) -> dict:
    """Random token ids; masks are 0 over two tokens at the end of the first row and at the start of the second."""
    shape = (batch, 2, length) if head == "AutoModelForMultipleChoice" else (batch, length)
    ids, mask = torch.randint(5, 60, shape), torch.ones(shape, dtype=torch.long)
    mask[0, ..., -2:] = mask[1, ..., :2] = 0
    inputs = {"input_ids": ids}
    if config.is_encoder_decoder:
        inputs["decoder_input_ids"] = ids.flip(1)[:, 1:].contiguous()
    if padded:
        inputs["attention_mask"] = mask
    if padded and config.is_encoder_decoder:
        inputs["decoder_attention_mask"] = mask.flip(1)[:, 1:].contiguous()
    if head in ("AutoModel", "AutoModelForCausalLM", "AutoModelForSeq2SeqLM") and config.model_type != "lineage_bert":
        # torch cannot export a model that makes a cache
        inputs["use_cache"] = False
    return inputs


def real(output: torch.Tensor, inputs: dict) -> torch.Tensor:
    """Without the vectors of padding, which no token sees, and for which onnxruntime's attention has other values."""
    mask = inputs.get("decoder_attention_mask", inputs.get("attention_mask"))
    return output if mask is None or mask.shape != output.shape[:2] else output[mask.bool()]


def dynamic(inputs: dict) -> dict:
    """Batch and time of all tensors vary."""
    auto = torch.export.Dim.AUTO
    return {
        name: {0: auto, value.dim() - 1: auto} if isinstance(value, torch.Tensor) else None
        for name, value in inputs.items()
    }


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch.manual_seed(0)
    torch._dynamo.reset()


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


@pytest.mark.parametrize("padded", [False, True])
@all_heads()
def test_exported_is_eager(config, head, padded):
    model, inputs = new_model(config, head), new_inputs(config, head, padded)
    exported = torch.export.export(model, (), inputs, strict=False).module()
    torch.testing.assert_close(exported(**inputs)[0], model(**inputs)[0])
    exported = torch.export.export(model, (), inputs, strict=False, dynamic_shapes=dynamic(inputs)).module()
    for given in (inputs, new_inputs(config, head, padded, batch=5, length=12)):
        torch.testing.assert_close(exported(**given)[0], model(**given)[0])


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("padded", [False, True])
@all_heads()
def test_onnx_is_eager(config, head, padded, tmp_path):
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    model, inputs = new_model(config, head), new_inputs(config, head, padded)
    options = {"dynamo": True, "dynamic_shapes": dynamic(inputs), "verbose": False}
    torch.onnx.export(model, (), str(tmp_path / "model.onnx"), kwargs=inputs, **options)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    for given in (inputs, new_inputs(config, head, padded, batch=5, length=12)):
        arrays = {name: value.numpy() for name, value in given.items() if isinstance(value, torch.Tensor)}
        found = torch.from_numpy(session.run(None, arrays)[0])
        expected = model(**given)[0].detach()
        torch.testing.assert_close(real(found, given), real(expected, given), rtol=1e-4, atol=1e-5)
