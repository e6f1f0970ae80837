"""recipes/finetune_question_answering.py: stations find answers, and leave them in SQuAD's forms."""

import json
import random
import runpy
from pathlib import Path

import pytest

import hf_lineage
from hf_lineage.metrics import score_answers
from hf_lineage.tokenization import train_word_level
from tests.models.test_modeling_bert import TestBERT as BERT


ROOT = Path(__file__).resolve().parents[2]
NAMES, PLACES = ["ada", "emil", "vera", "ines"], ["harbour", "mill", "valley", "market"]


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Calls the script in this process and gives results.json."""

    def call(**settings):
        settings = {"learning_rate": 1e-2, "output_dir": tmp_path / "out", "save_strategy": "no"} | settings
        settings |= {"disable_tqdm": True, "report_to": "none"}
        flags = [f"--{name}={value}" for name, value in settings.items()]
        monkeypatch.setattr("sys.argv", ["finetune_question_answering.py", *flags])
        runpy.run_path(str(ROOT / "recipes" / "finetune_question_answering.py"))["main"]()
        return json.loads((tmp_path / "out" / "results.json").read_text())

    return call


def rows(number, without_answer=0.0):
    """Who or where? The answer is the one name or place of the text; without one there is no answer."""
    draw, found = random.Random(0), []
    for n in range(number):
        asked, kind, other = draw.choice([("who", NAMES, PLACES), ("where", PLACES, NAMES)])
        answer = draw.choice(kind)
        fillers = [draw.choice(["the", "quiet", "river"]) for _ in range(draw.randint(1, 6))]
        is_missing = draw.random() < without_answer
        words = [*fillers, *([] if is_missing else [answer]), draw.choice(other), "again"]
        context = " ".join(words)
        answers = [] if is_missing else [answer]
        spans = {"text": answers, "answer_start": [context.index(text) for text in answers]}
        found.append({"id": f"q{n}", "question": asked, "context": context, "answers": spans})
    return found


def write(folder, found):
    folder.mkdir()
    size = len(found) // 6
    splits = {"train": found[: -2 * size], "validation": found[-2 * size : -size], "test": found[-size:]}
    for split, part in splits.items():
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, part)))
    return folder


def saved(folder, station, tokenizer=None):
    marks = {"unk_token": "<unk>", "pad_token": "<pad>", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    texts = ["who where the quiet river again " + " ".join(NAMES + PLACES)]
    tokenizer = tokenizer or train_word_level(texts, special_tokens=marks, lowercase=False, show_progress=False)
    sizes = BERT.tiny if station == "BERT" else {"hidden_size": 32, "num_hidden_layers": 1, "bidirectional": True}
    config = getattr(hf_lineage, f"{station}Config")(**{**sizes, "vocab_size": len(tokenizer)})
    getattr(hf_lineage, f"{station}Model")(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def characters_tokenizer():
    special = {"unk_token": "<unk>", "pad_token": "<pad>", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    texts = ["谁？小明在河边画只黄狗。0123456789"]
    return train_word_level(texts, split_characters=True, special_tokens=special, show_progress=False)


SIZES = {"max_length": 24, "stride": 4, "max_question_length": 4, "per_device_train_batch_size": 16}


def test_answers_are_found_and_left_as_squad_s(run, tmp_path, capsys):
    found = rows(192)
    data, model = write(tmp_path / "qa", found), saved(tmp_path / "gru", "GRU")
    results = run(model_name_or_path=model, dataset=data, num_train_epochs=20, max_answer_length=2, **SIZES)
    assert results["test"]["exact_match"] > 80
    assert results["test"]["floors"]["the whole text"]["exact_match"] == 0
    assert "null_threshold" not in results
    answers = json.loads((tmp_path / "out" / "test_predictions.json").read_text())
    gold = {row["id"]: row["answers"]["text"] for row in found[-32:]}
    assert answers.keys() == gold.keys()
    scores = score_answers([*gold.values()], [answers[name] for name in gold])
    assert results["test"]["f1"] == pytest.approx(scores["f1"], abs=1e-3)
    lines = [json.loads(line) for line in (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()]
    assert len(lines) == 64
    contexts = {row["id"]: row["context"] for row in found}
    for line in lines:
        assert contexts[line["id"]][line["start"] :].startswith(line["answer"])
    assert "the whole text" in capsys.readouterr().out


def test_questions_without_an_answer_get_a_threshold(run, tmp_path):
    data, model = write(tmp_path / "qa", rows(48, without_answer=0.5)), saved(tmp_path / "bert", "BERT")
    results = run(model_name_or_path=model, dataset=data, max_steps=2, transfer="frozen", **SIZES)
    assert results["test"]["floors"]["no answer"]["NoAns_f1"] == 100
    # the threshold that is best on the validation text is no worse than no answer at all
    assert results["validation"]["f1"] >= results["validation"]["floors"]["no answer"]["f1"] - 1e-3
    odds = json.loads((tmp_path / "out" / "validation_null_odds.json").read_text())
    answers = json.loads((tmp_path / "out" / "validation_predictions.json").read_text())
    assert all((answers[name] == "") == (odds[name] > results["null_threshold"]) for name in odds)


@pytest.mark.parametrize("chinese", [None, True, False])
def test_the_text_decides_how_answers_are_scored(run, tmp_path, capsys, chinese):
    """By blanks, a text and its answer have no word in common; by characters they do."""
    found = [
        {"question": "谁？", "context": f"小明在河边画{n}只黄狗。", "answers": {"text": ["小明"], "answer_start": [0]}}
        for n in range(48)
    ]
    data, model = write(tmp_path / "qa", found), saved(tmp_path / "gru", "GRU", characters_tokenizer())
    flags = {} if chinese is None else {"chinese": chinese}
    results = run(model_name_or_path=model, dataset=data, max_steps=1, **SIZES, **flags)
    out = capsys.readouterr().out
    assert ("Answers are scored by characters, as in CMRC 2018; --chinese false changes this" in out) == (
        chinese is None
    )
    lines = [json.loads(line) for line in (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()]
    test = [line for line in lines if line["split"] == "test"]
    scores = score_answers(
        [line["gold"] for line in test], [line["answer"] for line in test], chinese=chinese is not False
    )
    assert results["test"]["f1"] == pytest.approx(scores["f1"], abs=1e-3)
    # the whole text holds the answer, by characters only
    assert (results["test"]["floors"]["the whole text"]["f1"] > 0) == (chinese is not False)


def test_english_is_scored_by_words(run, tmp_path, capsys):
    data, model = write(tmp_path / "qa", rows(48)), saved(tmp_path / "gru", "GRU")
    run(model_name_or_path=model, dataset=data, max_steps=1, **SIZES)
    assert "Answers are scored by words between blanks, as in SQuAD; --chinese true" in capsys.readouterr().out


def test_secret_answers_are_not_scored(run, tmp_path, capsys):
    data, model = write(tmp_path / "qa", rows(48)), saved(tmp_path / "gru", "GRU")
    secret = [{name: cell for name, cell in row.items() if name != "answers"} for row in rows(4)]
    (data / "test.jsonl").write_text("\n".join(map(json.dumps, secret)))
    results = run(model_name_or_path=model, dataset=data, max_steps=1, **SIZES)
    assert "The split test has no answers and is not scored" in capsys.readouterr().out
    assert "test" not in results
    # as of SQuAD 1.1, without means over questions that have answers
    assert "HasAns_f1" not in results["validation"]
    assert not (tmp_path / "out" / "validation_null_odds.json").exists()


def test_folds_keep_the_answers_of_all_questions(run, tmp_path):
    """Questions without ids are numbered in each split; a fold joins two."""
    found = [{name: cell for name, cell in row.items() if name != "id"} for row in rows(48)]
    data, model = write(tmp_path / "qa", found), saved(tmp_path / "gru", "GRU")
    (data / "test.jsonl").unlink()
    run(model_name_or_path=model, dataset=data, max_steps=1, folds=2, **SIZES)
    answers = [
        json.loads((tmp_path / "out" / f"fold_{fold}-seed_42" / "validation_predictions.json").read_text())
        for fold in range(2)
    ]
    assert len(answers[0] | answers[1]) == sum(map(len, answers)) == 40
    for name in ("train", "validation"):
        (data / f"{name}.jsonl").write_text(
            "\n".join(json.dumps({**row, "id": f"q{n}"}) for n, row in enumerate(found))
        )
    with pytest.raises(ValueError, match="the id 'q.*' stands in the train and in the validation questions"):
        run(model_name_or_path=model, dataset=data, max_steps=1, folds=2, output_dir=tmp_path / "other", **SIZES)


def test_the_columns_have_flags(run, tmp_path):
    names = {"question": "asked", "context": "passage", "answers": "gold"}
    found = [{names.get(name, name): cell for name, cell in row.items()} for row in rows(48)]
    data, model = write(tmp_path / "qa", found), saved(tmp_path / "gru", "GRU")
    flags = {f"{name}_field": column for name, column in names.items()}
    assert run(model_name_or_path=model, dataset=data, max_steps=1, **flags, **SIZES)["test"]["questions"] == 8


@pytest.mark.slow
@pytest.mark.parametrize(("name", "by"), [("qa_policyqa_slice", "words"), ("qa_cmrc2018_slice", "characters")])
def test_real_questions_are_read(run, tmp_path, capsys, shared_data, tiny_tokenizer, name, by):
    config = hf_lineage.GRUConfig(vocab_size=len(tiny_tokenizer), hidden_size=16)
    hf_lineage.GRUModel(config).save_pretrained(tmp_path / "gru")
    tiny_tokenizer.save_pretrained(tmp_path / "gru")
    settings = {"dataset": shared_data / name, "max_steps": 2, "max_train_samples": 32}
    results = run(model_name_or_path=tmp_path / "gru", per_device_eval_batch_size=32, **settings)
    assert results["test"]["rows"] >= results["test"]["questions"] > 900
    assert f"Answers are scored by {by}" in capsys.readouterr().out
