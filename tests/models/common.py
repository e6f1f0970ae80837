"""What must hold for every station: its test table inherits `ModelTests`.

A table names its configuration, the sizes of a tiny model and how its weights start:

    class TestLSTM(ModelTests):
        config_class = LSTMConfig
        tiny = {"vocab_size": 60, "hidden_size": 16, ...}

        def initialization(self, name, config):
            return uniform(config.initializer_range)

and overrides `inputs`, `labels` or `expected_shape` where its heads differ from the usual ones. What a station cannot
do stands in a `no_...` attribute as the reason, with which the tests concerned are skipped.

A test that asks for `head` runs once for each of the station's Auto classes, one that asks for `trained_head` once for
each that has an objective.
"""

from tests.models.common_configuration import ConfigurationTests
from tests.models.common_files import FileTests
from tests.models.common_outputs import OutputTests
from tests.models.common_padding import PaddingTests
from tests.models.common_pipelines import PipelineTests
from tests.models.common_table import (
    BIASES,
    Distribution,
    assert_same_gradients,
    assert_same_state,
    constant,
    gradients,
    main_output,
    normal,
    tensors,
    uniform,
    unless,
)
from tests.models.common_training import TrainingTests


__all__ = [
    "BIASES",
    "Distribution",
    "ModelTests",
    "assert_same_gradients",
    "assert_same_state",
    "constant",
    "gradients",
    "main_output",
    "normal",
    "tensors",
    "uniform",
    "unless",
]


class ModelTests(ConfigurationTests, OutputTests, PaddingTests, FileTests, TrainingTests, PipelineTests):
    """Tests of every head of one station."""
