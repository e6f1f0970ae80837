"""The script that counts how far a reader walks finds every station."""

import pytest

from hf_lineage.models import LINEAGE
from tests import trace_forward


# rooms, moves between them, functions, lines that a checkpoint carries (without fast paths), all heads included, and
# 710 lines that save and verify its files, and name its format and pipelines: a change may lower them
LIMITS = {
    "NNLM": (5, 18, 22, 1_621),
    "Word2Vec": (3, 8, 11, 1_894),
    "RNN": (7, 32, 44, 2_662),
    "LSTM": (7, 32, 44, 2_662),
    "GRU": (7, 32, 44, 2_662),
    "Seq2Seq": (7, 42, 40, 2_591),
    "RNNSearch": (9, 48, 59, 2_879),
    "Luong": (10, 128, 64, 3_035),
    "Transformer": (7, 72, 36, 2_233),
    "ELMo": (8, 64, 65, 3_085),
    "GPT": (6, 30, 30, 2_411),
    "BERT": (7, 36, 35, 2_520),
}


@pytest.mark.parametrize("config_class", LINEAGE, ids=lambda config_class: config_class.model_type)
def test_a_training_step_is_no_longer_a_walk(config_class):
    rooms, moves, functions, lines, *_ = trace_forward.figures_of(config_class)
    limits = LIMITS[config_class.__name__.removesuffix("Config")]
    names = ("rooms", "moves", "functions", "lines")
    found = zip(names, (rooms, moves, functions, lines), limits, strict=True)
    assert [(name, number, limit) for name, number, limit in found if number > limit] == []


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
