"""What the tests of exported models share: inputs of any size with and without padding, and ONNX against the model."""

import pytest
import torch


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch.manual_seed(0)
    torch._dynamo.reset()


def new_inputs(config, head: str, padded: bool, batch: int = 3, length: int = 7) -> dict[str, torch.Tensor]:
    """Random token ids; masks are 0 over two tokens at the end of the first row and at the start of the second."""
    shape = (batch, 2, length) if head == "AutoModelForMultipleChoice" else (batch, length)
    ids, mask = torch.randint(5, 60, shape), torch.ones(shape, dtype=torch.long)
    mask[0, ..., -2:] = mask[1, ..., :2] = 0
    inputs = {"input_ids": ids}
    if config.model_type == "lineage_elmo":
        inputs = {"char_ids": torch.randint(1, 261, (*shape, config.max_characters))}
    if config.is_encoder_decoder:
        inputs["decoder_input_ids"] = ids.flip(1)[:, 1:].contiguous()
    if padded:
        inputs["attention_mask"] = mask
    if padded and config.is_encoder_decoder:
        inputs["decoder_attention_mask"] = mask.flip(1)[:, 1:].contiguous()
    return inputs


def dynamic(inputs: dict, head: str, size=torch.export.Dim.DYNAMIC) -> dict:
    """Batch and time of all tensors vary."""
    time = 2 if head == "AutoModelForMultipleChoice" else 1
    return {name: {0: size, time: size} for name in inputs}


def onnx_and_model(model, inputs: dict, more_inputs: list[dict], shapes: dict, folder):
    """For these and more inputs: the inputs, onnxruntime's first output and the model's."""
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    path = folder / "model.onnx"
    torch.onnx.export(model, (), str(path), kwargs=inputs, dynamo=True, dynamic_shapes=shapes, verbose=False)
    session = onnxruntime.InferenceSession(path)
    for given in (inputs, *more_inputs):
        found = session.run(None, {name: value.numpy() for name, value in given.items()})[0]
        yield given, torch.from_numpy(found), model(**given)[0].detach()
