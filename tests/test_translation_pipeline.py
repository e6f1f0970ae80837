"""pipeline("translation"), which transformers has removed, and "lineage-translation", with every encoder-decoder."""

import subprocess
import sys

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, MarianConfig, MarianMTModel, pipeline

from hf_lineage import Seq2SeqConfig, Seq2SeqForConditionalGeneration, TransformerConfig
from hf_lineage import TransformerForConditionalGeneration as Transformer
from hf_lineage.data import grammar_corpus
from hf_lineage.tokenization import train_word_level, translation_tokenizer


TEXTS = ["我 欠 他 100万", "他 昨天 在 公园 买 了 一 本 新 的 书", "她 比 我 高"]


def ids(tokenizer):
    return {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "decoder_start_token_id": tokenizer.bos_token_id,
    }


STATIONS = {
    "transformer": lambda tokenizer: Transformer(
        TransformerConfig(
            hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, **ids(tokenizer)
        )
    ),
    "seq2seq": lambda tokenizer: Seq2SeqForConditionalGeneration(
        Seq2SeqConfig(hidden_size=16, num_hidden_layers=1, initializer_range=0.5, **ids(tokenizer))
    ),
}


@pytest.fixture(scope="module")
def tokenizer():
    corpus = grammar_corpus("train", 300)
    return translation_tokenizer(train_word_level([*corpus["source"], *corpus["target"]], show_progress=False))


@pytest.fixture(scope="module", params=STATIONS)
def saved(request, tokenizer, tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp(request.param)
    STATIONS[request.param](tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("task", ["translation", "lineage-translation"])
def test_translations_are_generates(saved, tokenizer, task):
    translate = pipeline(task, model=str(saved), device="cpu", max_new_tokens=9)
    model = AutoModelForSeq2SeqLM.from_pretrained(saved)
    expected = []
    for text in TEXTS:
        answer = model.generate(**tokenizer(text, return_tensors="pt"), max_new_tokens=9, num_beams=3)
        expected.append([{"translation_text": tokenizer.decode(answer[0], skip_special_tokens=True)}])
    assert translate(TEXTS, num_beams=3) == expected
    assert translate(TEXTS[0], num_beams=3) == expected[0]
    assert translate(TEXTS, num_beams=3, batch_size=2) == expected
    assert list(translate((text for text in TEXTS), num_beams=3, batch_size=3)) == expected
    assert translate(TEXTS[0], generate_kwargs={"num_beams": 3}) == expected[0]


def test_n_best_come_in_order(saved, tokenizer):
    translate = pipeline("translation", model=str(saved), device="cpu", max_new_tokens=6)
    answers = translate(TEXTS, num_beams=4, num_return_sequences=3, batch_size=2)
    assert [len(answer) for answer in answers] == [3, 3, 3]
    assert [answer[:1] for answer in answers] == translate(TEXTS, num_beams=4)
    tensors = translate(TEXTS[0], num_beams=4, num_return_sequences=3, return_tensors=True)
    texts = [tokenizer.decode(each["translation_token_ids"], skip_special_tokens=True) for each in tensors]
    assert texts == [each["translation_text"] for each in answers[0]]


def test_length_is_limited_by_the_source_unless_said_otherwise(saved):
    translate = pipeline("translation", model=str(saved), device="cpu", return_tensors=True, eos_token_id=None)
    (answer,) = translate(TEXTS[0])
    # start, five tokens of the source, fifty more
    assert answer["translation_token_ids"].shape == (1 + 5 + 50,)
    assert translate(TEXTS[0], max_new_tokens=4)[0]["translation_token_ids"].shape == (5,)
    translate.model.generation_config.max_length = 8
    assert translate(TEXTS[0])[0]["translation_token_ids"].shape == (8,)


@pytest.mark.parametrize("text", ["", "  ", 3])
def test_what_is_no_text_is_refused(saved, text):
    translate = pipeline("translation", model=str(saved), device="cpu")
    with pytest.raises(ValueError, match="text to translate is"):
        translate([text])


def test_transformers_own_models_translate_too(tokenizer):
    model = MarianMTModel(
        MarianConfig(d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
                     decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, **ids(tokenizer))
    )  # fmt: skip
    translate = pipeline("translation", model=model, tokenizer=tokenizer, device="cpu", max_new_tokens=4)
    assert isinstance(translate(TEXTS[0])[0]["translation_text"], str)


def test_other_removed_tasks_stay_removed():
    with pytest.raises(KeyError, match="summarization"):
        pipeline("summarization")


def test_travels_with_the_model(saved, tmp_path):
    local = pipeline("translation", model=str(saved), device="cpu", max_new_tokens=5)
    local.save_pretrained(tmp_path / "saved")
    script = f"""
import json, sys
sys.modules["hf_lineage"] = None
from transformers import pipeline
pipe = pipeline(model={str(tmp_path / "saved")!r}, device="cpu", trust_remote_code=True, max_new_tokens=5)
print(pipe({TEXTS[0]!r})[0]["translation_text"], end="")
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stdout == local(TEXTS[0])[0]["translation_text"]
