"""The script that counts how far a reader walks finds every station."""

import pytest

from hf_lineage.models import LINEAGE
from tests import trace_forward


@pytest.mark.slow
def test_every_station_is_traced(capsys):
    trace_forward.main()
    tables = capsys.readouterr().out.split("\n\n")
    for table in tables:
        names = [line.split()[0] for line in table.splitlines()[1:]]
        assert names == [config_class.__name__.removesuffix("Config") for config_class in LINEAGE]


def test_lines_of_idea():
    def forward(self, x, cache=None):
        """Twice."""
        if cache is not None:
            x = x + 1
        # why
        for _ in range(2):
            x = x * 2
        return x

    assert trace_forward.lines_of(forward.__code__) == (5, 2)
