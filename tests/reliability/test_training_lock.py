"""Two runs in one folder: the second is refused while the first one lives, and only then."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from hf_lineage.training import prepare_output_dir, run_lock


ROOT = Path(__file__).resolve().parents[2]
# holds the folder until its input ends; its child, as a DataLoader worker, lives longer
HOLDER = """
import os, sys, time
from hf_lineage.training.run_lock import hold
hold(sys.argv[1])
child = os.fork()
if child == 0:
    time.sleep(60)
print(child, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds tmp_path / "run", and the number of its child."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "run")]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=tmp_path
    )
    child = int(process.stdout.readline())
    yield process
    os.kill(child, signal.SIGKILL)
    process.kill()
    process.communicate()


@pytest.fixture(autouse=True)
def none_held(monkeypatch):
    monkeypatch.setattr(run_lock, "_held", {})


@pytest.mark.reliability("A17")
def test_a_second_run_is_refused_until_the_first_one_ends(tmp_path, holder):
    message = f"output_dir is {tmp_path / 'run'}, in which another run is at work \\(process {holder.pid}, machine "
    for overwrite in (False, True):
        with pytest.raises(ValueError, match=message):
            prepare_output_dir(tmp_path / "run", overwrite)
    # a crash leaves the file, but no lock, although a child lives on
    holder.kill()
    holder.wait()
    assert (tmp_path / "run" / "_run.lock").exists()
    lock = run_lock.hold(tmp_path / "run")
    assert run_lock.hold(tmp_path / "run") is None
    lock.release()
    assert not (tmp_path / "run").joinpath("_run.lock").exists()


@pytest.mark.reliability("A17")
@pytest.mark.parametrize("locks", ["none", "of each machine alone"])
def test_a_run_of_another_machine_is_refused_while_it_shows_life(tmp_path, monkeypatch, locks):
    """As on network file systems without locks, or whose locks reach one machine only."""
    if locks == "none":
        monkeypatch.setattr(run_lock, "fcntl", None)
    monkeypatch.setattr(run_lock, "BEAT", 0.02)
    monkeypatch.setattr(run_lock, "PATIENCE", 0.5)
    monkeypatch.setattr(run_lock.socket, "gethostname", lambda: "first")
    first = run_lock.RunLock(tmp_path)
    monkeypatch.setattr(run_lock.socket, "gethostname", lambda: "second")
    with pytest.raises(ValueError, match=r"another run is at work \(process \d+, machine first"):
        run_lock.RunLock(tmp_path)
    # the machine dies
    first.ended.set()
    [beating] = [thread for thread in threading.enumerate() if thread.name == "run lock" and thread.is_alive()][-1:]
    beating.join()
    second = run_lock.RunLock(tmp_path)
    assert b'"second"' in (tmp_path / "_run.lock").read_bytes()
    second.release()
    assert not list(tmp_path.iterdir())


@pytest.mark.reliability("A17")
def test_a_folder_that_a_failed_run_made_is_removed(tmp_path):
    lock = run_lock.hold(tmp_path / "new")
    lock.release()
    assert not (tmp_path / "new").exists()


def test_a_file_in_place_of_the_folder_is_named(tmp_path):
    (tmp_path / "run").write_text("a text")
    with pytest.raises(ValueError, match="output_dir is .*run, which is a file"):
        prepare_output_dir(tmp_path / "run")
