"""Models of words read Chinese as it is written, from pre-training to the pipeline, or say that they cannot."""

import json
import random

import pytest
from transformers import AutoTokenizer, pipeline

from hf_lineage.data import segmented
from hf_lineage.tokenization import train_word_level
from tests.recipes.here import call, succeed
from tests.recipes.test_finetune_classification import saved
from tests.recipes.test_pretrain_bilm import SIZES


SENTENCES = ["我来到北京", "他欠小明一百万", "今天天气很好我们去公园", "中文没有空格", "学习语言模型很有意思"]
COMMON = ["--disable_tqdm", "true", "--report_to", "none", "--word_segmentation", "characters"]
RUNS = {
    "pretrain_word2vec": ["--model_type", "lineage_word2vec", "--min_count", 1, "--words_per_step", 50],
    "pretrain_bilm": ["--model_type", "lineage_elmo", "--config_overrides", json.dumps(SIZES), "--num_negatives", 5]
    + ["--block_size", 5, "--max_steps", 1],
    "pretrain_causal_lm": ["--model_type", "lineage_rnn", "--tokenizer_kind", "word_level", "--max_steps", 1]
    + ["--config_overrides", '{"hidden_size": 8}', "--block_size", 4, "--per_device_train_batch_size", 2],
}


@pytest.mark.recipe
@pytest.mark.parametrize("recipe", RUNS)
def test_a_model_of_characters_reads_text_as_it_is_written(tmp_path, recipe):
    (tmp_path / "corpus.txt").write_text("\n".join(SENTENCES * 12), encoding="utf-8")
    flags = ["--corpus", tmp_path / "corpus.txt", "--output_dir", tmp_path / "out", *RUNS[recipe], *COMMON]
    succeed(f"recipes/{recipe}.py", *flags)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    for text in SENTENCES:
        written, apart = tokenizer(text)["input_ids"], tokenizer(segmented(text, "characters"))["input_ids"]
        assert written == apart
        assert len(written) >= len(text)


def test_a_trained_tokenizer_of_characters_does_so_too(tmp_path):
    (tmp_path / "corpus.txt").write_text("\n".join(SENTENCES * 12), encoding="utf-8")
    flags = ["--kind", "word_level", "--corpus", tmp_path / "corpus.txt", "--output_dir", tmp_path / "out"]
    succeed("recipes/train_tokenizer.py", *flags, "--word_segmentation", "characters")
    assert len(AutoTokenizer.from_pretrained(tmp_path / "out").tokenize("北京很好")) == 4


def labelled(folder, number=96):
    """好 is good, 坏 is bad; the rest says nothing."""
    draw, rows = random.Random(0), []
    for _ in range(number):
        label = draw.randrange(2)
        rest = draw.sample("今天气我们去公园中文没有空格", 6)
        rows.append({"text": "".join(draw.sample([*rest, "坏好"[label]], 7)), "label": ["bad", "good"][label]})
    folder.mkdir()
    for split, part in (("train", rows[:-32]), ("validation", rows[-32:-16]), ("test", rows[-16:])):
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, part)))
    return folder


@pytest.mark.recipe
def test_word2vec_classifies_chinese(tmp_path):
    data = labelled(tmp_path / "data")
    texts = [json.loads(line)["text"] for line in (data / "train.jsonl").read_text().splitlines()]
    tokenizer = train_word_level(
        texts, split_characters=True, special_tokens={"unk_token": "<unk>", "pad_token": "<pad>"}, show_progress=False
    )
    model = saved(tmp_path / "model", "Word2Vec", tokenizer)
    flags = ["--model_name_or_path", model, "--dataset", data, "--output_dir", tmp_path / "out", "--report_to", "none"]
    flags += ["--num_train_epochs", 10, "--learning_rate", 5e-2, "--save_strategy", "no", "--disable_tqdm", "true"]
    succeed("recipes/finetune_classification.py", *flags)
    assert json.loads((tmp_path / "out" / "results.json").read_text())["test"]["accuracy"] > 0.9
    classify = pipeline("text-classification", str(tmp_path / "out"))
    assert [answer["label"] for answer in classify(["今天好", "公园坏"])] == ["good", "bad"]


ROWS = {
    "finetune_classification": {"text": "今天天气很好我们去公园"},
    "finetune_multiple_choice": {
        "context": "今天天气很好我们去公园",
        "choices": ["中文没有空格", "我来到北京"],
        "label": 1,
    },
    "finetune_question_answering": {
        "id": "1",
        "question": "今天天气很好吗",
        "context": "今天天气很好我们去公园",
        "answers": {"text": ["很好"], "answer_start": [4]},
    },
    "evaluate_minimal_pairs": {"sentence_good": "今天天气很好我们去公园", "sentence_bad": "公园今天天气很好我们去"},
}


@pytest.mark.parametrize("recipe", ROWS)
def test_a_model_of_words_refuses_text_without_blanks(tmp_path, recipe):
    special = {"unk_token": "<unk>", "pad_token": "<pad>", "eos_token": "<eos>"}
    tokenizer = train_word_level(["今天 天气 很 好"], special_tokens=special, show_progress=False)
    model = saved(tmp_path / "model", "LSTM", tokenizer)
    (tmp_path / "data").mkdir()
    for split in ("train", "validation", "test"):
        lines = [json.dumps(ROWS[recipe] | {"id": f"{split} {number}", "label": number % 2}) for number in range(4)]
        (tmp_path / "data" / f"{split}.jsonl").write_text("\n".join(lines))
    if recipe == "evaluate_minimal_pairs":
        flags = ["--models", model, "--pairs", tmp_path / "data" / "test.jsonl"]
    else:
        flags = ["--model_name_or_path", model, "--dataset", tmp_path / "data"]
    result = call(f"recipes/{recipe}.py", *flags, "--output_dir", tmp_path / "out")
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert "--word_segmentation characters" in result.stderr
    assert "今天天气很好我们去公园" in result.stderr
