"""recipes/evaluate_harness.py: the harness judges each minimal pair as we do, with recurrent and attention models."""

import json
import random
import runpy
from pathlib import Path

import pytest

import hf_lineage
from hf_lineage.metrics import measure_minimal_pairs
from hf_lineage.tokenization import causal_tokenizer
from tests.models.test_modeling_gpt import TestGPT as GPT


ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def run(monkeypatch, tmp_path):
    def call(**settings):
        settings = {"output_dir": tmp_path / "out", **settings}
        flags = [f"--{name}={value}" for name, value in settings.items()]
        monkeypatch.setattr("sys.argv", ["evaluate_harness.py", *flags])
        script = runpy.run_path(str(ROOT / "recipes" / "evaluate_harness.py"))
        script["main"]()
        return json.loads((tmp_path / "out" / "results.json").read_text())

    return call


def saved(folder, station, tokenizer):
    sizes = GPT.tiny if station == "GPT" else {"hidden_size": 16}
    sizes = sizes | {"vocab_size": len(tokenizer), "initializer_range": 0.5}
    if station == "NNLM":
        sizes.pop("initializer_range")
    config = getattr(hf_lineage, f"{station}Config")(**sizes)
    model = getattr(hf_lineage, f"{station}ForCausalLM")(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model


@pytest.mark.parametrize(
    "station", ["GPT", pytest.param("LSTM", marks=pytest.mark.slow), pytest.param("NNLM", marks=pytest.mark.slow)]
)
def test_every_pair_is_judged_as_we_do(run, tmp_path, tiny_tokenizer, tiny_corpus, station):
    """A task per pair, so that no two judgements can cancel out."""
    pytest.importorskip("lm_eval", reason="needs lm_eval (extra harness)")
    draw = random.Random(0)
    rows = [
        {"sentence_good": good, "sentence_bad": draw.choice(tiny_corpus), "UID": f"phenomenon {number}"}
        for number, good in enumerate(tiny_corpus[:12])
    ]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    tokenizer = causal_tokenizer(tiny_tokenizer)
    model = saved(tmp_path / "model", station, tokenizer)
    results = run(model_name_or_path=tmp_path / "model", pairs=tmp_path / "pairs.jsonl", batch_size=5)
    expected = measure_minimal_pairs(model, tokenizer, rows, show_progress=False)["by_phenomenon"]
    assert 0 < sum(expected.values()) < 12
    assert {name: results[f"pairs_{name.replace(' ', '_')}"]["acc"] for name in expected} == expected
    assert results["accuracy"] == pytest.approx(sum(expected.values()) / 12)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"pairs": "missing.jsonl"}, "missing.jsonl"), ({"tasks": "no_such_task", "tasks_dir": "."}, "no_such_task")],
)
def test_what_is_not_there_is_named(run, tmp_path, tiny_tokenizer, settings, message):
    pytest.importorskip("lm_eval", reason="needs lm_eval (extra harness)")
    saved(tmp_path / "model", "GPT", causal_tokenizer(tiny_tokenizer))
    with pytest.raises((ValueError, OSError), match=message):
        run(model_name_or_path=tmp_path / "model", **settings)


def test_masked_models_are_refused(run, tmp_path, tiny_tokenizer):
    pytest.importorskip("lm_eval", reason="needs lm_eval (extra harness)")
    sizes = {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1}
    config = hf_lineage.BERTConfig(vocab_size=len(tiny_tokenizer), **sizes)
    hf_lineage.BERTForMaskedLM(config).save_pretrained(tmp_path / "model")
    with pytest.raises(ValueError, match="lineage_bert is not causal"):
        run(model_name_or_path=tmp_path / "model", tasks="x")
