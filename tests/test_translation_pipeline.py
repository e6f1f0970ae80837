"""pipeline("translation"), which transformers has removed, and "lineage-translation", with every encoder-decoder."""

import copy
import subprocess
import sys

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, MarianConfig, MarianMTModel, pipeline

from hf_lineage import (
    LuongConfig,
    LuongForConditionalGeneration,
    Seq2SeqConfig,
    Seq2SeqForConditionalGeneration,
    TransformerConfig,
)
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


@pytest.mark.parametrize("beams", [1, 3])
def test_in_a_batch_the_limit_is_each_sources_own(saved, tokenizer, beams):
    translate = pipeline("translation", model=str(saved), device="cpu", return_tensors=True, num_beams=beams)
    # no answer ends by itself
    options = {"suppress_tokens": [tokenizer.eos_token_id]}
    alone = [translate(text, **options)[0]["translation_token_ids"] for text in TEXTS]
    assert len({len(answer) for answer in alone}) > 1
    for answer, expected in zip(translate(TEXTS, batch_size=3, **options), alone, strict=True):
        ids = answer[0]["translation_token_ids"]
        assert torch.equal(ids[: len(expected)], expected)
        # greedy search fills up with padding, beam search with end marks
        assert {*ids[len(expected) :].tolist()} <= {tokenizer.pad_token_id, tokenizer.eos_token_id}


WORDS = {"ich": "i", "sah": "saw", "und": "and"}


@pytest.fixture(scope="module")
def word_for_word():
    """Luong's model that translates word for word, made by hand, which knows no names, and its tokenizer.

    Source vectors say which word it is, one number each. One number more counts the target's words in the decoder:
    after t of them position j has the score 9·(2·t·j − j²), highest where j is t, however the batch is padded.
    """
    tokenizer = translation_tokenizer(train_word_level([*WORDS, *WORDS.values()], show_progress=False))
    size = len(tokenizer) + 2
    config = LuongConfig(
        cell="rnn", hidden_act="relu", hidden_size=size, num_hidden_layers=1, reverse_source=False, dropout=0.0,
        attention="location", max_source_length=10, input_feeding=False, **ids(tokenizer),
    )  # fmt: skip
    model = LuongForConditionalGeneration(config)
    counter, one = size - 2, size - 1
    encoder, decoder = model.model.encoder, model.model.decoder
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        encoder.embed_tokens.weight.fill_diagonal_(1)
        encoder.layers[0].cell.weight_ih.fill_diagonal_(1)
        cell = decoder.layers[0].cell
        cell.weight_hh[counter, counter] = cell.bias[counter] = cell.bias[one] = 1
        positions = torch.arange(10.0)
        # the counter says t + 1
        decoder.alignment.weight_query[:, counter] = 9 * 2 * positions
        decoder.alignment.weight_query[:, one] = -9 * (positions**2 + 2 * positions)
        decoder.from_context.weight.fill_diagonal_(1)
        names = tokenizer.convert_tokens_to_ids
        for token in range(len(tokenizer)):
            word = tokenizer.convert_ids_to_tokens(token)
            model.lm_head.weight[names(WORDS.get(word, word)), token] = 20
    return model.eval(), tokenizer


@pytest.mark.parametrize("padding_side", ["right", "left"])
@pytest.mark.parametrize("beams", [1, 3])
def test_unknown_words_become_the_source_words_they_are_aligned_with(word_for_word, beams, padding_side):
    model, tokenizer = word_for_word
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.padding_side = padding_side
    translate = pipeline("translation", model=model, tokenizer=tokenizer, device="cpu", num_beams=beams)
    texts = ["Grete und ich sah Xaver", "ich sah Brünnhilde", "Xaver"]
    assert [answer[0]["translation_text"] for answer in translate(texts)] == ["and i saw", "i saw", ""]
    for batch_size in (1, 2, 3):
        found = translate(texts, replace_unknown=True, batch_size=batch_size)
        assert [answer[0]["translation_text"] for answer in found] == [
            "Grete and i saw Xaver",
            "i saw Brünnhilde",
            "Xaver",
        ]
    named = {"Xaver": "Xavier", "und": "never looked up"}
    (answer,) = translate(texts[0], replace_unknown=named)
    assert answer["translation_text"] == "Grete and i saw Xavier"
    always = pipeline("translation", model=model, tokenizer=tokenizer, device="cpu", replace_unknown=named)
    assert always(texts[0]) == [answer]
    assert always(texts[0], replace_unknown=False) == translate(texts[0]) == [{"translation_text": "and i saw"}]
    best = translate(texts, replace_unknown={}, num_beams=3, num_return_sequences=2, batch_size=2)
    assert [len(answers) for answers in best] == [2, 2, 2]
    assert best[1][0]["translation_text"] == "i saw Brünnhilde"


def test_fused_attention_makes_room_for_its_weights(tokenizer):
    """A Transformer whose next word is always the unknown one: a source word stands for each."""
    model = STATIONS["transformer"](tokenizer)
    translate = pipeline("translation", model=model, tokenizer=tokenizer, device="cpu", max_new_tokens=4)
    known = [token for token in range(len(tokenizer)) if token != tokenizer.unk_token_id]
    assert model.config._attn_implementation == "sdpa"
    (answer,) = translate(TEXTS[0], replace_unknown=True, suppress_tokens=known)
    assert model.config._attn_implementation == "sdpa"
    assert len(answer["translation_text"].split()) == 4
    assert {*answer["translation_text"].split()} <= {*TEXTS[0].split()}


def test_unknown_words_need_attention_to_the_source(tokenizer):
    translate = pipeline("translation", model=STATIONS["seq2seq"](tokenizer), tokenizer=tokenizer, device="cpu")
    with pytest.raises(ValueError, match="a model that attends to its source"):
        translate(TEXTS[0], replace_unknown=True)


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
print(pipe({TEXTS[0]!r})[0]["translation_text"])
try:
    pipe({TEXTS[0]!r}, replace_unknown=True)
except ImportError as error:
    print(error, end="")
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 0, result.stderr[-2000:]
    expected = local(TEXTS[0])[0]["translation_text"]
    assert result.stdout == f"{expected}\nreplace_unknown needs the package hf_lineage: pip install hf_lineage"
