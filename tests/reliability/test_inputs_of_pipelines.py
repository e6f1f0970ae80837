"""What our pipelines say of inputs that are no texts, or far too long."""

import copy
import logging

import pytest
import torch
from transformers import pipeline

import hf_lineage
from hf_lineage.models import pipeline_inputs


SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
# task -> an input with one text
INPUTS = {
    "word-similarity": lambda text: text,
    "word-analogy": lambda text: {"a": "dog", "b": "dogs", "c": text},
    "translation": lambda text: text,
    "question-answering": lambda text: {"question": "Who?", "context": text},
    "multiple-choice": lambda text: {"text": text, "choices": ["one", "two"]},
    "next-sentence-prediction": lambda text: {"text": text, "text_pair": "The dog."},
}
WHOLE = ("word-similarity", "translation")


@pytest.fixture(scope="module")
def pipe_of(tiny_tokenizer):
    """Task -> its pipeline over a tiny model."""
    bert = hf_lineage.BERTConfig(vocab_size=len(tiny_tokenizer), **SIZES, max_position_embeddings=64)
    recurrent = {"vocab_size": len(tiny_tokenizer), "embedding_size": 16, "hidden_size": 16, "num_hidden_layers": 1}
    words = {"bos_token_id": 2, "eos_token_id": 3, "decoder_start_token_id": 2, "pad_token_id": 0}

    def of(task):
        if task.startswith("word"):
            model = hf_lineage.Word2VecModel(hf_lineage.Word2VecConfig(vocab_size=len(tiny_tokenizer), hidden_size=16))
        elif task == "translation":
            model = hf_lineage.LuongForConditionalGeneration(hf_lineage.LuongConfig(**recurrent, **words))
        else:
            head = {
                "question-answering": hf_lineage.BERTForQuestionAnswering,
                "multiple-choice": hf_lineage.BERTForMultipleChoice,
                "next-sentence-prediction": hf_lineage.BERTForNextSentencePrediction,
            }[task]
            model = head(bert)
        tokenizer = copy.deepcopy(tiny_tokenizer)
        if task == "translation":
            tokenizer.model_input_names = ["input_ids", "attention_mask"]
        return pipeline(task, model=model.eval(), tokenizer=tokenizer, device="cpu")

    torch.manual_seed(0)
    pipes = {task: of(task) for task in INPUTS}
    return pipes.__getitem__


@pytest.mark.reliability("C16", "C2")
@pytest.mark.parametrize("task", INPUTS)
@pytest.mark.parametrize("bad", [None, 3, float("nan"), b"bytes", ["The dog."], "", "  ", "The \ud800 dog"], ids=repr)
def test_what_is_no_text_is_named(task, bad, pipe_of):
    with pytest.raises(ValueError, match=r"(is|holds) ('|\"|None|3|nan|b'|\[)"):
        pipe_of(task)(INPUTS[task](bad) if not (task in WHOLE and isinstance(bad, list)) else [bad])


@pytest.mark.reliability("C16", "C2")
@pytest.mark.parametrize("task", INPUTS)
@pytest.mark.parametrize("bad", [None, 3, {}, [None], [3]], ids=repr)
def test_inputs_without_a_text_are_named(task, bad, pipe_of):
    with pytest.raises(ValueError, match="is (None|3|{})"):
        pipe_of(task)(bad)


@pytest.mark.reliability("C16")
@pytest.mark.parametrize("task", INPUTS)
def test_nothing_gives_nothing(task, pipe_of):
    assert pipe_of(task)([]) == []


@pytest.mark.reliability("C15")
@pytest.mark.parametrize("task", INPUTS)
def test_ten_megabytes_are_cut_with_a_warning(task, pipe_of, monkeypatch, caplog):
    """The rest is never tokenized: what is read has as many characters as the limit, here a small one."""
    pipe, limit = pipe_of(task), 100
    monkeypatch.setattr(pipeline_inputs, "LONGEST_TEXT", limit)
    text = "The dog watches the river. " * 400_000
    with caplog.at_level(logging.WARNING):
        if task.startswith("word"):
            with pytest.raises(ValueError, match="word"):
                pipe(INPUTS[task](text))
        else:
            given, cut = (pipe(INPUTS[task](each)) for each in (text, text[:limit]))
            assert given == cut
    assert f"{len(text)} characters; the first {limit}" in caplog.text
