"""Calls a recipe without a new interpreter, which spares the seconds of its imports: in this process, or in forks."""

import contextlib
import gc
import io
import math
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from accelerate.state import AcceleratorState, GradientState, PartialState


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


def succeed(script, *flags):
    """`call` of what must end well."""
    result = call(script, *flags)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-4000:]


def run_in_forks(work: Callable[[int], None], processes: int, log: Path) -> list[int]:
    """Calls work(rank) in forks that find each other as launched processes do, and gives their exit statuses.

    The output of each goes to `log`-RANK.log.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for rank in range(processes):
        child = os.fork()
        if child == 0:
            work_in_fork(work, rank, processes, port, log)
        children.append(child)
    statuses: dict[int, int] = {}
    # a launcher would end the others too, by this signal after so many seconds
    ends, last = [(20, signal.SIGTERM), (25, signal.SIGKILL)], math.inf
    while len(statuses) < processes:
        for child in set(children) - statuses.keys():
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                statuses[child] = os.waitstatus_to_exitcode(status)
                last = min(last, time.monotonic())
        if ends and time.monotonic() > last + ends[0][0]:
            _, number = ends.pop(0)
            for child in set(children) - statuses.keys():
                os.kill(child, number)
        time.sleep(0.01)
    return [statuses[child] for child in children]


def work_in_fork(work: Callable[[int], None], rank: int, processes: int, port: int, log: Path):
    status = 1
    # Trainer collects garbage, and need not look at what the tests have made
    gc.freeze()
    file = os.open(f"{log}-{rank}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number in (1, 2):
        os.dup2(file, number)
    sys.stdout, sys.stderr = (open(number, "w", closefd=False) for number in (1, 2))
    try:
        AcceleratorState._reset_state(True)
        PartialState._reset_state()
        GradientState._reset_state()
        if processes > 1:
            os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)}
            os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true"}
        work(rank)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)
