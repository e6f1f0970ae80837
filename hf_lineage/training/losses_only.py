"""A training step without the logits among its outputs, where accelerate would copy them to float32."""

import functools
from types import MethodType
from typing import Any

from transformers import PreTrainedModel


# argument of the forward that `give_losses_only` makes
LOSSES_ONLY = "losses_only"


def give_losses_only(model: PreTrainedModel):
    """Give `model`'s forward an argument `losses_only`: outputs without logits, where there is a loss.

    accelerate copies all that a forward in mixed precision returns to float32. Logits [tokens, V] are the largest
    tensor of a step, and a step reads only the loss. Call this before `Accelerator.prepare`.
    """
    # a method, not a function that holds `model`: a copy of the model must call itself
    bound: Any = model.forward
    forward = bound.__func__

    @functools.wraps(forward)
    def losses_only_forward(self, *args, losses_only: bool = False, **kwargs):
        outputs = forward(self, *args, **kwargs)
        if not losses_only or outputs.get("loss") is None:
            return outputs
        return type(outputs)(**{name: value for name, value in outputs.items() if not name.endswith("logits")})

    model.forward = MethodType(losses_only_forward, model)
