"""Decoding as one would write it on paper: one sentence, one hypothesis at a time, the whole model run for each token.

No batch, no padding, no cache, no tensors of beams: hypotheses are lists of token ids with a score. The rules of beam
search (how many candidates, when a sentence is done) are those that transformers documents for its defaults.
"""

import math
from dataclasses import dataclass

import torch


@dataclass
class Hypothesis:
    tokens: list[int]
    log_probability: float
    score: float = -math.inf


def next_log_probabilities(model, source: torch.Tensor, tokens: list[int]) -> torch.Tensor:
    """log p(· | source, tokens) [V] of the sentence `source` [1, S]."""
    logits = model(input_ids=source, decoder_input_ids=torch.tensor([tokens]), use_cache=False).logits
    return logits[0, -1].float().log_softmax(0)


def greedy(model, source: torch.Tensor, max_new_tokens: int, eos: list[int]) -> list[int]:
    tokens = [model.config.decoder_start_token_id]
    while len(tokens) <= max_new_tokens:
        tokens.append(next_log_probabilities(model, source, tokens).argmax().item())
        if tokens[-1] in eos:
            break
    return tokens


def beam_search(model, source: torch.Tensor, num_beams: int, max_new_tokens: int, eos: list[int], penalty):
    """The `num_beams` best finished hypotheses, best first; `penalty(length)` divides a log-probability."""
    running = [Hypothesis([model.config.decoder_start_token_id], 0.0)]
    finished = []
    for length in range(1, max_new_tokens + 1):
        candidates = []
        for hypothesis in running:
            scores = next_log_probabilities(model, source, hypothesis.tokens)
            for token, score in enumerate(scores.tolist()):
                candidates.append(Hypothesis([*hypothesis.tokens, token], hypothesis.log_probability + score))
        candidates.sort(key=lambda h: h.log_probability, reverse=True)
        # enough for num_beams to go on even if every other one ends
        candidates = candidates[: max(2, 1 + len(eos)) * num_beams]
        ended = [h.tokens[-1] in eos or length == max_new_tokens for h in candidates]
        for rank, (hypothesis, end) in enumerate(zip(candidates, ended, strict=True)):
            if end and rank < num_beams:
                hypothesis.score = hypothesis.log_probability / penalty(length)
                finished.append(hypothesis)
        finished = sorted(finished, key=lambda h: h.score, reverse=True)[:num_beams]
        running = [h for h, end in zip(candidates, ended, strict=True) if not end][:num_beams]
        if not running:
            break
        # done once the best running one, were it to end now, would not come in
        if len(finished) == num_beams and running[0].log_probability / penalty(length) <= finished[-1].score:
            break
    return finished
