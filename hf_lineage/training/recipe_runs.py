"""A recipe run in its own process, by another one."""

import subprocess
import time
from collections.abc import Sequence
from pathlib import Path


def run_recipe(name: str, command: Sequence[str], log: Path) -> float:
    """Runs a command with its output in a log; returns the seconds.

    Raises:
        RuntimeError: the command failed; the message has the end of its log.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    with open(log, "w", encoding="utf-8") as file:
        done = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT)
    if done.returncode:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:]
        raise RuntimeError("\n".join([f"{name} ended with status {done.returncode}; the end of {log}:", *lines]))
    return time.perf_counter() - started
