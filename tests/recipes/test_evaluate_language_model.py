"""recipes/evaluate_language_model.py: a model, the n-gram models of the same text, and their mixtures."""

import json
import math
from pathlib import Path

import pytest

from hf_lineage import BERTConfig, BERTForMaskedLM, LSTMConfig, LSTMForCausalLM, NNLMConfig, NNLMForCausalLM
from hf_lineage.tokenization import causal_tokenizer, train_word_level
from tests.recipes.here import call


ROOT = Path(__file__).resolve().parents[2]


def evaluate(tmp_path, tiny_corpus, new_model, *flags):
    """The table of the model that `new_model` makes for a vocabulary size, what was printed, parts and size."""
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    parts = {"train": tiny_corpus[::2], "validation": tiny_corpus[1:100:2], "test": tiny_corpus[101::2]}
    for split, sentences in parts.items():
        (corpus / f"{split}.txt").write_text("\n".join(sentences), encoding="utf-8")
    special_tokens = {"unk_token": "<unk>", "eos_token": "<eos>"}
    tokenizer = causal_tokenizer(train_word_level(parts["train"], special_tokens=special_tokens, show_progress=False))
    for part in (new_model(len(tokenizer)), tokenizer):
        part.save_pretrained(tmp_path / "model")

    flags = [
        "--model_name_or_path",
        tmp_path / "model",
        "--corpus",
        corpus,
        "--ngram_order",
        4,
        "--disable_tqdm",
        True,
        *flags,
    ]
    result = call("recipes/evaluate_language_model.py", *flags)
    assert result.returncode == 0, result.stderr[-3000:]
    table = json.loads((tmp_path / "model" / "evaluation.json").read_text())
    return table, result.stdout, parts, len(tokenizer)


@pytest.mark.recipe
def test_the_table_has_models_and_mixtures(tmp_path, tiny_corpus):
    def new_model(size):
        return NNLMForCausalLM(NNLMConfig(vocab_size=size, hidden_size=8, embedding_size=4))

    table, printed, parts, vocab_size = evaluate(tmp_path, tiny_corpus, new_model)
    found = {name: row["validation"]["perplexity_per_token"] for name, row in table.items()}
    network, trigram, kneser_ney, *_ = found
    assert (network, trigram, kneser_ney) == ("NNLMForCausalLM", "interpolated trigram", "Kneser-Ney, order 4")
    # untrained: close to chance among all words
    assert found[network] == pytest.approx(vocab_size, rel=0.2)
    assert found[kneser_ney] < found[network] / 2
    for other in (trigram, kneser_ney):
        half = found[f"{network} and {other}, half each"]
        (learned,) = [value for name, value in found.items() if name.startswith(f"{network} (") and other in name]
        # the better model wins where the weight is learned; a mixture is never worse than half its better part
        assert learned <= min(found[network], found[other]) * 1.001
        assert learned <= half <= 2 * min(found[network], found[other])
    for row in table.values():
        assert row["test"]["num_tokens"] == sum(len(text.split()) + 1 for text in parts["test"])
        assert row["test"]["perplexity_per_token"] == pytest.approx(
            math.exp(row["test"]["nll"] / row["test"]["num_tokens"])
        )
        assert f"{row['test']['perplexity_per_token']:.1f}" in printed


@pytest.mark.recipe
def test_a_recurrent_model_adapts(tmp_path, tiny_corpus):
    def new_model(size):
        return LSTMForCausalLM(LSTMConfig(vocab_size=size, hidden_size=8))

    adapted = ("--neural_cache", True, "--cache_share", 0.2, "--dynamic_learning_rate", 0.5)
    table, *_ = evaluate(tmp_path, tiny_corpus, new_model, *adapted)
    found = {name: row["test"]["perplexity_per_token"] for name, row in table.items()}
    plain = found["LSTMForCausalLM"]
    # untrained, it knows no word; both learn from the text itself which ones come
    assert found["LSTMForCausalLM with a neural cache"] < 0.9 * plain
    assert found["LSTMForCausalLM, evaluated dynamically"] < 0.9 * plain


@pytest.mark.recipe
def test_a_model_that_does_not_write_is_refused_in_one_line(tmp_path):
    sizes = {
        "vocab_size": 30,
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 8,
    }
    BERTForMaskedLM(BERTConfig(**sizes)).save_pretrained(tmp_path / "bert")
    flags = ["--model_name_or_path", tmp_path / "bert", "--output_dir", tmp_path / "run"]
    result = call("recipes/evaluate_language_model.py", *flags)
    assert result.returncode == 2
    [line] = result.stderr.strip().splitlines()
    assert "of type lineage_bert, which AutoModelForCausalLM does not open" in line
