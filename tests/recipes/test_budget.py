"""recipes/budget.py: the table and its opponents; one command from text to page."""

import json
import re
import runpy
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModel, AutoModelForCausalLM, AutoModelForPreTraining

from hf_lineage.data import encode_corpus, load_splits, read_minimal_pairs
from hf_lineage.metrics.ngrams import KneserNey
from hf_lineage.tokenization import train_wordpiece
from tests.recipes.here import call


AUTO = {"word2vec": AutoModel, "elmo": AutoModelForPreTraining, "bert": AutoModelForPreTraining}
ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "recipes" / "configs"
PAIRS = [
    {"sentence_good": "The dog was here.", "sentence_bad": "The dog were here.", "UID": "number"},
    {"sentence_good": "They were here.", "sentence_bad": "They was here.", "UID": "number"},
    {"sentence_good": "It is one of the largest.", "sentence_bad": "It are one of the largest.", "UID": "verbs"},
]


@pytest.fixture(scope="module")
def recipe():
    return runpy.run_path(str(ROOT / "recipes" / "budget.py"))


@pytest.fixture
def pairs(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(pair) + "\n" for pair in PAIRS))
    return path


@pytest.fixture(scope="module")
def corpus(tmp_path_factory, tiny_corpus):
    folder = tmp_path_factory.mktemp("text")
    for number, split in enumerate(("train", "validation", "test")):
        sentences = tiny_corpus[number::3]
        documents = ["\n".join(sentences[start : start + 6]) for start in range(0, len(sentences), 6)]
        (folder / f"{split}.txt").write_text("\n\n".join(documents), encoding="utf-8")
    return folder


def model(station, accuracy, score, floor, words=None, seed=0):
    point = {"labels": 100, "score": "accuracy", "values": [score - 0.01, score + 0.01]}
    point["floors"] = {"random weights": floor, "TF-IDF and logistic regression": 0.7}
    row = {"station": station, "parameters": 1_000, "train_seconds": 60.0, "pairs": accuracy}
    return row | {"tasks": {"data/sst2": [point]}, "words_read": words or 1e6, "bits_per_character": 2.0}


def test_the_table_has_seeds_floors_and_opponents(recipe):
    rows = {"gpt-seed0": model("gpt", 0.6, 0.8, 0.75), "gpt-seed1": model("gpt", 0.62, 0.82, 0.76)}
    header, lines = recipe["table"](rows, {"unigram": {"bits_per_character": 3.0, "pairs": 0.458}})
    assert all(len(line) == len(header) for line in lines)
    by_name = {line[0]: dict(zip(header, line, strict=True)) for line in lines}
    assert by_name["unigram"]["minimal pairs"] == "0.458"
    assert by_name["gpt"]["minimal pairs"] == "0.610 ± 0.014"
    # two seeds of pre-training with two of fine-tuning
    assert by_name["gpt"]["sst2, 100 labels: accuracy"].startswith("0.810 ± ")
    assert by_name["gpt"]["random weights"] == "0.750"
    assert by_name["gpt"]["TF-IDF"] == "0.700"


def test_a_task_that_a_station_has_no_head_for_stays_empty(recipe):
    assert not recipe["serves"]("word2vec", "question_answering")
    assert not recipe["serves"]("nnlm", "classification")
    assert all(recipe["serves"]("bert", kind) for kind in recipe["TASKS"])
    rows = {"word2vec-seed0": model("word2vec", 0.6, 0.8, 0.75), "gpt-seed0": model("gpt", 0.6, 0.8, 0.75)}
    rows["gpt-seed0"]["tasks"]["data/squad"] = rows["gpt-seed0"]["tasks"]["data/sst2"]
    header, lines = recipe["table"](rows, {})
    assert all(len(line) == len(header) for line in lines)
    place = header.index("squad, 100 labels: accuracy")
    assert [line[place].partition(" ")[0] for line in lines] == ["", "0.800"]


def test_curves_have_a_line_for_each_station(recipe):
    rows = {
        f"{station}-{words}w-seed0": model(station, 0.5, 0.8, 0.7, words)
        for station in ("gpt", "lstm")
        for words in (1e5, 1e6)
    }
    figure = recipe["curves"](rows, {"unigram": {"bits_per_character": 3.0, "pairs": 0.458}})
    for axis in figure.axes:
        drawn = {line.get_label(): line.get_xdata() for line in axis.get_lines()}
        assert [*drawn["gpt"]] == [*drawn["lstm"]] == [1e5, 1e6]


def test_word2vec_alone_has_no_line_and_no_empty_legend(recipe, recwarn):
    row = model("word2vec", 0.5, 0.8, 0.7)
    del row["pairs"], row["bits_per_character"]
    recipe["curves"]({"word2vec-seed0": row}, {"unigram": {"bits_per_character": 3.0}})
    assert not [each.message for each in recwarn]


WITHOUT_WORDS = ["--config_overrides", '{"lm_loss_weight": 0}']


@pytest.mark.parametrize(
    ("station", "transfer", "given"),
    [
        ("lstm", "full", []),
        ("gpt", "full", []),
        ("lstm", "features", ["--transfer", "features"]),
        ("gpt", "features", ["--transfer", "features", *WITHOUT_WORDS]),
    ],
)
def test_tasks_train_what_is_asked_for(recipe, corpus, tmp_path, station, transfer, given):
    args = recipe["BudgetArguments"](corpus=str(corpus), task_transfer=transfer)
    bench, asked = recipe["Bench"](args, tmp_path), []
    bench.runs.run = lambda *options, **_: asked.extend(options) or {"main_score": "accuracy", "points": []}
    bench.finetune(recipe["Budget"](station, None, None, 0), "data/sst2", "classification")
    place = asked.index("--transfer") if "--transfer" in asked else len(asked)
    assert asked[place : place + len(given)] == given
    assert ("--config_overrides" in asked) == (WITHOUT_WORDS[0] in given)


def test_whole_documents_up_to_the_number_of_words(recipe):
    assert recipe["first_documents"](["a b c", "d e", "f"], 4) == ["a b c", "d e"]


def test_pairs_of_each_phenomenon_are_limited(pairs):
    assert [row["UID"] for row in read_minimal_pairs(pairs, limit=1)] == ["number", "verbs"]


def test_published_scores_stand_beside_blimps_public_pairs_alone(recipe, corpus, pairs, tmp_path):
    public = tmp_path / "public.jsonl"
    names = ["wh_island", *(f"paradigm_{number}" for number in range(43))]
    public.write_text("".join(json.dumps({**PAIRS[0], "UID": name}) + "\n" for name in names))
    shown = {}
    for path in (pairs, public):
        args = recipe["BudgetArguments"](corpus=str(corpus), pairs=str(path))
        (folder := tmp_path / path.stem).mkdir()
        shown[path] = recipe["Bench"](args, folder).published()
    assert not shown[pairs]
    # the raw results of BLiMP's authors
    assert shown[public]["5-gram, 3.1 billion words (published)"] == {"pairs": 0.584}
    header, lines = recipe["table"]({"gpt-seed0": model("gpt", 0.6, 0.8, 0.75)}, shown[public])
    assert [line[header.index("minimal pairs")] for line in lines[:2]] == ["0.584", "0.682"]


def test_an_opponent_scores_each_sentence_by_itself(recipe, pairs, corpus, tmp_path):
    args = recipe["BudgetArguments"](corpus=str(corpus), output_dir=str(tmp_path), pairs=str(pairs))
    bench = recipe["Bench"](args, tmp_path)
    tokenizer = train_wordpiece(bench.corpora["train"]["text"], 200, show_progress=False)
    train = encode_corpus(bench.corpora["train"], tokenizer)
    # of order 2: a sentence's first word is scored after the end mark alone
    ngrams = KneserNey(train.tokens, len(tokenizer), 2)
    totals, rows = bench.counted(ngrams, tokenizer, train)
    assert rows == PAIRS
    for text, total in totals.items():
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        alone = ngrams.log_probabilities(np.array([train.eos_token_id, *ids])).sum()
        assert total == pytest.approx(alone)


def test_every_preset_keeps_its_tier(recipe):
    found = {path.stem.removeprefix("budget_") for path in CONFIGS.glob("budget_*.yaml")}
    assert found == {f"{tier}_{station}" for tier in ("cpu", "gpu") for station in recipe["RECIPE_OF"]}
    for name in found:
        tier, station = name.split("_")
        settings = recipe["settings_of"](tier, station)
        assert settings["num_train_epochs"] >= 1
        config = CONFIG_MAPPING[f"lineage_{station}"](
            vocab_size=settings["vocab_size"], **settings["config_overrides"]
        )
        with torch.device("meta"):
            number = AUTO.get(station, AutoModelForCausalLM).from_config(config).num_parameters()
        # training adds the matrix of the contexts
        number *= 2 if station == "word2vec" else 1
        least, most = {"cpu": (0, 5.05e6), "gpu": (23.95e6, 30e6)}[tier]
        assert least < number < most, name
        first = recipe["preset"](tier, station).read_text().partition("\n")[0]
        assert float(re.search(r"of ([\d.]+) M parameters", first)[1]) == pytest.approx(number / 1e6, abs=0.5), name


@pytest.mark.parametrize(
    ("words", "epochs", "share"),
    [(None, None, 1), (10_000_000, None, 1), (5_000_000, None, 1 / 2), (1_000_000, 10, 1 / 2), (2_500_000, 2, 1 / 4)],
)
def test_less_text_makes_as_many_updates(recipe, corpus, tmp_path, words, epochs, share):
    settings = recipe["settings_of"]("cpu", "gpt")
    assert settings["num_train_epochs"] == 2
    bench = recipe["Bench"](recipe["BudgetArguments"](corpus=str(corpus)), tmp_path)
    # a small corpus is little text whatever was asked for
    assert bench.rows(recipe["Budget"]("gpt", words, epochs, 0)) == 2
    bench.num_words = 10_000_000
    rows = bench.rows(recipe["Budget"]("gpt", words, epochs, 0))
    assert rows == settings["per_device_train_batch_size"] * share
    # however little text: a batch of one row trains too slowly, and some stations want more
    for station, least in {"gpt": 2, "lstm": 2, "bert": 8, "elmo": 64}.items():
        assert bench.rows(recipe["Budget"](station, 1_000, 1, 0)) == least


def test_a_first_batch_shrinks_with_the_whole_one(recipe, corpus, tmp_path):
    bench = recipe["Bench"](recipe["BudgetArguments"](corpus=str(corpus), tier="gpu"), tmp_path)
    settings, budget = recipe["settings_of"]("gpu", "gpt"), recipe["Budget"]("gpt", None, 1, 0)
    bench.num_words = 10_000_000
    _, first = bench.growth(budget)
    assert 1 <= first < bench.rows(budget) < settings["per_device_train_batch_size"]
    assert first / bench.rows(budget) == pytest.approx(
        settings["first_batch_size"] / settings["per_device_train_batch_size"], rel=0.2
    )
    assert bench.growth(recipe["Budget"]("lstm", None, 1, 0)) == []


def test_tasks_of_one_name_have_folders_of_their_own(recipe, corpus, tmp_path):
    tasks = {"classification": ["en/sst2", "data/layers"], "tagging": ["zh/sst2"]}
    bench = recipe["Bench"](recipe["BudgetArguments"](corpus=str(corpus), **tasks), tmp_path)
    names = [bench.name_of(task) for task in ("en/sst2", "zh/sst2", "data/layers")]
    assert names == ["en-sst2", "zh-sst2", "layers"]


@pytest.mark.reliability("A11")
def test_another_text_of_the_same_name_is_refused(recipe, corpus, pairs, tmp_path):
    copy = shutil.copytree(corpus, tmp_path / "corpus")
    (tmp_path / "run").mkdir()

    def bench(**options):
        args = recipe["BudgetArguments"](corpus=str(copy), pairs=str(pairs), **options)
        return recipe["Bench"](args, tmp_path / "run")

    text = (tmp_path / "run" / "text-300" / "train.txt", tmp_path / "run" / "tokenizer-300" / "tokenizer.json")
    bench().text(300)
    bench().tokenizer(300)
    before = [path.read_bytes() for path in text]
    pairs.write_text(json.dumps(PAIRS[0]))
    with pytest.raises(ValueError, match=f"results of another {pairs}"):
        bench()
    pairs.write_text("".join(json.dumps(pair) + "\n" for pair in PAIRS))
    documents = (copy / "train.txt").read_text().split("\n\n")
    (copy / "train.txt").write_text("\n\n".join(documents[::-1]))
    with pytest.raises(ValueError, match="results of another corpus.*--overwrite_output_dir"):
        bench()
    assert [path.read_bytes() for path in text] == before
    # what was made of the text before goes
    anew = bench(overwrite_output_dir=True)
    assert Path(anew.text(300), "train.txt").read_bytes() != before[0]
    assert (anew.tokenizer(300) / "tokenizer.json").is_file()
    bench()


def test_what_cannot_be_is_refused(corpus, tmp_path):
    result = call("recipes/budget.py", "--corpus", corpus, "--stations", "gtp", "--output_dir", tmp_path / "run")
    assert result.returncode == 2
    assert "stations has unknown names ['gtp']" in result.stderr


@pytest.mark.slow
@pytest.mark.recipe
def test_one_command_from_text_to_page(corpus, pairs, tmp_path):
    flags = ["--corpus", corpus, "--output_dir", tmp_path / "run", "--stations", "nnlm", "word2vec", "--pairs", pairs]
    flags += ["--words", 300, "600", "--epochs", 1]
    texts = [
        {"text": f"{word} day number {number}", "label": word} for number in range(20) for word in ("good", "bad")
    ]
    choices = [
        {"context": "it rained", "choices": ["we got wet", f"we flew to {number}"], "label": 0} for number in range(20)
    ]
    for name, rows in {"texts": texts, "choices": choices}.items():
        (tmp_path / name).mkdir()
        for split in ("train", "validation"):
            (tmp_path / name / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags += ["--classification", tmp_path / "texts", "--multiple_choice", tmp_path / "choices"]
    flags += ["--task_epochs", 1, "--task_learning_rates", "1e-3", "--task_seeds", 0]
    result = call("recipes/budget.py", *flags)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert [*results["models"]] == [
        f"{station}-{words}w-1e-seed0" for words in (300, 600) for station in ("nnlm", "word2vec")
    ]
    assert set(results["opponents"]) == {"unigram", "Kneser-Ney, order 5"}
    for row in results["models"].values():
        assert ("pairs" in row) == (row["station"] == "nnlm")
        # a Bengio model has no heads
        tasks = [Path(task).name for task in row["tasks"]]
        assert tasks == ([] if row["station"] == "nnlm" else ["texts", "choices"])
    texts = load_splits(tmp_path / "run" / "text-300", sample_by="paragraph")
    assert sum(len(text.split()) for text in texts["train"]["text"]) >= 300
    assert "Kneser-Ney" in (tmp_path / "run" / "budget.md").read_text()
    before = json.loads((tmp_path / "run" / "runs.json").read_text())
    assert call("recipes/budget.py", *flags).returncode == 0
    assert json.loads((tmp_path / "run" / "runs.json").read_text()) == before
