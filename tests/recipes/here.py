"""Calls a recipe in this process, which spares the seconds of a new one's imports."""

import contextlib
import io
import runpy
import subprocess
import sys
from pathlib import Path


ROOT = Path(__file__).resolve().parents[2]


def call(script, *flags) -> subprocess.CompletedProcess:
    """What `python recipes/x.py FLAGS` returns: status, stdout and stderr."""
    argv, out, err, status = sys.argv, io.StringIO(), io.StringIO(), 0
    sys.argv = [str(ROOT / script), *map(str, flags)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as stop:
        # a text is printed by the interpreter, and its status is 1
        status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        err.write(stop.code if isinstance(stop.code, str) else "")
    finally:
        sys.argv = argv
    return subprocess.CompletedProcess([script, *flags], status, out.getvalue(), err.getvalue())
