"""Compiled Transformer blocks in training: torch.compile fuses the operations between the matrix products.

Only the repeated blocks are compiled, once for all of them (regional compilation), so that compiling takes seconds and
what differs from batch to batch stays outside. The names of the weights do not change, and outside of training steps
the blocks run as they are.
"""

import importlib.util
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from hf_lineage.training.checkpoints import runs_before


logger = logging.getLogger(__name__)
# the options of torch.compile; batches have any number of texts and tokens
OPTIONS: dict[str, Any] = {"dynamic": True}
# of one code object: the blocks' two kinds, with and without masks, texts or gradient checkpointing
VERSIONS = 32


def compiling_pays(device: torch.device) -> tuple[bool, str]:
    """Whether blocks are compiled on `device` by default, and why."""
    if device.type != "cuda":
        return False, f"not by default on {device.type}"
    if importlib.util.find_spec("triton") is None:
        return False, "Triton is not installed"
    return True, "on a GPU with Triton"


def compiled_before(output_dir: str | Path, checkpoint: str | Path | bool | None = None) -> bool | None:
    """Whether the run whose newest sealed checkpoint `output_dir` holds, or of `checkpoint`, compiles; None if none.

    Compiled dropout draws other random numbers, so a run that continues keeps its way.
    """
    run = next(runs_before(output_dir, checkpoint), None)
    # earlier versions did not compile
    return None if run is None else run.get("compile_blocks", "never") == "always"


def blocks_of(model: nn.Module) -> list[nn.Module]:
    """The repeated blocks of a station that attends; none of the others, whose recurrences run in kernels."""
    if not getattr(model, "_supports_sdpa", False):
        return []
    return [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]


class InTraining:
    """A block's call: compiled in training steps, else as it is. Copies and saved modules do not keep it."""

    def __init__(self, block: nn.Module):
        self.block = block
        self.compiled: Callable = torch.compile(block._call_impl, **OPTIONS)

    def __call__(self, *args, **kwargs):
        learns = self.block.training and torch.is_grad_enabled()
        return (self.compiled if learns else self.block._call_impl)(*args, **kwargs)


def compiler_failed(error: BaseException) -> bool:
    """Whether torch.compile raised `error`, or what it calls: not the model."""
    kinds: tuple[type[BaseException], ...] = (torch._dynamo.exc.TorchDynamoException,)
    if importlib.util.find_spec("torch._inductor.exc"):
        from torch._inductor.exc import InductorError

        kinds += (InductorError,)
    return isinstance(error, kinds)


class CompiledBlocks:
    """Compiles a model's blocks for a while; where the compiler fails, they run as they are."""

    def __init__(self, model: nn.Module):
        self.blocks = blocks_of(model)
        self.are_compiled = False

    @contextmanager
    def compiled(self) -> Iterator[None]:
        """Within the block the training steps are compiled."""
        limit = torch._dynamo.config.recompile_limit
        torch._dynamo.config.recompile_limit = max(limit, VERSIONS)
        for block in self.blocks:
            # as nn.Module.compile sets it
            block._compiled_call_impl = InTraining(block)
        self.are_compiled = bool(self.blocks)
        try:
            yield
        finally:
            torch._dynamo.config.recompile_limit = limit
            self.stop()

    def stop(self):
        """The blocks run as they are from here on."""
        for block in self.blocks:
            block._compiled_call_impl = None
        self.are_compiled = False

    def give_up(self, error: BaseException):
        """`stop`, with a warning."""
        self.stop()
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        logger.warning("The blocks of this model cannot be compiled here; the run continues without: %s", reason)
