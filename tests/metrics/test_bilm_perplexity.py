"""Perplexity of both directions against each direction's losses over the whole text at once."""

import math

import pytest
import torch

from hf_lineage import ELMoConfig, ELMoForPreTraining
from hf_lineage.data import encode_bilm_corpus
from hf_lineage.data.bilm_streams import bilm_inputs
from hf_lineage.metrics import measure_bilm_perplexity
from hf_lineage.tokenization import elmo_tokenizer, train_word_level


@pytest.mark.parametrize(
    "output", [{"output_layer": "sampled"}, {"output_layer": "adaptive", "adaptive_cutoffs": [5]}]
)
@pytest.mark.parametrize("block_size", [1, 3, 1000])
def test_every_word_counts_once(block_size, output, tiny_corpus):
    marks = {"unk_token": "<UNK>", "bos_token": "<S>", "eos_token": "</S>"}
    tokenizer = elmo_tokenizer(train_word_level(tiny_corpus, 30, special_tokens=marks, show_progress=False))
    stream = encode_bilm_corpus([{"text": text} for text in tiny_corpus[:5]], tokenizer, show_progress=False)
    sizes = {"character_size": 4, "cnn_filters": [[1, 8]], "hidden_size": 8, "projection_size": 4}
    model = ELMoForPreTraining(ELMoConfig(vocab_size=len(tokenizer), **sizes, **output)).train()
    found = measure_bilm_perplexity(model, stream, block_size=block_size, show_progress=False)
    assert model.training
    inputs = bilm_inputs(stream, 0, stream.num_predictions, characters=True)
    with torch.no_grad():
        expected = model.eval()(**{name: tensor[None] for name, tensor in inputs.items()})
    assert found["forward_perplexity"] == pytest.approx(expected.forward_loss.exp().item(), rel=1e-5)
    assert found["backward_perplexity"] == pytest.approx(expected.backward_loss.exp().item(), rel=1e-5)
    assert found["perplexity"] == pytest.approx(math.exp(expected.loss.item()), rel=1e-5)
    assert found["num_predictions"] == sum(len(text.split()) + 1 for text in tiny_corpus[:5])
    assert found["num_unknown"] > 0
