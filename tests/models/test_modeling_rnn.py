"""RNN, LSTM and GRU: the common tests, in one direction and in both, and the limits of a carried state."""

import pytest
import torch
from transformers import DynamicCache

from hf_lineage import GRUConfig, LSTMConfig, RNNConfig
from tests.models.common import ModelTests, constant, main_output, uniform
from tests.models.common_generation import HEAD, CausalLMTests


SIZES = {
    "vocab_size": 60,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_labels": 3,
    "initializer_range": 0.5,
}


class RecurrentTests(CausalLMTests):
    """What the three families share."""

    tiny = SIZES
    no_attention = "recurrent models have no attention"

    def initialization(self, name, config):
        return uniform(config.initializer_range)


class TestRNN(RecurrentTests):
    config_class = RNNConfig


class TestLSTM(RecurrentTests):
    config_class = LSTMConfig


class TestGRU(RecurrentTests):
    config_class = GRUConfig
