"""What tests on a GPU compare in float32 is computed in float32."""

import pytest
import torch


@pytest.fixture(autouse=True)
def float32_is_exact():
    """No TF32, whose products have 10 bits."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.set_float32_matmul_precision(before[0])
    torch.backends.cudnn.allow_tf32 = before[1]
