"""recipes/lineage.py: every station is trained, reopened and reported, and a failure is not hidden."""

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoModel, AutoTokenizer

from hf_lineage import LINEAGE
from hf_lineage.models import name_and_idea
from hf_lineage.word_vectors import WordVectors


ROOT = Path(__file__).resolve().parents[2]
KEYS = ("perplexity_per_token", "perplexity_per_word", "bits_per_character")
NAMES = [config.model_type.removeprefix("lineage_") for config in LINEAGE]


@pytest.fixture(scope="module")
def recipe():
    return runpy.run_path(str(ROOT / "recipes" / "lineage.py"))


def write_corpus(folder, sentences):
    folder.mkdir()
    # enough text for one step of 32 streams by 20 tokens
    for split, lines in (("train", sentences * 4), ("validation", sentences * 2), ("test", sentences)):
        (folder / f"{split}.txt").write_text("\n".join(lines), encoding="utf-8")
    return folder


def run_lineage(output_dir, corpus, *more):
    flags = ["--output_dir", output_dir, "--corpus", corpus, "--tokens", 2_000, "--vocab_size", 200]
    flags += ["--bert_steps", 10, "--translation_epochs", 0.01, "--recall_updates", 2, *more]
    command = [sys.executable, "recipes/lineage.py", *map(str, flags)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_every_station_has_a_recipe_and_a_tiny_preset(recipe):
    assert list(recipe["STATIONS"]) == NAMES
    args = recipe["LineageArguments"](output_dir="runs", corpus="texts")
    for name in NAMES:
        script, preset = map(Path, recipe["training_command"](name, args)[1:3])
        assert script.is_file()
        assert preset.name == f"{name}_tiny.yaml"
        # the preset names the recipe that reads it
        assert f"# recipe: recipes/{script.name}" in preset.read_text(encoding="utf-8").splitlines()


def test_a_corpus_of_ones_own_is_read_by_rows_as_all_others_read_it(recipe):
    # the default one by articles: only these have pairs of sentences enough
    command = {
        corpus: recipe["training_command"]("bert", recipe["LineageArguments"](corpus=corpus)) for corpus in (None, "x")
    }
    assert "--sample_by" not in command[None]
    assert command["x"][-2:] == ["--sample_by", "line"]


def test_shares_are_in_percent(recipe):
    rows = [
        {"model": "A", "bleu": 99.5, "alignment_error_rate": 0.154},
        {"model": "B", "bleu": 0.5, "alignment_error_rate": None},
    ]
    table = recipe["scores_table"]("T", "", rows, ("model", "bleu", "alignment_error_rate"))
    assert table["columns"] == ["model", "bleu", "alignment error rate"]
    assert table["rows"] == [["A", 99.5, "15.4%"], ["B", 0.5, None]]


BERT = {
    "masked_word_perplexity": 300,
    "by_frequency_alone": 600,
    "next_sentence_accuracy": 0.6,
    "next_sentence_majority": 0.5,
}


def test_the_page_says_what_its_numbers_do_not_show(recipe):
    def sentence(ngrams=200, bert=BERT, gaps=(0.0, 0.1), **perplexities):
        results = {name: {"perplexity_per_token": number} for name, number in perplexities.items()}
        results |= {"bert": bert} if bert else {}
        return recipe["not_shown"](results, {"perplexity_per_token": ngrams}, {"ELMo": gaps})

    lineage = {"nnlm": 140, "rnn": 130, "lstm": 120, "gru": 121, "gpt": 139}
    assert sentence(**lineage) == ""
    assert sentence(ngrams=100, bert=None, gru=150) == ""
    said = sentence(**lineage | {"rnn": 140, "gru": 150}, ngrams=140)
    assert "show: NNLM ahead of the n-gram model (brown_mlp9.yaml); RNN ahead of NNLM (ptb_rnn.yaml); " in said
    assert "GRU ahead of RNN (ptb_gru.yaml). What stands in brackets" in said
    assert "show: ELMo's senses apart with depth (MiniLM). What" in sentence(gaps=(0.2, 0.1))
    assert "words' frequencies (bert_books.yaml)" in sentence(bert=BERT | {"masked_word_perplexity": 401})
    assert "next sentences better" in sentence(bert=BERT | {"next_sentence_accuracy": 0.5})


def test_the_runs_that_show_it_are_documented(recipe):
    documented = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    for preset in [*(preset for _, _, preset in recipe["BETTER"]), "bert_books.yaml"]:
        assert f"recipes/configs/{preset}" in documented


def test_an_unknown_station_is_named(recipe):
    with pytest.raises(ValueError, match=r"\['gpt2'\]; there are nnlm, word2vec"):
        recipe["LineageArguments"](stations=["gpt2"])


def test_a_station_that_fails_shows_the_end_of_its_log(recipe, tmp_path, monkeypatch):
    (tmp_path / "logs").mkdir()
    program = "import sys; [print('line', n, flush=True) for n in range(20)]; sys.exit('no corpus there')"
    # the very function's: runpy gives a copy of its module
    names = recipe["train"].__globals__
    monkeypatch.setitem(names, "training_command", lambda name, args: [sys.executable, "-c", program])
    args = recipe["LineageArguments"](output_dir=str(tmp_path))
    with pytest.raises(
        RuntimeError, match=r"(?s)word2vec ended with status 1; the end of .*\nline 19\n.*no corpus"
    ) as e:
        recipe["train"]("word2vec", args)
    assert "line 3\n" not in str(e.value)


def data_of(page):
    """The numbers of the page; what else it has asks no server for anything."""
    data = re.compile(r'(?s)id="data">(.*?)</script>')
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", data.sub("", page)), "the report must open offline"
    content = json.loads(data.search(page)[1])
    return content, {view["key"]: view["data"] for view in content["views"]}


@pytest.mark.slow
@pytest.mark.recipe
def test_the_lineage_run_reports_every_station(tmp_path, tiny_corpus):
    sentences = [*tiny_corpus, *["He was the second president .", "It takes less than a second ."] * 10]
    result = run_lineage(tmp_path / "run", write_corpus(tmp_path / "corpus", sentences))
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    content, views = data_of((tmp_path / "run" / "report.html").read_text())
    assert [*results] == [*NAMES, "ngrams"]
    assert [model["folder"] for model in content["models"]] == [str(tmp_path / "run" / name) for name in NAMES]
    stations = views["training"]["stations"]
    assert [row[:2] for row in stations] == [list(name_and_idea(config)) for config in LINEAGE]
    for name, config, station in zip(NAMES, LINEAGE, stations, strict=True):
        row = results[name]
        assert (tmp_path / "run" / name / "model.safetensors").is_file()
        assert row["result"] == station[3]
        if "AutoModelForCausalLM" in config.auto_classes:
            # words and characters are counted on the same text for all, so the units agree with each other
            assert row["perplexity_per_word"] > row["perplexity_per_token"] > 1
            assert row["train_curve"]
            assert len(row["samples"]) == 3
        if "AutoModelForSeq2SeqLM" in config.auto_classes:
            assert 0 <= row["bleu"] <= 100
            assert (row["alignment_error_rate"] is None) == (name == "seq2seq")
    assert results["elmo"]["forward_perplexity"] != results["elmo"]["backward_perplexity"]
    assert 0.5 <= results["bert"]["next_sentence_majority"] <= 1
    assert f"next sentence {results['bert']['next_sentence_accuracy']:.0%}" in results["bert"]["result"]
    tables = {table["title"]: table["rows"] for table in views["training"]["tables"]}
    ngrams, *writing = tables["Models that write"]
    assert ngrams == ["Kneser-Ney, order 5", None, *(results["ngrams"][key] for key in KEYS), None, None]
    assert len(writing) == sum("AutoModelForCausalLM" in config.auto_classes for config in LINEAGE)
    assert len(tables["Models that translate"]) == 4
    assert [sample["name"] for sample in views["training"]["samples"]] == ["NNLM", "RNN", "LSTM", "GRU", "GPT", "BERT"]
    assert {"gates", "gradients", "alignments", "heads", "word_vectors"} <= views.keys()
    assert list(views["gradients"]["recall"]) == ["RNN", "LSTM", "GRU"]


# of kinds that the default text can answer
ANALOGIES = [
    ("he", "his", "she", "her"),
    ("france", "paris", "england", "london"),
    ("france", "french", "germany", "german"),
    ("father", "mother", "son", "daughter"),
    ("is", "are", "was", "were"),
    ("large", "larger", "small", "smaller"),
    ("man", "woman", "king", "queen"),
]


@pytest.mark.slow
@pytest.mark.recipe
@pytest.mark.parametrize("seed", [0, 1, 42])
def test_the_default_text_tells_the_story_of_the_lineage(tmp_path, seed):
    """What the presets were chosen for; 10 minutes of two cores."""
    pytest.importorskip("gensim", reason="the default corpus, English Wikipedia, comes with gensim")
    flags = ["--output_dir", tmp_path / "run", "--seed", seed, "--recall_updates", 0]
    flags += ["--stations", "nnlm", "word2vec", "rnn", "lstm", "gru", "elmo", "gpt"]
    command = [sys.executable, "recipes/lineage.py", *map(str, flags)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    perplexity = {name: row["perplexity_per_token"] for name, row in results.items() if "perplexity_per_token" in row}
    assert perplexity["nnlm"] > perplexity["rnn"] > max(perplexity["lstm"], perplexity["gru"]), perplexity
    assert perplexity["gpt"] <= perplexity["nnlm"], perplexity
    # so little text shows neither the network ahead of the counts, nor anything else that it claims not to show
    [lead] = re.findall(r'(?s)<p class="lead">(.*?)</p>', (tmp_path / "run" / "report.html").read_text())
    assert "to show: NNLM ahead of the n-gram model (brown_mlp9.yaml). What stands" in lead
    folder = tmp_path / "run" / "word2vec"
    vectors = WordVectors.from_model(AutoModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder))
    answers = [[word for word, _ in vectors.analogy(*question[:3], 5)] for question in ANALOGIES]
    right = [question[3] in answer for question, answer in zip(ANALOGIES, answers, strict=True)]
    assert sum(right) >= 4, answers
    near = {word for word, _ in vectors.nearest("germany", 10)}
    assert near & {"france", "italy", "russia", "austria", "poland", "england", "german", "spain"}, near


@pytest.mark.slow
@pytest.mark.recipe
def test_a_failing_station_ends_the_run_with_an_error(tmp_path, tiny_corpus):
    corpus = write_corpus(tmp_path / "corpus", tiny_corpus)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "rnn").write_text("a file where the station's folder should be")
    result = run_lineage(tmp_path / "run", corpus, "--stations", "rnn", "nnlm")
    assert result.returncode != 0
    assert "failed: rnn" in result.stderr
    assert [*json.loads((tmp_path / "run" / "results.json").read_text())] == ["nnlm", "ngrams"]
    _, views = data_of((tmp_path / "run" / "report.html").read_text())
    assert "failed: see logs/rnn.log" in [row[3] for row in views["training"]["stations"]]
    assert "File exists" in (tmp_path / "run" / "logs" / "rnn.log").read_text()
