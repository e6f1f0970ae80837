"""Recurrent language models that adapt to the text they read: the neural cache and dynamic evaluation.

Both give log p of every token of a stream except the first, in order, so that they mix and compare with other models.
"""

import math

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from tqdm.auto import tqdm
from transformers import DynamicCache, PreTrainedModel

from hf_lineage.data.token_stream import TokenStream


def blocks_of(stream: TokenStream, block_size: int, show_progress: bool, title: str):
    """Inputs and targets [1, T], in blocks of up to `block_size` tokens."""
    tokens = torch.from_numpy(stream.tokens).long()
    with tqdm(total=len(tokens) - 1, desc=title, unit="tok", disable=not show_progress) as progress:
        for start in range(0, len(tokens) - 1, block_size):
            targets = tokens[start + 1 : start + 1 + block_size]
            yield tokens[start : start + len(targets)][None], targets[None]
            progress.update(len(targets))


def check_recurrent(model: PreTrainedModel):
    if not model._is_stateful:
        raise ValueError(f"model is a {type(model).__name__}; it must be one that carries a state")


@torch.no_grad()
def neural_cache_log_probabilities(
    model: PreTrainedModel,
    stream: TokenStream,
    *,
    window: int = 500,
    share: float = 0.1,
    sharpness: float = 0.3,
    block_size: int = 100,
    show_progress: bool = True,
) -> np.ndarray:
    """log p [N − 1] of (1 − λ) p_model + λ p_cache (Grave, Joulin & Usunier, 2017, equations 3 and 4).

    p_cache(w) is proportional to the sum of exp(θ h_t · h_i) over the last `window` positions i whose next token was
    w. λ is `share`, θ `sharpness`; choose both on the validation text.

    Raises:
        ValueError: the model carries no state, or an argument lies outside its range.
    """
    check_recurrent(model)
    if window < 1 or not 0 <= share < 1 or sharpness < 0:
        raise ValueError(
            f"window is {window}, share {share} and sharpness {sharpness}; window must be at least 1, share in [0, 1) "
            "and sharpness at least 0"
        )
    was_training = model.training
    model.eval()
    cache, log_p = DynamicCache(config=model.config), []
    keys, values = torch.empty(0, model.config.output_size, device=model.device), torch.empty(0, dtype=torch.long)
    for inputs, targets in blocks_of(stream, block_size, show_progress, "Neural cache"):
        hidden = model.base_model(inputs.to(model.device), cache=cache, use_cache=True).last_hidden_state
        model_log_p = -cross_entropy(model.lm_head(hidden)[0].double(), targets[0].to(model.device), reduction="none")
        seen = len(keys)
        keys, values = torch.cat([keys, hidden[0]]), torch.cat([values, targets[0]])
        # position t has the next tokens of i in [t − window, t)
        t = seen + torch.arange(len(targets[0]))[:, None]
        i = torch.arange(len(keys))
        remembered = ((i < t) & (i >= t - window)).to(model.device)
        scores = sharpness * (hidden[0] @ keys.T).double()  # [T, S]
        attention = scores.masked_fill(~remembered, -math.inf).softmax(1).nan_to_num(0)
        cache_p = (attention * (values == targets[0][:, None]).to(model.device)).sum(1)
        # the cache is still empty: use the model alone
        weight = share * remembered.any(1).double()
        log_p.append(torch.log((1 - weight) * model_log_p.exp() + weight * cache_p).cpu().numpy())
        keys, values = keys[-window:], values[-window:]
    model.train(was_training)
    return np.concatenate(log_p)


def dynamic_log_probabilities(
    model: PreTrainedModel,
    stream: TokenStream,
    *,
    learning_rate: float,
    decay: float = 0.0,
    block_size: int = 5,
    max_grad_norm: float | None = None,
    show_progress: bool = True,
) -> np.ndarray:
    """log p [N − 1] of a model that learns from each block after scoring it (Krause et al., 2018, section 4).

    After a block: θ ← θ − η ∇L + λ (θ₀ − θ), with L the block's mean loss, η `learning_rate`, λ `decay`, θ₀ the given
    weights. At the end the model has its given weights again.

    Raises:
        ValueError: the model carries no state, or an argument lies outside its range.
    """
    check_recurrent(model)
    if learning_rate < 0 or not 0 <= decay <= 1:
        raise ValueError(
            f"learning_rate is {learning_rate}, decay {decay}; learning_rate must be at least 0, decay in [0, 1]"
        )
    was_training = model.training
    model.eval()
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    given = [parameter.detach().clone() for parameter in parameters]
    cache, log_p = DynamicCache(config=model.config), []
    try:
        with torch.enable_grad():
            for inputs, targets in blocks_of(stream, block_size, show_progress, "Dynamic evaluation"):
                logits = model(inputs.to(model.device), cache=cache, use_cache=True).logits[0]
                losses = cross_entropy(logits.float(), targets[0].to(model.device), reduction="none")
                log_p.append(-losses.detach().double().cpu().numpy())
                for parameter, gradient in zip(
                    parameters, torch.autograd.grad(losses.mean(), parameters), strict=True
                ):
                    parameter.grad = gradient
                if max_grad_norm is not None:
                    torch.nn.utils.clip_grad_norm_(parameters, max_grad_norm)
                with torch.no_grad():
                    for parameter, first in zip(parameters, given, strict=True):
                        parameter += decay * (first - parameter) - learning_rate * parameter.grad
                for layer in cache.layers:
                    layer.detach()
    finally:
        with torch.no_grad():
            for parameter, first in zip(parameters, given, strict=True):
                parameter.copy_(first)
                parameter.grad = None
        model.train(was_training)
    return np.concatenate(log_p)
