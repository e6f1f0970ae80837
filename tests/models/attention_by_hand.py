"""Recurrent encoder-decoders with attention: equations in numpy and double precision, and what is held to them."""

import numpy as np
import torch
from torch.testing import assert_close

from hf_lineage.models.cache_argument import CACHE_FIELD, cache_of
from tests.models.common import Distribution, normal
from tests.models.test_modeling_seq2seq import RecurrentSeq2SeqTests


class AttentionalTests(RecurrentSeq2SeqTests):
    """What RNNsearch and Luong's model share."""

    def initialization(self, name, config):
        if config.initialization == "orthogonal" and ".alignment." in name:
            # the paper's B.1: v and biases are zero, W and U a tenth of the others
            if name.endswith(("energy", "bias")):
                return Distribution(0.0, 0.0, 0.0)
            return normal(config.initializer_range / 10)
        return super().initialization(name, config)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    exponentials = np.exp(x - x.max())
    return exponentials / exponentials.sum()


class Numbers:
    """A model's parameters by name, as float64 arrays."""

    def __init__(self, model):
        self.arrays = {name: p.detach().numpy().astype(np.float64) for name, p in model.named_parameters()}

    def __call__(self, name):
        return self.arrays[name]

    def gru(self, cell, x, h):
        """h_t = (1 − z) ⊙ h_{t−1} + z ⊙ h̃ with the reset gate before the product (Bahdanau et al., A.1.1)."""
        W, U, b = (np.split(self(f"{cell}.{name}"), 3) for name in ("weight_ih", "weight_hh", "bias"))
        r, z = (sigmoid(W[i] @ x + U[i] @ h + b[i]) for i in range(2))
        candidate = np.tanh(W[2] @ x + U[2] @ (r * h) + b[2])
        return (1 - z) * h + z * candidate

    def lstm(self, cell, x, state):
        h, c = state
        gates = self(f"{cell}.weight_ih") @ x + self(f"{cell}.weight_hh") @ h + self(f"{cell}.bias")
        i, f, g, o = np.split(gates, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        return sigmoid(o) * np.tanh(c), c


@torch.no_grad()
def check_by_hand(model, by_hand):
    """The model on batches padded on either side, at once and word by word, against each sentence by hand."""
    source, target, lengths = torch.randint(60, (3, 6)), torch.randint(60, (3, 8)), torch.tensor([[6], [3], [1]])
    for mask in (torch.arange(6) < lengths, torch.arange(6) >= 6 - lengths):
        inputs = {"attention_mask": mask.long(), "output_attentions": True}
        whole = model(source, decoder_input_ids=target, use_cache=False, **inputs)
        found = {"at once": (whole.logits, whole.cross_attentions[0])}
        steps, cache = [], None
        for word in target.split(1, dim=1):
            step = model(source, decoder_input_ids=word, use_cache=True, **{CACHE_FIELD: cache}, **inputs)
            cache = cache_of(step)
            steps.append((step.logits, step.cross_attentions[0]))
        found["word by word"] = tuple(torch.cat(parts, dim=1) for parts in zip(*steps, strict=True))
        for row, is_word in enumerate(mask):
            logits, weights = by_hand(model, source[row, is_word].tolist(), target[row].tolist())
            for found_logits, found_weights in found.values():
                assert_close(found_logits[row], torch.tensor(logits), rtol=1e-9, atol=1e-9)
                assert_close(found_weights[row][:, is_word], torch.tensor(weights), rtol=1e-9, atol=1e-9)
                assert (found_weights[row][:, ~is_word] == 0).all()
