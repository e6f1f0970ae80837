"""The script that counts how far a reader walks finds every station."""

import pytest

from hf_lineage.models import LINEAGE
from tests import trace_forward


# rooms, moves between them, functions, lines that a checkpoint carries, all heads included: a change may lower them
LIMITS = {
    "NNLM": (5, 14, 21, 932),
    "Word2Vec": (3, 4, 7, 1_157),
    "RNN": (7, 28, 43, 2_414),
    "LSTM": (7, 28, 43, 2_414),
    "GRU": (7, 28, 43, 2_414),
    "Seq2Seq": (7, 38, 39, 2_338),
    "RNNSearch": (9, 44, 58, 2_744),
    "Luong": (10, 124, 63, 2_798),
    "Transformer": (7, 68, 35, 1_631),
    "ELMo": (8, 58, 64, 2_911),
    "GPT": (6, 26, 28, 1_807),
    "BERT": (7, 32, 33, 1_964),
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
