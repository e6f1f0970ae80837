"""In which numbers a run computes: bfloat16 where this machine multiplies matrices faster in it, else float32."""

import platform
import time
from pathlib import Path

import torch

from hf_lineage.training.checkpoints import runs_before


# bfloat16 must be this many times faster: products are only a part of a step, and timings vary
WORTH_IT = 1.5
# rows, inner and outer size of the product that is timed
PRODUCT = (128, 768, 768)
ROUNDS = 5


def faster_precision(device: torch.device) -> tuple[str, str]:
    """ "bf16" or "fp32", whichever trains faster on `device`, and why.

    A GPU is asked whether it has bfloat16. So is a CPU; if it has, a product is timed in both. Others compute in
    float32.
    """
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "bf16", f"{name} multiplies in bfloat16"
        return "fp32", f"{name} has no bfloat16"
    if device.type != "cpu":
        return "fp32", f"not known for {device.type}"
    if not cpu_has_bfloat16():
        return "fp32", "this CPU has no instructions for bfloat16"
    gain = gain_of_bfloat16()
    return "bf16" if gain >= WORTH_IT else "fp32", f"bfloat16 multiplies {gain:.1f} times as fast on this CPU"


def cpu_has_bfloat16() -> bool:
    """Whether the CPU multiplies matrices of bfloat16 by itself, as torch reports it; True if nobody can say."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return True
    # private to torch: where they are missing, the CPU counts as one without
    reports = (getattr(torch.cpu, name, None) for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"))
    return any(report is not None and report() for report in reports)


def gain_of_bfloat16() -> float:
    """How many times as fast a product is in bfloat16 as in float32, by the best of some rounds (0.3 s in all)."""
    rows, inner, outer = PRODUCT
    best = {}
    for dtype in [torch.float32, torch.bfloat16] * ROUNDS:
        x, weight = torch.ones(rows, inner, dtype=dtype), torch.ones(outer, inner, dtype=dtype)
        # once before, since libraries choose their code at the first call
        torch.nn.functional.linear(x, weight)
        started = time.perf_counter()
        torch.nn.functional.linear(x, weight)
        best[dtype] = min(best.get(dtype, float("inf")), time.perf_counter() - started)
    return best[torch.float32] / best[torch.bfloat16]


def precision_before(output_dir: str | Path, checkpoint: str | Path | bool | None = None) -> str | None:
    """The precision of the run whose newest sealed checkpoint `output_dir` holds, or of `checkpoint`; None if none.

    A run that continues keeps it, on another machine too.
    """
    for run in runs_before(output_dir, checkpoint):
        if {"bf16", "fp16"} <= run.keys():
            return "bf16" if run["bf16"] else "fp16" if run["fp16"] else "fp32"
    return None
