"""recipes/evaluate_minimal_pairs.py: causal and masked models judge the same pairs, each in its own way."""

import gzip
import json
from pathlib import Path

import pytest
import transformers

from hf_lineage import BERTConfig, BERTForPreTraining, LSTMConfig, LSTMForCausalLM
from hf_lineage.metrics import measure_minimal_pairs
from hf_lineage.tokenization import causal_tokenizer
from tests.recipes.here import call


ROOT = Path(__file__).resolve().parents[2]


def judge(*flags):
    return call("recipes/evaluate_minimal_pairs.py", *flags)


@pytest.mark.recipe
def test_the_recipe_judges_as_the_function_does(tmp_path, tiny_tokenizer, tiny_corpus):
    transformers.set_seed(0)
    causal = causal_tokenizer(tiny_tokenizer)
    lstm = LSTMForCausalLM(LSTMConfig(vocab_size=len(causal), hidden_size=16, num_hidden_layers=1))
    settings = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    bert = BERTForPreTraining(BERTConfig(vocab_size=len(tiny_tokenizer), initializer_range=0.3, **settings))
    for name, model, tokenizer in (("lstm", lstm, causal), ("bert", bert, tiny_tokenizer)):
        model.save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
    rows = [
        {"sentence_good": text, "sentence_bad": " ".join(reversed(text.split())), "UID": f"length {len(text.split())}"}
        for text in tiny_corpus[:30]
    ]
    kept = [row for index, row in enumerate(rows) if [r["UID"] for r in rows[:index]].count(row["UID"]) < 2]
    (tmp_path / "pairs").mkdir()
    with gzip.open(tmp_path / "pairs" / "test.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    flags = ["--pairs", tmp_path / "pairs", "--limit_per_phenomenon", 2, "--output_dir", tmp_path / "out"]
    result = judge("--models", tmp_path / "lstm", tmp_path / "bert", *flags)
    assert result.returncode == 0, result.stderr
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    for name, auto, tokenizer in (
        ("lstm", transformers.AutoModelForCausalLM, causal),
        ("bert", transformers.AutoModelForMaskedLM, tiny_tokenizer),
    ):
        found = results[str(tmp_path / name)]
        model = auto.from_pretrained(tmp_path / name)
        expected = measure_minimal_pairs(model, tokenizer, kept, show_progress=False)
        assert {key: found[key] for key in expected} == expected
        assert found["model_type"] == f"lineage_{name}"
        assert f"{tmp_path / name}: {expected['accuracy']:.4f} of {len(kept)} pairs" in result.stdout
    assert (tmp_path / "out" / "accuracy.png").stat().st_size > 1_000


@pytest.mark.recipe
def test_missing_pairs_are_named(tmp_path):
    result = judge("--models", "x", "--pairs", tmp_path / "none.jsonl", "--output_dir", tmp_path / "out")
    assert result.returncode != 0
    assert "none.jsonl: there is no .jsonl" in result.stderr
    assert not (tmp_path / "out").exists()
