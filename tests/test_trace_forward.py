"""The script that counts how far a reader walks finds every station."""

import pytest

from hf_lineage.models import LINEAGE
from tests import trace_forward


# rooms, moves between them and functions, all without fast paths; lines that a checkpoint carries, for all heads. A
# change may lower them; what spares a GPU from waiting raised them by one function and up to 44 lines, the
# probabilities of a chain's labels, which pipelines ask for, by up to 39 lines, what a classifier of texts reads
# (`classifier_pooling`) by up to 78. 712 of the lines save and verify files, and name the format and the pipelines
LIMITS = {
    "NNLM": (5, 18, 22, 1_624),
    "Word2Vec": (3, 8, 11, 1_933),
    "RNN": (6, 28, 35, 2_758),
    "LSTM": (6, 28, 35, 2_758),
    "GRU": (6, 28, 35, 2_758),
    "Seq2Seq": (6, 38, 31, 2_596),
    "RNNSearch": (7, 38, 37, 2_884),
    "Luong": (8, 110, 54, 3_040),
    "Transformer": (6, 40, 33, 2_280),
    "ELMo": (6, 44, 43, 3_172),
    "GPT": (5, 18, 27, 2_529),
    "BERT": (5, 20, 30, 2_678),
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
