"""What our pipelines say of inputs that are no texts, or far too long."""

import copy
import logging

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, TextClassificationPipeline, pipeline

import hf_lineage
from hf_lineage.hub.model_card import task_of
from hf_lineage.models import pipeline_inputs
from tests.models.stations import HEADS, STATIONS, TABLES, model_and_tokenizer, tokenizers_of_kinds


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
# heads that pretrain are opened as others
OF_STATIONS = [(station, head) for station, head in HEADS if station in STATIONS and head != "AutoModelForPreTraining"]
# tasks of transformers
FOREIGN = {
    "AutoModel": "feature-extraction",
    "AutoModelForCausalLM": "text-generation",
    "AutoModelForMaskedLM": "fill-mask",
    "AutoModelForSequenceClassification": "text-classification",
    "AutoModelForTokenClassification": "token-classification",
}


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


def limit_texts(monkeypatch, limit):
    for name in ("LONGEST_TEXT", "LONGEST_SOURCE"):
        monkeypatch.setattr(pipeline_inputs, name, limit)


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
    limit_texts(monkeypatch, limit)
    text = "The dog watches the river. " * 400_000
    with caplog.at_level(logging.WARNING):
        if task.startswith("word"):
            with pytest.raises(ValueError, match="word"):
                pipe(INPUTS[task](text))
        else:
            given, cut = (pipe(INPUTS[task](each)) for each in (text, text[:limit]))
            assert given == cut
    assert f"{len(text)} characters; the first {limit}" in caplog.text


@pytest.fixture(scope="module")
def saved(tiny_tokenizer, tiny_corpus, tmp_path_factory):
    """(station, head) -> its task and the folder of a tiny model with its tokenizer."""
    tokenizers, found = tokenizers_of_kinds(copy.deepcopy(tiny_tokenizer), tiny_corpus), {}

    def of(station, head):
        if (station, head) not in found:
            folder = tmp_path_factory.mktemp(f"{station}-{head}")
            model, tokenizer = model_and_tokenizer(station, head, tokenizers)
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            found[station, head] = task_of(model), folder
        return found[station, head]

    return of


def asked(task, folder, text) -> tuple:
    """Asks the pipeline of a folder about the text; its tokenizer, and the most tokens that the model read at once."""
    pipe = pipeline(task, model=str(folder), device="cpu")
    lengths = []

    def note(model, arguments, options):
        given = [options[name] for name in ("input_ids", "attention_mask") if options.get(name) is not None]
        lengths.extend(each.shape[-1] for each in given)

    pipe.model.register_forward_pre_hook(note, with_kwargs=True)
    question = INPUTS[task](text) if task in INPUTS else text
    pipe(question, **{"max_new_tokens": 1} if task in ("text-generation", "translation") else {})
    return pipe.tokenizer, max(lengths)


@pytest.mark.reliability("C15")
@pytest.mark.parametrize(("station", "head"), OF_STATIONS)
def test_ten_megabytes_are_cut_before_they_are_tokenized(station, head, saved, monkeypatch, caplog):
    """In the pipelines of all heads, transformers' own among them."""
    limit = 50
    limit_texts(monkeypatch, limit)
    task, folder = saved(station, head)
    text = ("[MASK] " if task == "fill-mask" else "") + "The dog watches the river. " * 400_000
    with caplog.at_level(logging.WARNING):
        _, tokens = asked(task, folder, text)
    assert f"{len(text)} characters; the {'last' if task == 'text-generation' else 'first'} {limit}" in caplog.text
    others = len(INPUTS[task]("")) * 10 if task in INPUTS else 0
    assert 5 < tokens <= limit + others


@pytest.mark.reliability("C15")
@pytest.mark.parametrize(
    ("station", "head"),
    [
        (station, head)
        for station, head in OF_STATIONS
        if head in ("AutoModel", "AutoModelForSequenceClassification", "AutoModelForCausalLM")
        and not hasattr(TABLES[station].config(), "max_position_embeddings")
    ],
)
def test_three_thousand_tokens_are_read_whole(station, head, saved, caplog):
    task, folder = saved(station, head)
    with caplog.at_level(logging.WARNING):
        tokenizer, tokens = asked(task, folder, "The dog watches the river. " * 650)
    assert "characters" not in caplog.text
    assert tokens == len(tokenizer("The dog watches the river. " * 650)["input_ids"]) > 3_000


@pytest.mark.reliability("C15")
def test_words_of_a_text_are_cut_too(saved, monkeypatch, caplog):
    limit_texts(monkeypatch, 20)
    pipe = pipeline("token-classification", model=str(saved("LSTM", "AutoModelForTokenClassification")[1]))
    words = "The dog watches the river now".split()
    given, cut = (pipe(each, is_split_into_words=True, delimiter=" ", ignore_labels=[]) for each in (words, words[:4]))
    assert given == cut
    assert "6 words of 24 characters; the first 4 words" in caplog.text


@pytest.mark.reliability("C16", "C2")
@pytest.mark.parametrize("bad", [None, 3, float("nan"), b"bytes", "The \ud800 dog", {"text": None}], ids=repr)
@pytest.mark.parametrize(
    ("station", "head"), [next(each for each in OF_STATIONS if each[1] == head) for head in FOREIGN]
)
def test_tasks_of_transformers_name_what_is_no_text(station, head, bad, saved):
    task, folder = saved(station, head)
    pipe = pipeline(task, model=str(folder), device="cpu")
    for inputs in (bad, ["The [MASK]", bad]):
        with pytest.raises(ValueError, match=r"(is|holds) (None|3|nan|b'|'.ud800')|input is required"):
            pipe(inputs)
    assert pipe([]) == []


def test_models_of_others_keep_the_pipelines_of_transformers(tiny_tokenizer, saved):
    model = BertForSequenceClassification(BertConfig(vocab_size=len(tiny_tokenizer), **SIZES)).eval()
    pipe = pipeline("text-classification", model=model, tokenizer=tiny_tokenizer, device="cpu")
    assert type(pipe) is TextClassificationPipeline
    task, folder = saved("BERT", "AutoModelForSequenceClassification")
    ours = pipeline(task, model=str(folder), device="cpu")
    assert isinstance(ours, TextClassificationPipeline)
    assert copy.copy(ours)("The dog") == ours("The dog")
