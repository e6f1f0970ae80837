"""The table that `make reliability` prints."""

import re
import subprocess
import sys
from pathlib import Path

from tests.reliability.table import ROWS


ROOT = Path(__file__).parents[2]
TESTS = """
import pytest

@pytest.mark.reliability("A1", "A2")
@pytest.mark.parametrize("right", [True, False])
def test_one_fails(right):
    assert right

@pytest.mark.reliability("A3")
@pytest.mark.parametrize("station", ["LSTM", "word2vec"])
def test_one_does_not_apply(station):
    if station == "word2vec":
        pytest.skip("it has no layers")

@pytest.mark.reliability("A4")
def test_needs_what_is_absent():
    pytest.skip("needs a GPU")
"""
SKIPPED_MODULE = "import pytest\n\npytest.skip('no such library', allow_module_level=True)\n"


def test_every_row_has_a_test():
    marked = set()
    # this file's own sample has markers too
    for path in {*ROOT.glob("tests/**/*.py")} - {Path(__file__).resolve()}:
        for rows in re.findall(r"pytest\.mark\.reliability\(([^)]*)\)", path.read_text(encoding="utf-8")):
            marked |= set(re.findall(r"[ABC]\d+", rows))
    assert marked == ROWS.keys()


def test_a_row_is_met_when_a_test_passed_and_none_failed(tmp_path):
    (tmp_path / "test_rows.py").write_text(TESTS)
    (tmp_path / "test_skipped_module.py").write_text(SKIPPED_MODULE)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = reliability: a row\n")
    options = ["-p", "tests.reliability.table", "-p", "no:cacheprovider", "-rs", "-m", "reliability"]
    command = [sys.executable, "-m", "pytest", *options, "-c", tmp_path / "pytest.ini", tmp_path]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    lines = run.stdout.splitlines()

    def here(row):
        (place,) = (place for place, line in enumerate(lines) if line.startswith(f"{row} "))
        return lines[place + 1].rpartition("here: ")[2]

    assert here("A1") == here("A2") == "1 passed, 1 failed"
    assert here("A3") == "1 passed, 1 skipped"
    assert here("A4") == "1 skipped"
    assert here("A5") == "no test"
    assert any(line.startswith("1 of 54 rows met") for line in lines), run.stdout + run.stderr
