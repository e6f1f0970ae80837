"""recipes/lineage.py: every causal station is trained, reopened and reported, and a failure is not hidden."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hf_lineage import LINEAGE


ROOT = Path(__file__).resolve().parents[2]
CAUSAL = [config.model_type for config in LINEAGE if "AutoModelForCausalLM" in config.auto_classes]


def write_corpus(folder, sentences):
    folder.mkdir()
    # enough text for one step of 16 streams by 32 tokens
    for split, lines in (("train", sentences * 2), ("validation", sentences), ("test", sentences)):
        (folder / f"{split}.txt").write_text("\n".join(lines), encoding="utf-8")
    return folder


def run_lineage(output_dir, corpus):
    flags = ["--output_dir", output_dir, "--corpus", corpus, "--tokens", 2_000, "--vocab_size", 200]
    command = [sys.executable, "recipes/lineage.py", *map(str, flags)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_every_causal_station_has_a_tiny_preset():
    for model_type in CAUSAL:
        assert (ROOT / "recipes" / "configs" / f"{model_type.removeprefix('lineage_')}_tiny.yaml").is_file()


@pytest.mark.recipe
def test_the_lineage_run_reports_every_station(tmp_path, tiny_corpus):
    result = run_lineage(tmp_path / "run", write_corpus(tmp_path / "corpus", tiny_corpus))
    assert result.returncode == 0, result.stderr[-3000:]
    results = json.loads((tmp_path / "run" / "report.json").read_text())
    assert len(results) == len(CAUSAL)
    for row in results:
        # words and characters are counted on the same text for all, so the units agree with each other
        assert row["perplexity_per_word"] > row["perplexity_per_token"] > 1
        assert row["train_curve"]
        assert len(row["samples"]) == 3
        assert row["model"] in result.stdout
    page = (tmp_path / "run" / "report.html").read_text()
    assert "data:image/png;base64," in page
    assert not re.search(r"(src|href)=(?!\"data:)", page), "the report must open offline"
    assert "What Word2VecModel knows of words" in page
    assert page.count("data:image/png;base64,") == 2
    for model_type in [*CAUSAL, "lineage_word2vec"]:
        assert (tmp_path / "run" / model_type / "model.safetensors").is_file()


@pytest.mark.recipe
def test_a_failing_station_ends_the_run_with_an_error(tmp_path, tiny_corpus):
    corpus = write_corpus(tmp_path / "corpus", tiny_corpus)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / CAUSAL[0]).write_text("a file where the station's folder should be")
    result = run_lineage(tmp_path / "run", corpus)
    assert result.returncode != 0
    assert f"failed: {CAUSAL[0]}" in result.stderr
    assert len(json.loads((tmp_path / "run" / "report.json").read_text())) == len(CAUSAL) - 1
