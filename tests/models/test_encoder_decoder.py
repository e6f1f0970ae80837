"""Encoder-decoders' common ground: shifted targets, against transformers' own models."""

import pytest
import torch
from transformers import BartConfig, PreTrainedConfig
from transformers.models.bart.modeling_bart import shift_tokens_right

from hf_lineage.models.encoder_decoder import GNMTPenalty, shift_right


def test_shifted_targets_are_barts():
    labels = torch.tensor([[5, 6, 7, 2], [8, 2, -100, -100]])
    config = BartConfig(pad_token_id=1, decoder_start_token_id=9)
    given = labels.clone()
    assert torch.equal(shift_right(labels, config), shift_tokens_right(labels, 1, 9))
    assert torch.equal(labels, given)
    assert shift_right(labels[:, :0], config).shape == (2, 0)


def test_targets_without_a_padding_id_are_padded_by_the_start():
    config = PreTrainedConfig(pad_token_id=None, decoder_start_token_id=9)
    assert shift_right(torch.tensor([[5, -100, -100]]), config).tolist() == [[9, 5, 9]]


def test_missing_start_is_named():
    config = PreTrainedConfig(pad_token_id=0, decoder_start_token_id=None)
    with pytest.raises(ValueError, match="decoder_start_token_id is None.*bos_token_id"):
        shift_right(torch.tensor([[5, 6]]), config)


@pytest.mark.parametrize(("alpha", "length"), [(0.6, 1), (0.6, 20), (1.0, 7), (0.0, 9), (-0.5, 3)])
def test_gnmt_penalty_is_equation_14(alpha, length):
    assert length ** GNMTPenalty(alpha) == pytest.approx((5 + length) ** alpha / (5 + 1) ** alpha)
