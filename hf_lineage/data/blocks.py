"""What all blocks of a token stream share: their checks and their labels."""

import numpy as np
import torch


IGNORED = -100


def check_block_size(block_size):
    if block_size < 2:
        raise ValueError(f"block_size is {block_size}; it must be at least 2: one token to read and one to predict")


def check_context_size(context_size, block_size):
    if not 1 <= context_size < block_size:
        raise ValueError(
            f"context_size is {context_size}; it must lie between 1 and {block_size - 1}, one less than block_size"
        )


def causal_block(tokens, context_size):
    """The first `context_size` tokens are only read; the first label may stay, since nothing predicts it."""
    input_ids = as_tensor(tokens)
    labels = input_ids.clone()
    labels[1:context_size] = IGNORED
    return {"input_ids": input_ids, "labels": labels}


def as_tensor(tokens):
    return torch.from_numpy(tokens.astype(np.int64))
