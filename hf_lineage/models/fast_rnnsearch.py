"""RNNsearch's decoder over a whole target with handwritten derivatives: one node of autograd instead of many per step.

The loop is that of `BahdanauDecoder` for a GRU whose reset gate acts before the product. W [x_t; c_t] + b =
(W_x x_t + b) + W_c c_t: one product gives the first term for all words, and since c_t = Σ_s α_t(s) h_s, one product
per source word, W_c h_s, gives the second. The energies [B, S, A] of a step are computed again for the gradient, which
costs less time than memory for all of them.
"""

from functools import partial

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear

from .fast_recurrence import may_run, product_over_time, sigmoid_backward, tanh_backward


def run_attention(
    cell: nn.Module, state: tuple[Tensor, ...], is_word: Tensor | None, alignment: nn.Module, x: Tensor, source
) -> tuple[Tensor, Tensor, tuple[Tensor, ...]] | None:
    """The result of `BahdanauDecoder.run_steps` for words x [B, T, E] after the state [B, D], or None.

    None stands for other cells, other scores and single steps. Rows keep their state where `is_word` [B, T] is False.
    """
    is_known = type(cell).__name__ == "GRUCell" and type(alignment).__name__ == "AdditiveAlignment"
    if not is_known or cell.reset_mode != "before" or x.shape[1] == 1 or x.numel() == 0 or not may_run(x):
        return None
    # within calls of both modules, since offloaded and sharded weights are loaded only then
    states, weights = cell(x, state, run=partial(run_loop, alignment, source, is_word))
    return states, weights, (states[:, -1],)


def run_loop(alignment, source, is_word, cell, x, state) -> tuple[Tensor, Tensor]:
    """`run_attention` while the weights of both modules are loaded."""
    of_x, of_c = cell.weight_ih.split([x.shape[2], source.vectors.shape[2]], dim=1)
    words, products = linear(x, of_x, cell.bias), linear(source.vectors, of_c)
    # the steps add to one state, in which rounding errors of a lower precision would accumulate
    with torch.autocast(x.device.type, enabled=False):
        numbers = (words.transpose(0, 1), state[0], source.keys, products)
        states, weights = AttentiveGRU.apply(
            cell.update_convention == "keep",
            None if source.padding is None else source.padding[:, 0],
            None if is_word is None else is_word.T[..., None],
            *(x.to(cell.weight_hh.dtype) for x in numbers),
            cell.weight_hh,
            alignment.weight_query,
            alignment.energy,
        )
    return states.transpose(0, 1), weights.transpose(0, 1)


class AttentiveGRU(torch.autograd.Function):
    """words W_x x + b [T, B, 3·D], state [B, D], keys [B, S, A], products W_c h [B, S, 3·D] -> states, weights.

    Time comes first. Raises RuntimeError if a second derivative is asked for.
    """

    @staticmethod
    def forward(ctx, keeps, padding, is_word, words, state, keys, products, weight_hh, weight_query, energy):
        size = state.shape[1]
        of_gates, of_candidate = weight_hh.split([2 * size, size])
        states, gates, weights = [state], [], []
        for t, word in enumerate(words):
            h = states[-1]
            scores = torch.tanh(linear(h, weight_query)[:, None] + keys) @ energy  # [B, S]
            if padding is not None:
                scores = scores.masked_fill(padding, torch.finfo(scores.dtype).min)
            a = scores.softmax(1)
            a = a if padding is None else a.masked_fill(padding, 0)
            x_gates, x_candidate = (word + (a[:, None] @ products)[:, 0]).split([2 * size, size], dim=1)
            r, z = (x_gates + linear(h, of_gates)).sigmoid().chunk(2, dim=1)
            candidate = torch.tanh(x_candidate + linear(r * h, of_candidate))
            new = torch.lerp(candidate, h, z) if keeps else torch.lerp(h, candidate, z)
            states.append(new if is_word is None else torch.where(is_word[t], new, h))
            gates.append(torch.cat([r, z, candidate], dim=1))
            weights.append(a)
        states, gates, weights = torch.stack(states), torch.stack(gates), torch.stack(weights)
        ctx.keeps, ctx.is_word = keeps, is_word
        ctx.save_for_backward(keys, products, weight_hh, weight_query, energy, states, gates, weights)
        return states[1:], weights

    @staticmethod
    @once_differentiable
    def backward(ctx, d_states, d_weights):
        keys, products, weight_hh, weight_query, energy, states, gates, weights = ctx.saved_tensors
        size = states.shape[2]
        of_gates, of_candidate = weight_hh.split([2 * size, size])
        d_words, d_queries = torch.empty_like(gates), states.new_empty(*gates.shape[:2], keys.shape[2])
        d_h, d_keys, d_energy = torch.zeros_like(states[0]), torch.zeros_like(keys), torch.zeros_like(energy)
        for t in reversed(range(len(gates))):
            h, (r, z, candidate) = states[t], gates[t].chunk(3, dim=1)
            d_new, d_kept = d_h + d_states[t], 0
            if ctx.is_word is not None:
                d_new, d_kept = d_new * ctx.is_word[t], d_new * ~ctx.is_word[t]
            d_z, d_h, d_candidate = d_new * (candidate - h), d_new * (1 - z), d_new * z
            if ctx.keeps:
                d_z, d_h, d_candidate = -d_z, d_candidate, d_h
            d_candidate = tanh_backward(d_candidate, candidate)
            d_reset = d_candidate @ of_candidate
            d_gates = sigmoid_backward(torch.cat([d_reset * h, d_z], dim=1), gates[t, :, : 2 * size])
            d_words[t] = torch.cat([d_gates, d_candidate], dim=1)

            d_a = (products @ d_words[t][..., None])[..., 0] + d_weights[t]  # [B, S]
            d_scores = weights[t] * (d_a - (weights[t] * d_a).sum(1, keepdim=True))
            tanh = torch.tanh(linear(h, weight_query)[:, None] + keys)  # [B, S, A]
            d_energy += (d_scores[:, None] @ tanh).sum((0, 1))
            d_sums = tanh_backward(d_scores[..., None] * energy, tanh)
            d_keys += d_sums
            d_queries[t] = d_sums.sum(1)
            d_h = d_h + d_kept + d_reset * r + d_gates @ of_gates + d_queries[t] @ weight_query
        d_products = torch.einsum("tbs,tbd->bsd", weights, d_words)
        d_hh = torch.cat(
            [
                product_over_time(d_words[..., : 2 * size], states[:-1]),
                product_over_time(d_words[..., 2 * size :], gates[..., :size] * states[:-1]),
            ]
        )
        d_query = product_over_time(d_queries, states[:-1])
        return None, None, None, d_words, d_h, d_keys, d_products, d_hh, d_query, d_energy
