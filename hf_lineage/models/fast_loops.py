"""Loops over time that torch.export and ONNX can record for any number of time steps."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from .inputs import is_recorded


def is_exported(x: Tensor) -> bool:
    """Whether an export or a trace records what is done with `x`: unlike torch.compile, it may not leave its graph."""
    return is_recorded(x) and (torch.compiler.is_exporting() or not torch.compiler.is_compiling())


def loop(step: Callable, state: tuple, inputs: tuple[Tensor, ...]) -> tuple[tuple, tuple[Tensor, ...]]:
    """Inputs [B, T, …] -> the last state and outputs [B, T, …], by step(state, inputs at t) -> (state, outputs at t).

    The state is a tuple of tensors, or of such tuples, and keeps its form. An export records the step once, for any T;
    a trace (torch.jit) holds for its own T only.
    """
    if torch.compiler.is_exporting():
        # experimental in torch: imported where it is needed only
        from torch._higher_order_ops.scan import scan

        def step_apart(state, now):
            state, outputs = step(state, now)
            # scan refuses an output that is a state
            return in_one_piece(state), tuple(output.clone() for output in outputs)

        return scan(step_apart, in_one_piece(state), inputs, dim=1)
    if inputs[0].shape[1] == 0:
        # one step over nothing says what the outputs look like
        _, outputs = step(state, tuple(x.new_zeros(x.shape[0], *x.shape[2:]) for x in inputs))
        return state, tuple(output[:, None][:, :0] for output in outputs)
    # unbound at once: each index by itself would have a gradient of the whole length
    steps = []
    for now in zip(*(x.unbind(1) for x in inputs), strict=True):
        state, outputs = step(state, now)
        steps.append(outputs)
    return state, tuple(torch.stack(parts, dim=1) for parts in zip(*steps, strict=True))


def check_onnx():
    """For loops that read tensors made outside them.

    Raises:
        ValueError: an export to ONNX keeps gradients, with which torch's conversion fails on such a loop.
    """
    if torch.onnx.is_in_onnx_export() and torch.is_grad_enabled():
        raise ValueError("gradients are kept: call torch.onnx.export within torch.no_grad()")


def in_one_piece(state: tuple) -> tuple:
    """The same, each in memory of its own, as scan wants every state: they may be parts of one tensor."""
    copy = partial(torch.clone, memory_format=torch.contiguous_format)
    return tuple(in_one_piece(s) if isinstance(s, tuple) else copy(s) for s in state)
