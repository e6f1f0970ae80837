"""Texts of more tokens than a model has positions: cut with one warning, or read in windows; short ones without."""

import logging

import pytest
import torch
from transformers import pipeline

from tests.models.stations import STATIONS, TABLES, model_and_tokenizer, tokenizers_of_kinds


# what a text becomes as the input of a task, and the heads with it
ASKED = {
    "text-classification": ("AutoModelForSequenceClassification", lambda text: text),
    "feature-extraction": ("AutoModel", lambda text: text),
    "token-classification": ("AutoModelForTokenClassification", lambda text: text),
    "zero-shot-classification": ("AutoModelForSequenceClassification", lambda text: text),
    "fill-mask": ("AutoModelForMaskedLM", lambda text: f"[MASK] {text}"),
    "multiple-choice": (
        "AutoModelForMultipleChoice",
        lambda text: {"text": text, "choices": ["The dog", "Vera paints"]},
    ),
    "next-sentence-prediction": (
        "AutoModelForNextSentencePrediction",
        lambda text: {"text": text, "text_pair": "Vera"},
    ),
}
SHORT, LONG = "Ada watches the river", "Ada watches the river near the old tower and " * 10
# stations without positions read everything
LIMITED = [name for name in STATIONS if hasattr(TABLES[name].config(), "max_position_embeddings")]
CASES = [(station, task) for station in STATIONS for task, (head, _) in ASKED.items() if head in TABLES[station].heads]
OPTIONS = {
    "zero-shot-classification": {"candidate_labels": ["a river", "a dog"]},
    "token-classification": {"ignore_labels": []},
}
# options of the tokenizer, as each task takes them
SHORTER = {
    "text-classification": {"truncation": True, "max_length": 12},
    "feature-extraction": {"tokenize_kwargs": {"truncation": True, "max_length": 12}},
    "fill-mask": {"tokenizer_kwargs": {"truncation": True, "max_length": 12}},
    "multiple-choice": {"max_length": 12},
    "next-sentence-prediction": {"max_length": 12},
}
UNCUT = {
    "text-classification": {"truncation": False},
    "feature-extraction": {"truncation": False},
    "fill-mask": {"tokenizer_kwargs": {"truncation": False}},
    "multiple-choice": {"truncation": False},
    "next-sentence-prediction": {"truncation": False},
}


@pytest.fixture(scope="module")
def opened(tiny_tokenizer, tiny_corpus):
    """(station, task, limit of the tokenizer) -> its pipeline, and a list of the lengths that the model reads."""
    tokenizers = tokenizers_of_kinds(tiny_tokenizer, tiny_corpus)
    assert tiny_tokenizer.model_max_length > 10**9

    def of(station, task):
        model, tokenizer = model_and_tokenizer(station, ASKED[task][0], tokenizers)
        if task == "zero-shot-classification":
            model.config.label2id = {"contradiction": 0, "entailment": 1, "neutral": 2}
        pipe, lengths = pipeline(task, model=model, tokenizer=tokenizer, device="cpu"), []

        def note(model, arguments, options):
            lengths.append(options["attention_mask"].shape[-1])

        model.register_forward_pre_hook(note, with_kwargs=True)
        return pipe, lengths

    return of


def warnings_of(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize(("station", "task"), CASES)
def test_a_long_text_is_cut_with_one_warning(station, task, opened, caplog):
    pipe, lengths = opened(station, task)
    make, options = ASKED[task][1], OPTIONS.get(task, {})
    with caplog.at_level(logging.WARNING):
        pipe(make(SHORT), **options)
    assert "tokens" not in caplog.text
    short, read = max(lengths), len(pipe.tokenizer(LONG, verbose=False)["input_ids"])
    lengths.clear()
    with caplog.at_level(logging.WARNING):
        answer = pipe(make(LONG), **options)
    if station not in LIMITED:
        assert "tokens" not in caplog.text
        assert max(lengths) >= read > 32
        return
    limit = pipe.model.config.max_position_embeddings
    assert max(lengths) == limit > short
    [said] = [message for message in warnings_of(caplog) if "tokens" in message]
    found = [int(word) for word in said.replace(".", "").split() if word.isdigit()]
    # the whole input: the text, its marks and what is read with it
    assert found[1] == limit < read <= found[0] <= read + 20
    # several texts, and a batch of them
    again = pipe([make(LONG), make(SHORT)], batch_size=2, **options)
    assert len(again) == 2
    assert len(str(again[0])) == pytest.approx(len(str(answer)), rel=0.3)


@pytest.mark.parametrize(("station", "task"), [case for case in CASES if case[0] in LIMITED])
def test_a_tokenizer_s_own_limit_counts(station, task, opened, caplog):
    """The smaller of the two; the caller's tokenizer stays as it is."""
    pipe, lengths = opened(station, task)
    given = pipe.tokenizer
    given.model_max_length = 16
    pipe = pipeline(task, model=pipe.model, tokenizer=given, device="cpu")
    with caplog.at_level(logging.WARNING):
        pipe(ASKED[task][1](LONG), **OPTIONS.get(task, {}))
    assert max(lengths) == 16
    assert "the model reads 16" in caplog.text
    given.model_max_length = 10**6
    other = pipeline(task, model=pipe.model, tokenizer=given, device="cpu")
    assert other.tokenizer.model_max_length == pipe.model.config.max_position_embeddings
    assert given.model_max_length == 10**6


@pytest.mark.parametrize(("station", "task"), [case for case in CASES if case[1] in SHORTER])
def test_shorter_texts_by_option(station, task, opened, caplog):
    """On stations without positions too."""
    pipe, lengths = opened(station, task)
    with caplog.at_level(logging.WARNING):
        pipe(ASKED[task][1](LONG), **SHORTER[task])
    assert {*lengths} == {12}
    assert "the model reads 12" in caplog.text
    if station in LIMITED:
        # more than the model has
        wide = {name: 400 if name == "max_length" else value for name, value in SHORTER[task].items()}
        wide = {n: {**v, "max_length": 400} if isinstance(v, dict) else v for n, v in wide.items()}
        lengths.clear()
        pipe(ASKED[task][1](LONG), **wide)
        assert {*lengths} == {pipe.model.config.max_position_embeddings}
        with pytest.raises(ValueError, match="max_position_embeddings"):
            pipe(ASKED[task][1](LONG), **UNCUT[task])


@pytest.mark.parametrize("task", ["multiple-choice", "next-sentence-prediction"])
def test_a_length_below_one_is_named(task, opened):
    with pytest.raises(ValueError, match="max_length is 0"):
        opened("BERT", task)[0](ASKED[task][1](SHORT), max_length=0)


@pytest.mark.parametrize("use_crf", [False, True], ids=["single tags", "chain"])
@pytest.mark.parametrize(
    "station", [name for name in LIMITED if "AutoModelForTokenClassification" in TABLES[name].heads]
)
def test_tags_of_windows(station, use_crf, tiny_tokenizer, caplog):
    """With a stride the text is read to its end, and what only one window reads has the tags of that window."""
    sizes = {"vocab_size": len(tiny_tokenizer), "pad_token_id": tiny_tokenizer.pad_token_id}
    model = TABLES[station].changed_model("AutoModelForTokenClassification", **sizes, use_crf=use_crf)
    pipe = pipeline("token-classification", model=model, tokenizer=tiny_tokenizer, device="cpu", ignore_labels=[])
    with caplog.at_level(logging.WARNING):
        found = pipe(LONG, stride=4, aggregation_strategy="first")
    assert "tokens" not in caplog.text
    assert found[-1]["end"] == len(LONG.rstrip())
    # the first window, by itself
    limit = model.config.max_position_embeddings
    ids = tiny_tokenizer(LONG, truncation=True, max_length=limit, return_tensors="pt", return_offsets_mapping=True)
    offsets = ids.pop("offset_mapping")[0].tolist()
    begins = [start < end and (start == 0 or LONG[start - 1] == " ") for start, end in offsets]
    best = model.decode(model(**ids).logits, torch.tensor([begins]))[0].tolist()
    names = model.config.id2label
    for place in range(limit // 2):
        if begins[place]:
            [entity] = [one for one in found if one["start"] <= offsets[place][0] < one["end"]]
            assert entity["entity_group"] == names[best[place]].split("-", 1)[-1]
