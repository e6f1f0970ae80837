"""recipes/finetune_tagging.py: any station tags words; every word is scored, beside floors."""

import contextlib
import io
import json
import random
import runpy
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from seqeval.metrics import f1_score
from transformers import AutoModelForTokenClassification, AutoTokenizer, BertConfig, BertModel, pipeline

import hf_lineage
from hf_lineage.tokenization import train_word_level
from tests.models.stations import STATIONS, TABLES, tokenizers_of_kinds
from tests.models.test_modeling_bert import TestBERT as BERT
from tests.recipes.here import call


ROOT = Path(__file__).resolve().parents[2]
TAGGERS = [name for name in STATIONS if "AutoModelForTokenClassification" in TABLES[name].heads]


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Calls the script in this process; gives results.json and the lines of predictions.jsonl."""

    def call(output_dir=None, **settings):
        output_dir = output_dir or tmp_path / "out"
        settings = {"learning_rate": 1e-2, "output_dir": output_dir, "save_strategy": "no"} | settings
        settings |= {"disable_tqdm": True, "report_to": "none", "per_device_train_batch_size": 8}
        flags = [f"--{name}={value}" for name, value in settings.items()]
        monkeypatch.setattr("sys.argv", ["finetune_tagging.py", *flags])
        runpy.run_path(str(ROOT / "recipes" / "finetune_tagging.py"))["main"]()
        lines = (output_dir / "predictions.jsonl").read_text().splitlines()
        return json.loads((output_dir / "results.json").read_text()), list(map(json.loads, lines))

    return call


def saved(folder, station, tokenizer):
    sizes = BERT.tiny if station == "BERT" else {"hidden_size": 32, "num_hidden_layers": 1}
    config = getattr(hf_lineage, f"{station}Config")(**{**sizes, "vocab_size": len(tokenizer)})
    getattr(hf_lineage, f"{station}Model")(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def sentences(number):
    """A name is a person after Mr, a place after in, and nothing else without either: floors must fail."""
    draw, rows = random.Random(0), []
    for _ in range(number):
        words, tags = [], []
        for _ in range(3):
            mark, tag = draw.choice([("mr", "PER"), ("in", "LOC"), ("the", None)])
            words += [mark, draw.choice(["ada", "emil", "vera"])]
            tags += ["O", f"B-{tag}" if tag else "O"]
            if tag and draw.random() < 0.5:
                words.append("grey")
                tags.append(f"I-{tag}")
        rows.append((words, tags))
    return rows


def write_conll(folder, rows):
    folder.mkdir(exist_ok=True)
    for split, part in (("train", rows[:64]), ("dev", rows[64:80]), ("test", rows[80:])):
        text = "".join("".join(f"{w} x {t}\n" for w, t in zip(*row, strict=True)) + "\n" for row in part)
        (folder / f"{split}.conll").write_text("-DOCSTART- x O\n\n" + text)
    return folder


@pytest.fixture
def words_tokenizer():
    marks = {"unk_token": "<unk>", "pad_token": "<pad>"}
    texts = [" ".join(words) for words, _ in sentences(20)]
    return train_word_level(texts, special_tokens=marks, lowercase=False, show_progress=False)


def test_entities_of_columns_beat_their_floors(run, tmp_path, words_tokenizer, capsys):
    folder = write_conll(tmp_path / "ner", sentences(96))
    model = saved(tmp_path / "gru", "GRU", words_tokenizer)
    results, lines = run(
        model_name_or_path=model, dataset=folder, num_train_epochs=16, learning_rate=4e-2, use_crf=True
    )
    assert results["test"]["f1"] > 0.9
    assert results["test"]["floors"]["majority"]["f1"] == 0
    assert results["test"]["floors"]["majority of the word"]["f1"] < 0.5
    assert results["test"]["words"] == sum(len(words) for words, _ in sentences(96)[80:])
    assert results["parameters"]["new"] == 5 * 32 + 5 + 5 * 5 + 5 + 5
    assert "majority of the word" in capsys.readouterr().out
    # the scores are seqeval's of the answers that are left
    test = [line for line in lines if line["split"] == "test"]
    assert [line["gold"] for line in test] == [tags for _, tags in sentences(96)[80:]]
    f1 = f1_score([line["gold"] for line in test], [line["answer"] for line in test])
    assert results["test"]["f1"] == pytest.approx(f1, abs=1e-4)
    # and the answers those of the saved model
    tagger, tokenizer = (c.from_pretrained(tmp_path / "out") for c in (AutoModelForTokenClassification, AutoTokenizer))
    ids = torch.tensor([tokenizer.convert_tokens_to_ids(test[0]["tokens"])])
    found = tagger.decode(tagger(ids).logits, torch.ones_like(ids))[0].tolist()
    assert [tagger.config.id2label[number] for number in found] == test[0]["answer"]
    # in the pipeline too, whose scores are the marginal probabilities
    pipe = pipeline("token-classification", model=str(tmp_path / "out"), ignore_labels=[])
    for line, answers in zip(test, pipe([line["tokens"] for line in test], is_split_into_words=True), strict=True):
        assert [one["entity"] for one in answers] == line["answer"]
        assert [one["score"] for one in answers] == pytest.approx(line["probabilities"], abs=1e-4)


@pytest.mark.parametrize("station", TAGGERS)
def test_pipeline_decode_and_predictions_agree(run, tmp_path, tiny_tokenizer, tiny_corpus, station):
    """On every station, with a chain: one text of each length, with words of several tokens."""
    marks = [text.split() for text in tiny_corpus[:40]]
    rows = [(words, [("B-A", "O", "I-A")[len(word) % 3] for word in words]) for words in marks]
    folder = tmp_path / "tags"
    folder.mkdir()
    for split, part in (("train", rows[:24]), ("validation", rows[24:32]), ("test", rows[32:])):
        lines = [json.dumps({"tokens": words, "tags": tags}) for words, tags in part]
        (folder / f"{split}.jsonl").write_text("\n".join(lines))
    table = TABLES[station]
    tokenizers = tokenizers_of_kinds(tiny_tokenizer, tiny_corpus)
    tokenizer = tokenizers["characters" if table.token_input == "char_ids" else "plain"]
    sizes = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    table.changed_model("AutoModel", **sizes).save_pretrained(tmp_path / "body")
    tokenizer.save_pretrained(tmp_path / "body")
    settings = {"num_train_epochs": 2, "learning_rate": 0.1, "use_crf": True}
    _, lines = run(model_name_or_path=tmp_path / "body", dataset=folder, **settings)
    model = AutoModelForTokenClassification.from_pretrained(tmp_path / "out")
    pipe = pipeline("token-classification", model=str(tmp_path / "out"), ignore_labels=[])
    differs = False
    for line in lines:
        encoded = tokenizer([line["tokens"]], is_split_into_words=True, return_tensors="pt")
        owners = encoded.word_ids(0)
        places = [owners.index(number) for number in range(len(line["tokens"]))]
        mask = torch.zeros(1, len(owners)).index_fill(1, torch.tensor(places), 1)
        logits = model(**encoded).logits
        decoded = model.decode(logits, mask)[0, places].tolist()
        assert [model.config.id2label[number] for number in decoded] == line["answer"]
        [answers] = pipe([line["tokens"]], is_split_into_words=True)
        of_first = {one["index"]: one for one in answers}
        assert [of_first[place]["entity"] for place in places] == line["answer"]
        assert [of_first[place]["score"] for place in places] == pytest.approx(line["probabilities"], abs=1e-4)
        single = logits[0, places].softmax(1).max(1).values.tolist()
        differs = differs or line["probabilities"] != pytest.approx(single, abs=1e-2)
    # the softmax of the emissions would have said something else
    assert differs


def test_a_model_of_transformers_is_tuned_and_has_no_chain(run, tmp_path, words_tokenizer, monkeypatch):
    folder, model = write_conll(tmp_path / "ner", sentences(96)), tmp_path / "theirs"
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertModel(BertConfig(vocab_size=len(words_tokenizer), **sizes)).save_pretrained(model)
    words_tokenizer.save_pretrained(model)
    results, _ = run(model_name_or_path=model, dataset=folder, max_steps=1)
    assert results["model_type"] == "bert"
    assert results["parameters"]["loaded"] > results["parameters"]["new"]
    # its card has what a station's has
    card = ModelCard.load(tmp_path / "out" / "README.md")
    assert {result.metric_type for result in card.data.eval_results} >= {"f1", "accuracy"}
    for part in ("finetune_tagging.py", "ner", "## Scores", "## Limits"):
        assert part in card.text
    # a repository has code of its own only for a station
    monkeypatch.chdir(tmp_path)
    [code] = [block.partition("```")[0] for block in card.text.split("```python\n")[1:]]
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(code)
    assert printed.getvalue().startswith("[[")
    with pytest.raises(ValueError, match="use_crf is True, but a bert"):
        run(model_name_or_path=model, dataset=folder, max_steps=1, use_crf=True, output_dir=tmp_path / "chain")


def test_long_texts_become_several_rows_and_no_word_is_lost(run, tmp_path, tiny_tokenizer, tiny_corpus):
    """Words of several pieces, rows of six tokens with marks: a word may be cut between two rows."""
    texts = [text.split() for text in tiny_corpus[:24]]
    rows = [{"tokens": words, "tags": ["A" if word[0].isupper() else "B" for word in words]} for words in texts]
    # the tokenizer makes no token of this
    rows[20]["tokens"][0] = "\u200d"
    for split, part in (("train", rows[:16]), ("validation", rows[16:])):
        (tmp_path / f"{split}.jsonl").write_text("\n".join(map(json.dumps, part)))
    model = saved(tmp_path / "bert", "BERT", tiny_tokenizer)
    settings = {"dataset": tmp_path, "max_length": 6, "label_all_tokens": True, "max_train_samples": 8}
    results, lines = run(model_name_or_path=model, max_steps=2, transfer="frozen", **settings)
    pieces = [len(tiny_tokenizer(words, is_split_into_words=True)["input_ids"]) - 2 for words in texts[16:]]
    assert results["validation"]["texts_in_several_rows"] == sum(-(-count // 4) - 1 for count in pieces)
    # only the word without a token
    assert results["validation"]["words_without_answer"] == 1
    assert [len(line["answer"]) for line in lines] == [len(words) for words in texts[16:]]
    right = sum(g == a for line in lines for g, a in zip(line["gold"], line["answer"], strict=True))
    assert results["validation"]["accuracy"] == pytest.approx(right / sum(map(len, texts[16:])), abs=1e-4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"use_crf": True, "label_all_tokens": True}, "use_crf and label_all_tokens"),
        ({"max_train_samples": 0}, "max_train_samples is 0"),
    ],
)
def test_bad_settings_are_named(run, capsys, settings, message):
    with pytest.raises(SystemExit):
        run(model_name_or_path="x", dataset="y", **settings)
    assert message in capsys.readouterr().err


def test_a_column_that_is_not_there_is_named(run, tmp_path, words_tokenizer):
    folder, model = write_conll(tmp_path / "ner", sentences(96)), saved(tmp_path / "gru", "GRU", words_tokenizer)
    with pytest.raises(ValueError, match="pos.*tokens, column 2, tags"):
        run(model_name_or_path=model, dataset=folder, label_field="pos")


@pytest.mark.parametrize("split", ["dev", "test"])
def test_a_tag_that_training_lacks_is_named_before_training(tmp_path, words_tokenizer, split):
    folder, model = write_conll(tmp_path / "ner", sentences(96)), saved(tmp_path / "gru", "GRU", words_tokenizer)
    file = folder / f"{split}.conll"
    lines = file.read_text().splitlines()
    # the first word after the mark of the document
    lines[2] = "mr x B-ORG"
    file.write_text("\n".join(lines) + "\n")
    flags = {"model_name_or_path": model, "dataset": folder, "output_dir": tmp_path / "out"}
    result = call("recipes/finetune_tagging.py", *(f"--{name}={value}" for name, value in flags.items()))
    assert result.returncode == 2
    *_, line = result.stderr.splitlines()
    name = "validation" if split == "dev" else "test"
    for part in (
        f"{file}, line 3",
        "'mr' (number 1)",
        f"'{name}'",
        "'B-ORG'",
        "'B-LOC', 'B-PER', 'I-LOC', 'I-PER', 'O'",
        "add some",
    ):
        assert part in line
    assert not list((tmp_path / "out").glob("*.safetensors"))


@pytest.mark.slow
def test_real_tags_of_characters(run, tmp_path, shared_data):
    """Weibo's messages, a token per character."""
    folder = shared_data / "tok_weibo_ner"
    texts = ["".join(json.loads(line)["tokens"]) for line in __import__("gzip").open(folder / "train.jsonl.gz", "rt")]
    marks = {"unk_token": "<unk>", "pad_token": "<pad>"}
    tokenizer = train_word_level(
        [" ".join(text) for text in texts], special_tokens=marks, lowercase=False, show_progress=False
    )
    model = saved(tmp_path / "gru", "GRU", tokenizer)
    results, _ = run(model_name_or_path=model, dataset=folder, max_steps=20)
    assert results["test"]["words_without_answer"] == 0
    assert set(results["test"]["floors"]) == {"majority", "majority of the word"}
