"""How much memory a test takes."""

import resource
import sys
from contextlib import contextmanager


@contextmanager
def little_memory():
    """Asserts that the peak of this process grows by less than 100 MB."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    # in KiB on Linux, in bytes on a Mac
    unit = 1 if sys.platform == "darwin" else 1024
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit < 100e6
