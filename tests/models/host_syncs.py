"""A GPU that only says when Python waits for it: tests find host syncs with it on machines without a GPU.

Within `pretended_gpu()` tensors on `GPU` have shapes and no values (torch's FakeTensors). What needs their values
stops with `HostSync`: reading a number, a shape that the data decide, a copy between the GPU and ordinary memory that
the host waits for. The package's fast paths take these tensors for those of a CUDA device, and run as there.

The device is torch's private one, which holds for the whole process: run this in a process of its own.
"""

import os
from contextlib import ExitStack, contextmanager
from unittest import mock

import torch
from torch._subclasses import FakeTensorMode
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

from hf_lineage.models import fast_dropout, fast_recurrence, fast_steps, inputs


# Triton's kernels need a real device; tests/gpu/test_fused_steps.py shows that they do not wait
os.environ[fast_steps.SWITCH] = "0"
NAME = "pretended"
READS_VALUES = {
    *(torch.Tensor.item, torch.Tensor.tolist, torch.Tensor.numpy, torch.Tensor.cpu),
    *(torch.Tensor.__bool__, torch.Tensor.__int__, torch.Tensor.__float__, torch.Tensor.__index__),
}


IS_CUDA = torch.Tensor.is_cuda.__get__


class Backend(_DummyBackendModule):
    """What torch asks of a device's module."""

    def get_amp_supported_dtype(self):
        return [torch.bfloat16, torch.float16]


_setup_privateuseone_for_python_backend(NAME, Backend())
GPU = torch.device(NAME, 0)


class HostSync(Exception):
    """Python would wait for the GPU here."""


class NotFake:
    """Stands for FakeTensor where the package asks whether a tensor is recorded."""


def is_on_gpu(x) -> bool:
    return isinstance(x, torch.Tensor) and x.device.type == GPU.type


class Functions(TorchFunctionMode):
    """What torch does before it calls a kernel."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        first = args[0] if args else None
        if is_on_gpu(first):
            if function == IS_CUDA:
                return True
            if function in READS_VALUES:
                raise HostSync(function.__name__)
            if function in (torch.Tensor.__getitem__, torch.Tensor.__setitem__):
                self.check_key(args[1])
        return function(*args, **(kwargs or {}))

    @staticmethod
    def check_key(key):
        for each in key if isinstance(key, tuple) else (key,):
            if isinstance(each, torch.Tensor) and (each.dtype is torch.bool or not is_on_gpu(each)):
                raise HostSync(f"an index by a {each.dtype} tensor on {each.device}")


class Kernels(TorchDispatchMode):
    """What torch runs on a device."""

    def __torch_dispatch__(self, kernel, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if kernel is torch.ops.aten._to_copy.default:
            self.check_copy(args[0], kwargs.get("device"), kwargs.get("non_blocking"))
        elif kernel is torch.ops.aten.copy_.default:
            self.check_copy(args[1], args[0].device, args[2] if len(args) > 2 else kwargs.get("non_blocking"))
        try:
            return kernel(*args, **kwargs)
        except (DataDependentOutputException, DynamicOutputShapeException) as error:
            raise HostSync(str(kernel)) from error

    @staticmethod
    def check_copy(source: torch.Tensor, device, non_blocking):
        if device is not None and torch.device(device).type != source.device.type and not non_blocking:
            raise HostSync(f"a copy from {source.device.type} to {torch.device(device).type}")


@contextmanager
def pretended_gpu():
    """Within the block tensors on `GPU` have no values, and each host sync raises HostSync."""
    with ExitStack() as stack:
        for module in (inputs, fast_dropout, fast_recurrence):
            stack.enter_context(mock.patch.object(module, "FakeTensor", NotFake))
        stack.enter_context(mock.patch.object(torch.cuda, "get_device_capability", return_value=(9, 0)))
        mode = stack.enter_context(FakeTensorMode())
        stack.enter_context(Kernels())
        stack.enter_context(Functions())
        yield mode


def on_gpu(batch: dict, mode: FakeTensorMode) -> dict:
    """A batch of a collator, as accelerate moves it: tensors lie on the GPU, the rest stays as it is."""
    return {name: there(value, mode) if isinstance(value, torch.Tensor) else value for name, value in batch.items()}


def there(x: torch.Tensor, mode: FakeTensorMode) -> torch.Tensor:
    with torch.utils._python_dispatch._disable_current_modes(), mode:
        return torch.empty(x.shape, dtype=x.dtype, device=GPU)
