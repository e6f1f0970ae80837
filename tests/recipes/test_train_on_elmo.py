"""recipes/train_on_elmo.py: what only ELMo can see is learned with its layers, and not without them."""

import json
import random
import runpy
from pathlib import Path

import pytest
import torch
import transformers
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification, AutoTokenizer

from hf_lineage import ELMoConfig, ELMoForPreTraining
from hf_lineage.tokenization import elmo_tokenizer, train_word_level


ROOT = Path(__file__).resolve().parents[2]
# all out of the vocabulary, so that their own vector x is one and the same
NAMES, OTHERS = ["Ada", "Abel", "Anna"], ["runs", "rests", "reads"]


@pytest.fixture(scope="module")
def recipe():
    return runpy.run_path(str(ROOT / "recipes" / "train_on_elmo.py"))


@pytest.fixture(scope="module")
def elmo(tmp_path_factory):
    transformers.set_seed(0)
    tokenizer = elmo_tokenizer(["<S>", "</S>", "<UNK>", "the"])
    sizes = {
        "cnn_act": "tanh",
        "character_size": 8,
        "cnn_filters": [[2, 64]],
        "hidden_size": 16,
        "projection_size": 16,
    }
    folder = tmp_path_factory.mktemp("elmo")
    ELMoForPreTraining(ELMoConfig(vocab_size=len(tokenizer), **sizes)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def run(recipe, elmo, tmp_path, monkeypatch):
    """Calls the script in this process and returns what it found and where the model is."""

    def call(rows, features, **flags):
        folder = tmp_path / "data"
        folder.mkdir(exist_ok=True)
        for split, part in (("train", rows[:96]), ("validation", rows[96:112]), ("test", rows[112:])):
            (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, part)))
        output_dir = tmp_path / features
        flags = {"num_train_epochs": 12} | flags
        flags = {"model_name_or_path": elmo, "learning_rate": 1e-2} | flags
        flags |= {"dataset": folder, "output_dir": output_dir, "features": features}
        flags |= {"layers_dir": tmp_path / "layers"}
        flags |= {
            "per_device_train_batch_size": 8,
            "lr_scheduler_type": "constant",
            "save_strategy": "no",
            "disable_tqdm": True,
            "report_to": "none",
        }
        monkeypatch.setattr("sys.argv", ["train_on_elmo.py", *(f"--{k}={v}" for k, v in flags.items())])
        recipe["main"]()
        return json.loads((output_dir / "results.json").read_text()), output_dir

    return call


def answer(auto_class, folder, words):
    model, tokenizer = auto_class.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    encoded = tokenizer(words, is_split_into_words=True, return_tensors="pt")
    with torch.no_grad():
        return model, model(**encoded).logits


@pytest.mark.slow
def test_texts(run):
    draw = random.Random(0)
    rows = [{"sentence": f"the {draw.choice((NAMES, OTHERS)[i % 2])} the", "label": i % 2} for i in range(128)]
    settings = {
        "config_overrides": '{"word_vector_size": 4, "task_size": 8, "elmo_dropout": 0.0, "mix_layer_norm": true}'
    }
    results, folder = run(rows, "elmo", num_train=80, **settings)
    assert results["test"]["accuracy"] > 0.9
    # the saved model reads texts itself
    for words, label in ((["the", "Anna", "the"], 0), (["the", "runs", "the"], 1)):
        assert answer(AutoModelForSequenceClassification, folder, words)[1].argmax() == label
    without, folder = run(rows, "none", **settings)
    assert without["test"]["accuracy"] == 0.5
    # nor does what is saved look at its layers
    _, one = answer(AutoModelForSequenceClassification, folder, ["the", "Anna", "the"])
    _, other = answer(AutoModelForSequenceClassification, folder, ["the", "runs", "the"])
    assert torch.equal(one, other)
    assert without["learning_parameters"] == results["learning_parameters"] - 4


def test_words_with_a_crf(run):
    draw = random.Random(0)

    def sentence():
        words, tags = [], []
        for _ in range(4):
            is_name = draw.random() < 0.5
            words += [draw.choice(NAMES), draw.choice(NAMES)] if is_name else [draw.choice(OTHERS)]
            tags += ["B-PER", "I-PER"] if is_name else ["O"]
        return {"tokens": words, "ner": tags}

    rows = [sentence() for _ in range(128)]
    settings = {"label_field": "ner", "num_train_epochs": 6}
    settings["config_overrides"] = (
        '{"word_vector_size": 4, "task_size": 16, "elmo_dropout": 0.0, "mix_layer_norm": true, "use_crf": true}'
    )
    results, folder = run(rows, "elmo", **settings)
    without, _ = run(rows, "none", seed=1, **settings)
    # the layers of three splits, computed once
    assert len(list((folder.parent / "layers").glob("*.arrow"))) == 3
    assert results["test"]["f1"] > 0.9
    assert without["test"]["f1"] < 0.7
    words = ["reads", "Ada", "Anna", "runs"]
    model, logits = answer(AutoModelForTokenClassification, folder, words)
    mask = torch.tensor([[0, 1, 1, 1, 1, 0]])
    found = [model.config.id2label[number] for number in model.decode(logits, mask)[0, 1:-1].tolist()]
    assert found == ["O", "B-PER", "I-PER", "O"]


def test_every_word_is_scored_where_the_tokenizer_cuts_it(run, tmp_path, capsys):
    """Tags that depend on the word alone, some words of several tokens: scored one by one, by their first token."""
    tags = {
        "U.S.": "A",
        "e.g.": "B",
        "O'Neill": "B",
        "3.5": "A",
        "well-known": "B",
        "dog": "A",
        "cat": "B",
        "cow": "C",
    }
    marks = {"unk_token": "<UNK>", "bos_token": "<S>", "eos_token": "</S>", "pad_token": "<pad>"}
    words = train_word_level([" ".join(tags)], special_tokens=marks, split_punctuation=True, show_progress=False)
    tokenizer = elmo_tokenizer(words)
    assert len(tokenizer(["U.S."], is_split_into_words=True)["input_ids"]) == 6
    sizes = {"character_size": 4, "cnn_filters": [[1, 4]], "hidden_size": 8, "projection_size": 4}
    ELMoForPreTraining(ELMoConfig(vocab_size=len(tokenizer), **sizes)).save_pretrained(tmp_path / "cutting")
    tokenizer.save_pretrained(tmp_path / "cutting")
    draw = random.Random(0)
    # rows of different lengths; the short ones have only words that the tokenizer cuts
    rows = [[draw.choice(list(tags)[: 5 if n % 2 else 8]) for _ in range(4 if n % 2 else 9)] for n in range(128)]
    # a word of blanks
    rows[127] = ["dog", " ", "cow"]
    rows = [{"tokens": row, "ner": [tags.get(word, "C") for word in row]} for row in rows]
    overrides = '{"word_vector_size": 8, "task_size": 8, "elmo_dropout": 0.0}'
    settings = {"label_field": "ner", "config_overrides": overrides, "num_train_epochs": 10, "learning_rate": 3e-2}
    results, folder = run(rows, "none", **settings, num_train=500, model_name_or_path=tmp_path / "cutting")
    assert "num_train is 500, but there are only 96 training rows" in capsys.readouterr().out
    test = rows[112:]
    total = sum(len(row["tokens"]) for row in test)
    assert results["test"]["words"] == total
    assert results["test"]["words_not_scored"] == 0
    assert results["validation"]["accuracy"] == 1.0
    assert results["validation"]["words_not_scored"] == 0
    # scored again, word by word
    model, reader = (
        AutoModelForTokenClassification.from_pretrained(folder).eval(),
        AutoTokenizer.from_pretrained(folder),
    )
    right = 0
    for row in test:
        encoded = reader([word if word.strip() else "_" for word in row["tokens"]], is_split_into_words=True)
        ids = {name: torch.tensor([values]) for name, values in encoded.items()}
        answers, owners = model(**ids).logits[0].argmax(1), encoded.word_ids()
        right += sum(
            model.config.id2label[int(answers[owners.index(word)])] == tag for word, tag in enumerate(row["ner"])
        )
    assert results["test"]["accuracy"] == pytest.approx(right / total, abs=1e-4)


def test_words_and_tags_that_differ_in_number_are_named(run):
    rows = [{"tokens": ["the", "the"], "ner": ["A", "B"]}] * 127 + [{"tokens": ["the", "the"], "ner": ["A"]}]
    with pytest.raises(ValueError, match=r"test\.jsonl, line 16: .*tokens.* 2 .*ner.* 1 "):
        run(rows, "elmo", label_field="ner")


def test_missing_columns_are_named(run):
    rows = [{"words": "the", "label": 0}] * 128
    with pytest.raises(ValueError, match="tokens, sentence, text.*words"):
        run(rows, "elmo")


def test_a_test_split_with_secret_labels_is_left_out(run, capsys):
    rows = [{"sentence": "the", "label": number % 2 if number < 112 else -1} for number in range(128)]
    results, _ = run(rows, "none", num_train_epochs=1)
    assert "The split test is left out: training has none of its labels (-1)" in capsys.readouterr().out
    assert "accuracy" in results["validation"]
    assert "test" not in results
    rows[-1]["label"] = 1
    with pytest.raises(ValueError, match="label is -1.*'test'"):
        run(rows, "none", num_train_epochs=1, overwrite_output_dir=True)
