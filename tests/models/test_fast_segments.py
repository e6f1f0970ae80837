"""Attention within packed texts in one call, as on a GPU, against the same text by text."""

from types import SimpleNamespace

import pytest
import torch
from torch._subclasses import FakeTensorMode
from torch.nn.functional import scaled_dot_product_attention
from torch.testing import assert_close
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from hf_lineage.models import fast_segments, packed_texts
from hf_lineage.models.fast_segments import attend_at_once, kernel_for_texts
from hf_lineage.models.packed_texts import attend_by_segment
from hf_lineage.models.transformer_layers import eager_attention_forward
from tests.models.common import gradients
from tests.models.packed_cases import HEADS, PACKED, SIZE, packed_case


def module_of(implementation: str, causal: bool):
    """What an attention function asks of the module that it serves."""
    config = SimpleNamespace(_attn_implementation=implementation)
    return SimpleNamespace(config=config, is_causal=causal, training=True, num_key_value_groups=1)


def random_texts(lengths: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Vectors [1, H, T, D/H] with a gradient, and the bounds of the texts."""
    vectors = torch.randn(1, HEADS, sum(lengths), SIZE, dtype=torch.double, requires_grad=True)
    return vectors, torch.tensor([0, *lengths], dtype=torch.int32).cumsum(0, dtype=torch.int32)


def by_text(query, key, value, targets, sources, longest_target, longest_source, scaling, dropout, causal):
    """What torch's kernels for packed texts compute, by its documented attention: [T, H, D/H] -> [T, H, D/H]."""
    assert query.shape[1:] == key.shape[1:] == value.shape[1:] == (HEADS, SIZE)
    assert targets.dtype is sources.dtype is torch.int32
    assert targets.diff().max() <= longest_target
    assert sources.diff().max() <= longest_source
    assert dropout == 0
    parts = zip(
        query.split(targets.diff().tolist()),
        key.split(sources.diff().tolist()),
        value.split(sources.diff().tolist()),
        strict=True,
    )
    mixed = [
        scaled_dot_product_attention(*(x.transpose(0, 1) for x in part), is_causal=causal, scale=scaling)
        for part in parts
    ]
    return torch.cat([x.transpose(0, 1) for x in mixed])


@pytest.mark.parametrize("kernel", [None, by_text], ids=["padded", "kernel"])
@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize(("sources", "causal"), [([3, 1, 5], False), ([3, 1, 5], True), ([2, 6, 4], False)])
def test_all_texts_at_once_are_the_texts_one_by_one(monkeypatch, kernel, implementation, sources, causal):
    monkeypatch.setattr(fast_segments, "kernel_for_texts", lambda query: kernel)
    torch.manual_seed(0)
    query, targets = random_texts([3, 1, 5])
    (key, bounds), (value, _) = random_texts(sources), random_texts(sources)
    attend = ALL_ATTENTION_FUNCTIONS.get_interface(implementation, eager_attention_forward)
    module, weights = module_of(implementation, causal), torch.randn(1, 9, HEADS, SIZE, dtype=torch.double)
    # longer than the longest text, as on a GPU
    found = attend_at_once(attend, module, query, key, value, targets, bounds, 7, 8, scaling=0.3)
    expected, _ = attend_by_segment(
        attend, module, query, key, value, None, targets, bounds, 5, 6, scaling=0.3, dropout=0.0
    )
    assert_close(found, expected)
    of_found, of_expected = (torch.autograd.grad((x * weights).sum(), (query, key, value)) for x in (found, expected))
    assert_close(of_found, of_expected)


def test_documents_of_several_rows_are_read_at_once(monkeypatch):
    monkeypatch.setattr(fast_segments, "kernel_for_texts", lambda query: by_text)
    query, key, value = (torch.randn(2, HEADS, 5, SIZE) for _ in range(3))
    bounds = torch.tensor([0, 2, 5, 9, 10], dtype=torch.int32)
    attend, module = ALL_ATTENTION_FUNCTIONS["sdpa"], module_of("sdpa", True)
    found = attend_at_once(attend, module, query, key, value, bounds, bounds, 4, 4, scaling=0.3)
    expected, _ = attend_by_segment(attend, module, query, key, value, None, bounds, bounds, scaling=0.3, dropout=0.0)
    assert_close(found, expected)


# device, dtype, head size, capability -> the kernel's name
KERNELS = [
    (("cuda", torch.bfloat16, 64, (9, 0)), "flash_attention"),
    (("cuda", torch.float16, 256, (8, 0)), "flash_attention"),
    (("cuda", torch.float32, 64, (9, 0)), "memory_efficient_attention"),
    (("cuda", torch.bfloat16, 64, (7, 5)), None),
    (("cuda", torch.bfloat16, 60, (9, 0)), None),
    (("cuda", torch.bfloat16, 264, (9, 0)), None),
    (("cuda", torch.float32, 6, (9, 0)), None),
    (("cuda", torch.float64, 64, (9, 0)), None),
    (("cpu", torch.bfloat16, 64, (9, 0)), None),
]


@pytest.mark.parametrize(("case", "name"), KERNELS, ids=str)
def test_the_kernel_fits_device_dtype_and_head_size(monkeypatch, case, name):
    device, dtype, size, capability = case
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: capability)
    # without memory: no GPU is needed
    with FakeTensorMode(), torch.no_grad():
        kernel = kernel_for_texts(torch.empty(1, HEADS, 4, size, dtype=dtype, device=device))
        assert (None if kernel is None else kernel.__name__) == name
        if kernel is None:
            return
        query, key, value = (torch.empty(n, HEADS, size, dtype=dtype, device=device) for n in (9, 12, 12))
        bounds = torch.empty(4, dtype=torch.int32, device=device)
        # torch knows the arguments, and what they give
        mixed = kernel(query, key, value, bounds, bounds, 5, 6, 0.3, 0.1, False)
    assert (mixed.shape, mixed.dtype, mixed.device.type) == ((9, HEADS, size), dtype, device)


@pytest.mark.parametrize("kernel", [None, by_text], ids=["padded", "kernel"])
@pytest.mark.parametrize("name", PACKED)
def test_packed_models_as_on_a_gpu_are_those_of_a_cpu(monkeypatch, name, kernel):
    model, batch = packed_case(name)
    model.train()
    found, calls = [], []

    def counted(*given):
        calls.append("kernel")
        return kernel(*given)

    for at_once in (False, True):
        model.zero_grad()
        if at_once:
            monkeypatch.setattr(fast_segments, "kernel_for_texts", lambda query: kernel and counted)
            monkeypatch.setattr(packed_texts, "reads_in_one_call", lambda x: True)
        loss = model(**batch).loss
        loss.backward()
        found.append({"loss": loss.detach(), **gradients(model)})
    assert_close(found[1], found[0], rtol=1e-4, atol=1e-6)
    # 2 layers; the Transformer has one decoder layer, with two attentions
    assert len(calls) == (0 if kernel is None else 4 if name == "Transformer" else 2)


@pytest.mark.parametrize("name", PACKED)
def test_packed_models_in_a_compiled_block_are_as_before(monkeypatch, name):
    """A recorded block attends once, with a mask; its rows may be several that are read end to end."""
    model, batch = packed_case(name)
    model.train()
    found, masks, attend_by_mask = [], [], packed_texts.attend_by_mask

    def counted(*given, **options):
        masks.append(given)
        return attend_by_mask(*given, **options)

    for is_recorded in (False, True):
        model.zero_grad()
        if is_recorded:
            monkeypatch.setattr(packed_texts, "attend_by_mask", counted)
            monkeypatch.setattr(packed_texts, "is_recorded", lambda x: x.is_floating_point())
        loss = model(**batch).loss
        loss.backward()
        found.append({"loss": loss.detach(), **gradients(model)})
    assert_close(found[1], found[0], rtol=1e-4, atol=1e-6)
    assert masks
