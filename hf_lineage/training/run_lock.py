"""One run per folder: a lock that ends with its process, on this machine's disks and on network file systems.

The operating system holds a lock on the file _run.lock and drops it when the process ends, even by SIGKILL; NFS 3 and
later carry it between machines. Where a file system keeps no locks, or keeps them from other machines, a thread of the
run sets the file's time every BEAT seconds, and a second run first watches whether that time still changes. It
compares two readings of one clock, the server's, so that the machines' clocks need not agree.

The lock is one of `fcntl`, not of `flock`: DataLoader workers, which may outlive a killed run, do not inherit it.
"""

import atexit
import contextlib
import json
import os
import socket
import threading
import time
from pathlib import Path


try:
    import fcntl
except ImportError:
    # Windows: the thread alone
    fcntl = None  # type: ignore[assignment]

LOCK = "_run.lock"
# seconds between two signs of life, and how long a second run waits for one
BEAT, PATIENCE = 10.0, 25.0


class RunLock:
    """Holds `folder` for this process until `release`, or until the process ends.

    Raises:
        ValueError: a run of another process holds it; the message names the process and its machine.
        OSError: the lock's file cannot be written.
    """

    def __init__(self, folder: Path):
        self.path = folder / LOCK
        self.process = os.getpid()
        self.ended = threading.Event()
        self.is_new = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        self.file = self._open()
        owner = {"process": self.process, "machine": socket.gethostname(), "since": time.strftime("%F %T")}
        os.ftruncate(self.file, 0)
        os.pwrite(self.file, json.dumps(owner).encode(), 0)
        threading.Thread(target=self._beat, name="run lock", daemon=True).start()
        atexit.register(self.release)

    def _open(self) -> int:
        while True:
            file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                is_locked = _lock(file)
                # the run that ended just now may have removed this file, and a third one made another
                if is_locked is not None and self.path.exists() and os.path.samestat(os.fstat(file), self.path.stat()):
                    if self._is_alone(file, is_locked):
                        return file
                    is_locked = None
                owner = _owner(file)
            except BaseException:
                os.close(file)
                raise
            os.close(file)
            if is_locked is None:
                who = ", ".join(f"{name} {owner.get(name, 'unknown')}" for name in ("process", "machine", "since"))
                raise ValueError(
                    f"output_dir is {self.path.parent}, in which another run is at work ({who}): wait for its end, "
                    "stop it, or give another folder"
                )

    def _is_alone(self, file: int, is_locked: bool) -> bool:
        """Whether no run of another machine, or of this one if the system has no locks here, gives a sign of life."""
        owner, before = _owner(file), os.fstat(file).st_mtime_ns
        deadline = time.monotonic() + PATIENCE
        while owner and not (is_locked and owner.get("machine") == socket.gethostname()):
            # a network file system then asks its server; to open and close the file would drop our lock
            _lock(file)
            if os.fstat(file).st_mtime_ns != before:
                return False
            if time.monotonic() > deadline:
                break
            time.sleep(PATIENCE / 50)
        return True

    def _beat(self):
        while not self.ended.wait(BEAT):
            # a full disk must not end the run
            with contextlib.suppress(OSError):
                os.utime(self.file)

    def release(self):
        """Gives the folder free, and removes it if it was new and is empty."""
        if self.ended.is_set() or os.getpid() != self.process:
            return
        self.ended.set()
        _held.pop(os.path.realpath(self.path.parent), None)
        with contextlib.suppress(OSError):
            self.path.unlink()
            if self.is_new:
                self.path.parent.rmdir()
        os.close(self.file)


def _lock(file: int) -> bool | None:
    """True if this process now has the system's lock, None if another one has it, False if there are no locks here."""
    if fcntl is None:
        return False
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return None
    except OSError:
        return False
    return True


def _owner(file: int) -> dict:
    try:
        owner = json.loads(os.pread(file, 1_000, 0))
    except ValueError:
        return {}
    return owner if isinstance(owner, dict) else {}


# by folder; the system would not stop this process from taking its own locks again
_held: dict[str, RunLock] = {}


def hold(folder: str | Path) -> RunLock | None:
    """Locks a folder for this process; None if it holds it already. Raises what `RunLock` does."""
    place = os.path.realpath(folder)
    if place in _held and _held[place].process == os.getpid():
        return None
    _held[place] = RunLock(Path(folder))
    return _held[place]
