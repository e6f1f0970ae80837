"""Memory stays flat over 2,000 updates of every recipe."""

import os
from pathlib import Path

import pytest

from hf_lineage.training import LineageTrainer
from tests.recipes.test_a_failed_evaluation import folder  # noqa: F401 - a fixture
from tests.reliability.test_training_kills import RUNS, inputs, start  # noqa: F401 - a fixture


PAGE = os.sysconf("SC_PAGE_SIZE")
# updates until caches are full, and at the end
FIRST, LAST = 500, 2_000


def resident() -> int:
    """Bytes of memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


@pytest.mark.slow
@pytest.mark.recipe
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the memory of a process is read from /proc")
@pytest.mark.parametrize("name", RUNS)
def test_memory_stays_flat(inputs, tmp_path, monkeypatch, name):  # noqa: F811
    recipe, settings = RUNS[name]
    monkeypatch.setitem(
        RUNS, name, (recipe, settings | {"max_steps": LAST, "save_strategy": "no", "logging_steps": FIRST})
    )
    step = LineageTrainer.get_batch_samples

    def measured(self, *args, **kwargs):
        if self.state.global_step in (FIRST, LAST - 1):
            (tmp_path / str(self.state.global_step)).write_text(str(resident()))
        return step(self, *args, **kwargs)

    monkeypatch.setattr(LineageTrainer, "get_batch_samples", measured)
    assert start(inputs, name, tmp_path / "run", 1, 0) == [0], (tmp_path / "run-0.log").read_text()[-4_000:]
    first, last = (int((tmp_path / str(number)).read_text()) for number in (FIRST, LAST - 1))
    assert last - first < 4 * 2**20
