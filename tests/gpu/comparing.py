"""What the tests on a GPU compare."""

import torch


DEVICE = "cuda"


def on_device(batch: dict) -> dict:
    return {name: value.to(DEVICE) if isinstance(value, torch.Tensor) else value for name, value in batch.items()}


def gradient_of(model) -> torch.Tensor:
    """The gradients of all parameters that have one, end to end, in float64 on the CPU."""
    learned = [parameter.grad for _, parameter in sorted(model.named_parameters()) if parameter.grad is not None]
    return torch.cat([gradient.flatten().double().cpu() for gradient in learned])


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    """The L2 distance of two vectors, as a share of the second's length."""
    return ((found - expected).norm() / expected.norm().clamp(min=1e-12)).item()


def language_model_gradients(model, ids: torch.Tensor, scale: float) -> list[torch.Tensor]:
    """`gradient_of` a language model's loss times `scale`, in float32 and under bfloat16 autocast."""
    found = []
    for is_low in (False, True):
        model.zero_grad()
        with torch.autocast(ids.device.type, torch.bfloat16, enabled=is_low):
            loss = model(input_ids=ids, labels=ids, use_cache=False).loss
        (loss * scale).backward()
        found.append(gradient_of(model))
    return found
