"""recipes/probe_layers.py: where only one layer can tell classes or senses apart, the probe finds that one."""

import json
import random
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from hf_lineage import BERTConfig, BERTModel, ELMoConfig, ELMoModel
from hf_lineage.tokenization import elmo_tokenizer
from tests.models.test_modeling_bert import TestBERT as BERT


ROOT = Path(__file__).resolve().parents[2]
WORDS = ["river", "money", "bank", "walk"]


@pytest.fixture(scope="module")
def recipe():
    """The script's functions."""
    return runpy.run_path(str(ROOT / "recipes" / "probe_layers.py"))


@pytest.fixture
def run(recipe, monkeypatch):
    """Calls the script with flags, in this process: what it imports takes longer than what it does."""

    def call(*flags):
        monkeypatch.setattr("sys.argv", ["probe_layers.py", *map(str, flags), "--disable_tqdm", "true"])
        recipe["main"]()

    return call


@pytest.fixture(scope="module")
def elmo(tmp_path_factory):
    """Its layer 0 sees no context, its layer 1 the neighbours, and its layer 2 is 0 everywhere."""
    transformers.set_seed(0)
    tokenizer = elmo_tokenizer(["<S>", "</S>", "<UNK>", *WORDS])
    config = ELMoConfig(
        vocab_size=len(tokenizer), token_layer="words", hidden_size=32, projection_size=16, residual=False
    )
    model = ELMoModel(config)
    with torch.no_grad():
        for stack in (model.forward_layers, model.backward_layers):
            for parameter in stack[1].parameters():
                parameter.zero_()
    folder = tmp_path_factory.mktemp("elmo")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save(folder, **splits):
    folder.mkdir()
    for split, rows in splits.items():
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def scores(run, folder, output_dir, *models):
    run("--models", *models, "--dataset", folder, "--output_dir", output_dir, "--seeds", 0, 1)
    assert (output_dir / "layers.png").stat().st_size > 1_000
    return json.loads((output_dir / "results.json").read_text())


def test_tags_that_the_word_before_decides(run, elmo, tmp_path, tiny_tokenizer):
    draw = random.Random(0)

    def sentence():
        words = [draw.choice(WORDS) for _ in range(8)]
        tags = [str(WORDS.index(word) % 2) for word in ["river", *words[:-1]]]
        return {"tokens": words, "upos": tags}

    data = save(tmp_path / "tags", train=[sentence() for _ in range(100)], test=[sentence() for _ in range(50)])
    bert = tmp_path / "bert"
    BERTModel(BERTConfig(**BERT.tiny | {"vocab_size": len(tiny_tokenizer)})).save_pretrained(bert)
    tiny_tokenizer.save_pretrained(bert)
    results = scores(run, data, tmp_path / "out", elmo, bert)
    accuracy = {layer: score["mean"] for layer, score in results[str(elmo)]["accuracy"].items()}
    assert accuracy["1"] > 0.9
    assert all(accuracy[layer] < 0.65 for layer in ("0", "2", "most frequent tag of the word"))
    assert len(results[str(elmo)]["accuracy"]["1"]["seeds"]) == 2
    assert results[str(elmo)]["test_words"] == 400
    assert results[str(elmo)]["test_words_without_vector"] == 0
    # token vectors and two layers
    assert {"0", "1", "2"} <= set(results[str(bert)]["accuracy"])


def test_senses_that_the_word_before_decides(run, elmo, tmp_path):
    def pair(number):
        one, other = WORDS[number % 2], WORDS[number // 2 % 2]
        sentences = {"sentence1": f"{one} bank walk", "sentence2": f"walk {other} bank walk"}
        return {**sentences, "index1": 1, "index2": 2, "label": int(one == other)}

    data = save(tmp_path / "senses", train=[pair(i) for i in range(40)], test=[pair(i) for i in range(20)])
    scored = scores(run, data, tmp_path / "out", elmo)[str(elmo)]
    assert {layer: score["mean"] for layer, score in scored["accuracy"].items()} == {"0": 0.5, "1": 1.0, "2": 0.5}
    assert {layer: score["mean"] for layer, score in scored["roc_auc"].items()} == {"0": 0.5, "1": 1.0, "2": 0.5}


def test_words_are_the_means_of_their_pieces(recipe, tiny_tokenizer):
    model = BERTModel(BERTConfig(**BERT.tiny | {"vocab_size": len(tiny_tokenizer)})).eval()
    # of the second word nothing is left; the third has several pieces
    sentences = [["dog", "\u200b", "watchgarden"], ["dog"]]
    arguments = recipe["ProbeArguments"]([], "", "", disable_tqdm=True)
    layers = recipe["vectors_of_words"](model, tiny_tokenizer, sentences, arguments)
    encoded = tiny_tokenizer(sentences[0], is_split_into_words=True, return_tensors="pt")
    assert encoded.word_ids().count(1) == 0
    assert encoded.word_ids().count(2) > 1
    with torch.no_grad():
        states = model(**encoded, output_hidden_states=True).hidden_states
    for layer, expected in zip(layers, states, strict=True):
        assert layer.shape == (4, model.config.hidden_size)
        np.testing.assert_allclose(layer[0], expected[0, 1], atol=1e-5)
        assert np.isnan(layer[1]).all()
        np.testing.assert_allclose(layer[2], expected[0, 2:-1].mean(0), atol=1e-5)
        assert not np.isnan(layer[3]).any()


def test_what_is_missing_is_named(run, elmo, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run("--models", elmo, "--output_dir", tmp_path / "out")
    assert "--dataset" in capsys.readouterr().err
    data = save(tmp_path / "data", train=[{"text": "a"}], test=[{"text": "a"}])
    with pytest.raises(ValueError, match="tokens.*upos.*tag_field.*sentence1"):
        run("--models", elmo, "--dataset", data, "--output_dir", tmp_path / "out")
    # nothing but the lock of the run
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["_run.lock"]


@pytest.mark.parametrize(
    ("rows", "place"),
    [
        (
            [{"tokens": ["a", "b"], "upos": ["X", "Y"]}, {"tokens": ["a", "b"], "upos": ["X"]}],
            "line 2: 2 tokens, but 1",
        ),
        ([{"tokens": ["a", None], "upos": ["X", "Y"]}], "line 1, word 2: .*missing"),
        ([{"tokens": ["a"], "upos": [None]}], "line 1: tokens.*upos.*null"),
        (
            [{"sentence1": "a b", "sentence2": "a", "index1": 1, "index2": 1, "label": 1}],
            "line 1: index2 is 1, but sentence2 has 1 words",
        ),
        (
            [{"sentence1": "a b", "sentence2": "a", "index1": 1, "index2": 0, "label": None}],
            "line 1: the column 'label' holds None",
        ),
    ],
)
def test_rows_that_cannot_be_scored_are_named(run, elmo, tmp_path, rows, place):
    data = save(tmp_path / "data", train=rows, test=rows)
    with pytest.raises(ValueError, match=rf"train\.jsonl, {place}"):
        run("--models", elmo, "--dataset", data, "--output_dir", tmp_path / "out")


def test_a_tag_that_only_the_test_text_has_is_an_error(run, elmo, tmp_path):
    rows = [{"tokens": ["river", "bank"], "upos": ["X", "Y"]}]
    data = save(tmp_path / "data", train=rows, test=[*rows, {"tokens": ["money"], "upos": ["Z"]}])
    with pytest.raises(ValueError, match=r"test\.jsonl, line 2: upos of 'money' is 'Z', .*there are X, Y: correct"):
        run("--models", elmo, "--dataset", data, "--output_dir", tmp_path / "out")


def test_fewer_training_rows_than_asked_are_said(run, elmo, tmp_path, capsys):
    rows = [{"tokens": WORDS, "upos": ["X", "Y", "X", "Y"]}] * 3
    scores(run, save(tmp_path / "data", train=rows, test=rows), tmp_path / "out", elmo)
    assert "num_train is 2000, but there are only 3 training rows: all are taken" in capsys.readouterr().out
