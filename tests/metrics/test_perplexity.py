"""Perplexity over a whole text against scoring token by token."""

import json
import math

import numpy as np
import pytest
import torch
from datasets import Dataset

from hf_lineage import GPTConfig, GPTForCausalLM, LSTMConfig, LSTMForCausalLM, NNLMConfig, NNLMForCausalLM
from hf_lineage.data import TokenStream, encode_corpus
from hf_lineage.files import write_json
from hf_lineage.metrics import log_probabilities, measure_perplexity, perplexities, perplexity_of
from hf_lineage.tokenization import train_word_level


@pytest.fixture
def stream():
    tokens = np.random.default_rng(0).integers(1, 30, 43).astype(np.int32)
    return TokenStream(tokens, np.array([1]), num_words=21, num_characters=100, num_unknown=2)


def gpt():
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    return GPTForCausalLM(GPTConfig(vocab_size=30, max_position_embeddings=8, initializer_range=0.5, **sizes))


def test_units():
    found = perplexities(nll=6 * math.log(2), num_tokens=3, num_words=2, num_characters=12, num_unknown=0)
    assert found["perplexity_per_token"] == pytest.approx(4)
    assert found["perplexity_per_word"] == pytest.approx(8)
    assert found["bits_per_character"] == pytest.approx(0.5)


@pytest.mark.parametrize("block_size", [1, 7, 42, 100])
def test_recurrent_models_read_the_text_as_one_stream(stream, block_size):
    model = LSTMForCausalLM(LSTMConfig(vocab_size=30, hidden_size=8, initializer_range=0.5)).train()
    ids = torch.from_numpy(stream.tokens).long()[None]
    expected = model.eval()(ids, labels=ids).loss.item() * 42
    result = measure_perplexity(model, stream, block_size=block_size, show_progress=False)
    assert result["nll"] == pytest.approx(expected, rel=1e-5)
    counts = [result[name] for name in ("num_tokens", "num_words", "num_characters", "num_unknown")]
    assert counts == [42, 21, 100, 2]


@pytest.mark.parametrize("stride", [1, 3, 8])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_windows_score_every_token_once_with_its_context(stream, stride, batch_size):
    model = gpt().eval()
    tokens = torch.from_numpy(stream.tokens).long()
    expected = 0.0
    for target in range(1, 43):
        # the first window scores 8 predictions, each later one the next `stride`
        window = max(math.ceil((target - 8) / stride), 0)
        end = min(8 + window * stride, 42)
        context = tokens[max(end - 8, 0) : target]
        expected -= model(context[None]).logits[0, -1].log_softmax(0)[tokens[target]].item()
    result = measure_perplexity(model, stream, block_size=8, stride=stride, batch_size=batch_size, show_progress=False)
    assert result["nll"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("block_size", [1, 4, 100])
def test_a_window_model_has_its_whole_context_at_every_token(stream, block_size):
    model = NNLMForCausalLM(NNLMConfig(vocab_size=30, embedding_size=4, hidden_size=8, initializer_range=0.5)).eval()
    tokens = torch.from_numpy(stream.tokens).long()
    expected = [
        model(tokens[max(target - 4, 0) : target][None]).logits[0, -1].log_softmax(0)[tokens[target]].item()
        for target in range(1, 43)
    ]
    log_p = log_probabilities(model, stream, block_size=block_size, show_progress=False)
    assert log_p == pytest.approx(expected, abs=1e-5)
    assert perplexity_of(log_p, stream) == measure_perplexity(
        model, stream, block_size=block_size, show_progress=False
    )


def test_training_mode_is_restored(stream):
    model = gpt().train()
    measure_perplexity(model, stream, block_size=8, show_progress=False)
    assert model.training


def test_bad_stride_is_named(stream):
    with pytest.raises(ValueError, match="stride is 9.*block_size.* 8"):
        measure_perplexity(gpt(), stream, block_size=8, stride=9)


def test_a_perplexity_beyond_all_floats_loses_nothing(tmp_path):
    """Ten words in 2,000 characters, each 5 nats: e^1000 a word."""
    found = perplexities(nll=10_000, num_tokens=2_000, num_words=10, num_characters=2_000, num_unknown=0)
    assert found["perplexity_per_word"] == math.inf
    write_json(tmp_path / "results.json", {"test": found, "rows": [(1, math.nan)]})
    results = json.loads((tmp_path / "results.json").read_text(), parse_constant=pytest.fail)
    assert results["test"]["perplexity_per_word"] is None
    assert results["rows"] == [[1, None]]
    assert results["test"]["perplexity_per_token"] == pytest.approx(math.exp(5))
    assert results["test"]["bits_per_character"] == pytest.approx(5 / math.log(2))


@pytest.mark.parametrize("name", ["num_tokens", "num_words", "num_characters"])
def test_nothing_has_no_perplexity(name):
    counts = {"num_tokens": 1, "num_words": 1, "num_characters": 1} | {name: 0}
    with pytest.raises(ValueError, match=f"{name} is 0"):
        perplexities(nll=1.0, **counts, num_unknown=0)


def test_characters_are_the_words_of_text_without_blanks():
    texts = ["我欠他100万。他昨天在公园", "东京塔很高"]
    words = train_word_level(texts, show_progress=False)
    stream = encode_corpus(Dataset.from_dict({"text": texts}), words)
    # 我 欠 他 100 万 。 他 昨 天 在 公 园, and 东 京 塔 很 高, and two ends
    assert stream.num_words == 12 + 5 + 2
    spaced = encode_corpus(Dataset.from_dict({"text": ["我 欠 他 100万", "a dog"]}), words)
    assert spaced.num_words == 4 + 2 + 2


def test_clusters_are_the_words_of_thai_and_khmer():
    """Not one word a sentence, which would make a perplexity per word of a whole sentence."""
    texts = ["ผมชอบอ่านหนังสือ", "ខ្ញុំស្រឡាញ់សៀវភៅនេះ"]
    words = train_word_level(texts, show_progress=False)
    stream = encode_corpus(Dataset.from_dict({"text": texts}), words)
    # ผ ม ช อ บ อ่ า น ห นั ง สื อ, and ខ្ញុំ ស្រ ឡា ញ់ សៀ វ ភៅ នេះ, and two ends
    assert stream.num_words == 13 + 8 + 2
