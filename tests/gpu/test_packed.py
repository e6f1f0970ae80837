"""Packed texts on a GPU: the loss and the gradient of padded texts, by kernels that know the texts' bounds."""

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from tests.gpu.comparing import DEVICE, gradient_of, on_device, relative_error
from tests.models.packed_cases import PACKED, packed_case


pytestmark = pytest.mark.gpu
if not torch.cuda.is_available():
    pytest.skip("needs a GPU", allow_module_level=True)


def step(model, batch: dict, device: str, dtype: torch.dtype = torch.float32):
    model = model.to(device).train()
    model.zero_grad()
    with torch.autocast(device, dtype, enabled=dtype is not torch.float32):
        loss = model(**(on_device(batch) if device == DEVICE else batch)).loss
    loss.backward()
    return loss.item(), gradient_of(model)


@pytest.mark.parametrize(
    ("dtype", "limit"), [(torch.float32, 1e-4), (torch.float16, 1e-2), (torch.bfloat16, 1e-2)], ids=str
)
@pytest.mark.parametrize("name", PACKED)
def test_packed_texts_give_what_they_give_on_a_cpu(name, dtype, limit):
    model, batch = packed_case(name)
    loss, gradient = step(model, batch, "cpu")
    loss_of_gpu, gradient_of_gpu = step(model, batch, DEVICE, dtype)
    assert loss_of_gpu == pytest.approx(loss, rel=1e-5 if dtype is torch.float32 else 1e-2)
    assert relative_error(gradient_of_gpu, gradient) < limit


@pytest.mark.parametrize(("dtype", "kernel"), [(torch.bfloat16, "flash"), (torch.float32, "efficient")], ids=str)
@pytest.mark.parametrize("name", PACKED)
def test_one_kernel_reads_all_texts(name, dtype, kernel):
    model, batch = packed_case(name)
    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        step(model, batch, DEVICE, dtype)
    calls = [event.name for event in recorded.events() if event.name == f"aten::_{kernel}_attention_forward"]
    assert len(calls) == (4 if name == "Transformer" else 2)


@pytest.mark.parametrize("name", PACKED)
def test_dropout_of_attention_is_kept(name):
    model, batch = packed_case(name)
    for module in model.modules():
        if hasattr(module, "is_causal"):
            module.dropout = 0.5
    first, second = (step(model, batch, DEVICE, torch.bfloat16)[0] for _ in "12")
    assert first != second
