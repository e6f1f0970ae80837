"""One switch for all fast paths: without them every model computes by its paper's equations, line by line.

A fast path gives the same result sooner (dropout draws other random numbers), but a debugger cannot stop there on the
paper's line. `HF_LINEAGE_PLAIN=1` in the environment switches all of them off, `plain_equations()` for one block.
"""

import os
from contextlib import contextmanager


# the environment, because code loaded from the Hub is a second copy of this file, and must see the same switch
SWITCH = "HF_LINEAGE_PLAIN"


def fast_paths_allowed() -> bool:
    """Whether a fast path may take the place of the paper's equations. A compiled model keeps its first answer."""
    return os.environ.get(SWITCH, "") in ("", "0")


@contextmanager
def plain_equations():
    """Within the block all models run the paper's equations: cells step by step, attention and softmax written out.

    Holds for the whole process. Gradient checkpointing needs `backward` within the block too: it runs layers again. A
    model made within the block keeps its written-out attention.
    """
    before = os.environ.get(SWITCH, "")
    os.environ[SWITCH] = "1"
    try:
        yield
    finally:
        os.environ[SWITCH] = before
