"""recipes/pretrain_translation.py as a user runs it: on the grammar, on files, killed, and in two processes."""

import json
import runpy
from pathlib import Path

import pytest
from safetensors.torch import load_file
from torch.testing import assert_close
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, pipeline

from hf_lineage.arguments import parse
from hf_lineage.data import grammar_corpus
from tests.recipes.here import call, succeed
from tests.recipes.test_pretrain_causal_lm import kill_at_random_steps_until_done, logged_losses, run_two


ROOT = Path(__file__).resolve().parents[2]
RECIPE = "recipes/pretrain_translation.py"
TRANSFORMER = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "dropout": 0.0,
}
STATIONS = {
    "transformer": TRANSFORMER,
    "seq2seq": {"embedding_size": 16, "hidden_size": 16},
    "rnnsearch": {"embedding_size": 16, "hidden_size": 16, "attention_size": 16, "readout_size": 16},
    "luong": {"embedding_size": 16, "hidden_size": 16, "num_hidden_layers": 1},
}
SETTINGS = {
    "tokenizer_kind": "word_level",
    "min_frequency": 1,
    "tokens_per_update": 256,
    "max_steps": 6,
    "learning_rate": 1e-2,
    "logging_steps": 1,
    "eval_strategy": "no",
    "save_steps": 2,
    "generation_max_length": 12,
    "generation_num_beams": 1,
    "per_device_eval_batch_size": 40,
    "disable_tqdm": True,
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A folder of three splits, of the grammar's sentences."""
    folder = tmp_path_factory.mktemp("corpus")
    for split, size in (("train", 120), ("validation", 10), ("test", 10)):
        rows = grammar_corpus(split, size)
        lines = [json.dumps({"translation": {"zh": row["source"], "en": row["target"]}}) for row in rows]
        (folder / f"{split}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


def arguments(output_dir, station="transformer", **changes) -> list[str]:
    settings = {
        "model_type": f"lineage_{station}",
        "config_overrides": json.dumps(STATIONS[station]),
        "output_dir": output_dir,
    }
    settings = SETTINGS | settings | changes
    return [RECIPE, *(part for name, value in settings.items() for part in (f"--{name}", str(value)))]


@pytest.mark.recipe
@pytest.mark.parametrize(
    "station",
    ["transformer", *(pytest.param(name, marks=pytest.mark.slow) for name in ("seq2seq", "rnnsearch", "luong"))],
)
def test_every_station_trains_by_settings_alone(corpus, tmp_path, station):
    succeed(*arguments(tmp_path, station, corpus=corpus, label_smoothing_factor=0.1, eval_strategy="epoch"))
    results = json.loads((tmp_path / "results.json").read_text())
    losses = [loss for _, loss in results["train_curve"]]
    assert len(losses) == 6
    assert losses[-1] < losses[0]
    assert 0 <= results["test"]["bleu"] <= 100
    assert results["model_type"] == f"lineage_{station}"
    assert sum(row["pairs"] for row in results["bleu_by_length"]) == 10
    assert (tmp_path / "bleu_by_length.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "learning_curves.png").read_bytes().startswith(b"\x89PNG")
    model, tokenizer = AutoModelForSeq2SeqLM.from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    assert model.config.vocab_size == len(tokenizer)
    assert model.config.decoder_start_token_id == tokenizer.bos_token_id
    (answer,) = pipeline("translation", model=str(tmp_path), device="cpu")("我 欠 他 100万")
    ids = model.generate(**tokenizer("我 欠 他 100万", return_tensors="pt"))
    assert answer["translation_text"] == tokenizer.decode(ids[0], skip_special_tokens=True)


@pytest.mark.slow
@pytest.mark.recipe
def test_the_grammar_has_gold_alignments(tmp_path):
    succeed(*arguments(tmp_path, "rnnsearch", max_steps=2, save_strategy="no", generation_max_length=4))
    alignment = json.loads((tmp_path / "results.json").read_text())["alignment"]
    assert alignment.keys() == {"aer", "precision", "recall"}
    assert 0 < alignment["aer"] < 1


@pytest.mark.slow
@pytest.mark.recipe
def test_a_killed_run_ends_with_the_same_average(corpus, tmp_path):
    settings = {"corpus": corpus, "max_steps": 16, "average_checkpoints": 2, "save_total_limit": 2, "packing": True}
    settings |= {"config_overrides": json.dumps(TRANSFORMER | {"dropout": 0.2})}
    succeed(*arguments(tmp_path / "whole", **settings))
    command = arguments(tmp_path / "killed", **settings)
    assert kill_at_random_steps_until_done(command, tmp_path / "killed", kills=2, seed=1) == 2
    whole, resumed = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "killed"))
    assert [name for name in whole if not whole[name].equal(resumed[name])] == []


SAMPLING = {"scheduled_sampling": "linear", "sampling_c": 0.15, "sampling_least": 0.2}


@pytest.mark.recipe
@pytest.mark.parametrize(
    ("station", "settings"),
    [
        # two pack their pairs, one pads them: the same update
        ("transformer", {"packing": True, "label_smoothing_factor": 0.1}),
        # whose coins are tossed by pair: the same on whichever process a pair is
        pytest.param("rnnsearch", SAMPLING, marks=pytest.mark.slow),
    ],
)
def test_two_processes_train_like_one(corpus, tmp_path, station, settings):
    # Adam makes as large a step of a gradient that is nothing but rounding, as those of the keys' biases are
    common = {"station": station, "corpus": corpus, "optim": "sgd", "learning_rate": 0.1, "save_steps": 6}
    succeed(*arguments(tmp_path / "one", **common, **settings | {"packing": False}))
    run_two(arguments(tmp_path / "two", **common, **settings, compare_with=tmp_path / "one"), tmp_path / "two")
    one, two = logged_losses(tmp_path / "one"), logged_losses(tmp_path / "two")
    assert len(one) == 6
    assert two == pytest.approx(one, abs=1e-4)
    assert_close(
        load_file(tmp_path / "one" / "model.safetensors"),
        load_file(tmp_path / "two" / "model.safetensors"),
        atol=1e-5,
        rtol=1e-4,
    )
    assert (tmp_path / "two" / "bleu_by_length.png").is_file()
    scores = [json.loads((tmp_path / name / "results.json").read_text())["test"] for name in ("one", "two")]
    assert scores[1]["bleu"] == pytest.approx(scores[0]["bleu"], abs=1e-3)
    assert scores[1]["loss"] == pytest.approx(scores[0]["loss"], abs=1e-3)


@pytest.mark.slow
@pytest.mark.recipe
def test_wordpiece_on_real_pairs(shared_data, tmp_path):
    command = arguments(
        tmp_path,
        corpus=shared_data / "mt_tatoeba_zh_en",
        validation_split="test",
        test_split="validation",
        tokenizer_kind="wordpiece",
        vocab_size=6_000,
        min_frequency=2,
        max_steps=2,
        save_strategy="no",
        generation_max_length=5,
    )
    succeed(*command)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    text = "He owes me a million."
    assert tokenizer.decode(tokenizer(text).input_ids, skip_special_tokens=True) == text
    assert tokenizer.convert_ids_to_tokens(tokenizer("我欠他").input_ids)[:3] == ["我", "欠", "他"]


def test_a_missing_language_is_named(corpus, tmp_path):
    command = arguments(tmp_path, corpus=corpus, source_language="de")
    result = call(*command)
    assert result.returncode != 0
    assert "train.jsonl, line 1: no text in the language 'de'; there is zh, en" in result.stderr


@pytest.mark.parametrize(
    ("preset", "paper"),
    [
        (
            # Sutskever et al. (2014), sections 3.2 and 3.4: beams are not normalised by their length
            "sutskever2014",
            {
                "optim": "sgd",
                "learning_rate": 0.7,
                "num_train_epochs": 7.5,
                "flat_epochs": 5,
                "epoch_decay": 0.5,
                "decay_epochs": 0.5,
                "max_grad_norm": 5.0,
                "sum_over_time": True,
                "generation_num_beams": 12,
                "gnmt_length_penalty": 0.0,
            },
        ),
        (
            # Luong et al. (2015), section 4.1, with dropout
            "luong2015",
            {
                "optim": "sgd",
                "learning_rate": 1.0,
                "num_train_epochs": 12,
                "flat_epochs": 8,
                "epoch_decay": 0.5,
                "decay_epochs": 1.0,
                "max_grad_norm": 5.0,
                "sum_over_time": True,
            },
        ),
    ],
)
def test_presets_train_as_the_papers(tmp_path, preset, paper):
    argv = [str(ROOT / "recipes" / "configs" / f"{preset}.yaml"), f"--output_dir={tmp_path}"]
    *_, found = parse(*runpy.run_path(str(ROOT / RECIPE))["ARGUMENTS"], argv=argv)
    assert {name: getattr(found, name) for name in paper} == paper
