"""One switch for all fast paths: without them every model runs its paper's equations, line by line.

A fast path gives the same result sooner (dropout draws other random numbers), but a debugger cannot stop on the
paper's line. `HF_LINEAGE_PLAIN=1` in the environment turns all fast paths off, `plain_equations()` for one block.
"""

import os
from contextlib import contextmanager


# in the environment, because code loaded from the Hub is a second copy of this file and must see the same switch
SWITCH = "HF_LINEAGE_PLAIN"


def fast_paths_allowed() -> bool:
    """Whether fast paths may replace the paper's equations; a compiled model keeps the first answer."""
    return os.environ.get(SWITCH, "") in ("", "0")


@contextmanager
def plain_equations():
    """Within the block all models run the paper's equations: cells step by step, attention and softmax written out.

    The switch holds for the whole process. With gradient checkpointing, call `backward` within the block too, since it
    runs layers again. A model made within the block keeps the written-out attention.
    """
    before = os.environ.get(SWITCH, "")
    os.environ[SWITCH] = "1"
    try:
        yield
    finally:
        os.environ[SWITCH] = before
