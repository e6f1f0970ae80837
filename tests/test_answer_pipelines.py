"""The pipelines for questions: long texts, null answers, errors, and with no package installed."""

import json
import subprocess
import sys

import pytest
import torch
from transformers import BertForQuestionAnswering, pipeline

import hf_lineage
from tests.models.test_modeling_bert import TestBERT as BERT


LONG = "Ada follows the yellow dog near the harbour. Emil remembers the lantern behind the mill again. " * 2


@pytest.fixture(scope="module")
def answering(tiny_tokenizer, tmp_path_factory):
    """Ours and transformers' own class, with the same weights, as pipelines."""
    torch.manual_seed(0)
    sizes = {**BERT.tiny, "vocab_size": len(tiny_tokenizer), "num_labels": 2, "initializer_range": 0.5}
    model = hf_lineage.BERTForQuestionAnswering(hf_lineage.BERTConfig(**sizes)).eval()
    model.save_pretrained(folder := tmp_path_factory.mktemp("bert"))
    other = BertForQuestionAnswering.from_pretrained(folder)
    return [pipeline("question-answering", model=m, tokenizer=tiny_tokenizer, device="cpu") for m in (model, other)]


def answers_by_hand(pipe, question, context, length, stride, longest):
    """Every span of every window: probabilities among the text's tokens and [CLS], of whole words, added up."""
    tokenizer, found, null = pipe.tokenizer, {}, []
    encoded = tokenizer(
        question,
        context,
        truncation="only_second",
        max_length=length,
        stride=stride,
        return_overflowing_tokens=True,
    )
    assert len(encoded.encodings) > 2
    for encoding in encoded.encodings:
        inputs = {"input_ids": encoding.ids, "token_type_ids": encoding.type_ids}
        outputs = pipe.model(**{name: torch.tensor([ids]) for name, ids in inputs.items()})
        places = [place for place, side in enumerate(encoding.sequence_ids) if side == 1]
        shown = encoding.offsets[places[0]][0], encoding.offsets[places[-1]][1]
        starts, ends = (outputs[f"{side}_logits"][0, [0, *places]].softmax(0).tolist() for side in ("start", "end"))
        null.append(starts[0] * ends[0])
        for i, first in enumerate(places):
            for j, last in enumerate(places):
                if 0 <= j - i < longest:
                    begin, end = encoding.offsets[first][0], encoding.offsets[last][1]
                    # to the ends of the words, as far as the window shows them
                    while begin > shown[0] and context[begin - 1].isalpha() and context[begin].isalpha():
                        begin -= 1
                    while end < shown[1] and context[end].isalpha() and context[end - 1].isalpha():
                        end += 1
                    text = context[begin:end].lower()
                    found[text] = found.get(text, 0.0) + starts[i + 1] * ends[j + 1]
    return found, min(null)


def test_answers_are_those_of_all_windows(answering):
    options = {"max_seq_len": 20, "doc_stride": 6, "max_answer_len": 3}
    for pipe in answering:
        found, null = answers_by_hand(pipe, "Who follows?", LONG, 20, 6, 3)
        # this is enough candidates to keep every span
        everything = pipe({"question": "Who follows?", "context": LONG}, top_k=200, **options)
        assert {answer["answer"].lower(): answer["score"] for answer in everything} == pytest.approx(found, abs=1e-6)
        scores = [answer["score"] for answer in everything]
        assert scores == sorted(scores, reverse=True)
        options_with_null = options | {"handle_impossible_answer": True, "top_k": 300}
        with_null = pipe(question="Who follows?", context=LONG, **options_with_null)
        [empty] = [answer for answer in with_null if answer["answer"] == ""]
        assert empty == {"answer": "", "start": 0, "end": 0, "score": pytest.approx(null, abs=1e-6)}


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("padding", [True, "max_length"])
def test_padded_windows_answer_alike(answering, padding, side, monkeypatch):
    # transformers' BERT counts padding on the left as positions
    for pipe in answering[: 1 if side == "left" else 2]:
        monkeypatch.setattr(pipe.tokenizer, "padding_side", side)
        options, lengths = {"max_seq_len": 24, "doc_stride": 4, "top_k": 5, "handle_impossible_answer": True}, []
        alone = pipe(question="Who follows?", context=LONG, **options)

        def note(model, _, given, lengths=lengths):
            lengths.append(given["input_ids"].shape[1])

        hook = pipe.model.register_forward_pre_hook(note, with_kwargs=True)
        padded = pipe(question="Who follows?", context=LONG, padding=padding, **options)
        hook.remove()
        assert {*lengths} == {24}
        assert padded == [one | {"score": pytest.approx(one["score"], abs=1e-6)} for one in alone]


def test_a_long_question_is_cut_with_a_warning(tiny_tokenizer, caplog):
    """At 64 tokens, as transformers before 5.3 says, or at max_question_len."""
    sizes = {**BERT.tiny, "vocab_size": len(tiny_tokenizer), "num_labels": 2, "max_position_embeddings": 100}
    model = hf_lineage.BERTForQuestionAnswering(hf_lineage.BERTConfig(**sizes)).eval()
    pipe = pipeline("question-answering", model=model, tokenizer=tiny_tokenizer, device="cpu")
    context = "Emil remembers the lantern."
    for options, tokens in (({}, 64), ({"max_question_len": 5}, 5)):
        caplog.clear()
        with caplog.at_level("WARNING"):
            short = pipe(question="the " * tokens, context=context, max_seq_len=100, doc_stride=0, **options)
            assert "question has" not in caplog.text
            cut = pipe(question="the " * 160, context=context, max_seq_len=100, doc_stride=0, **options)
        assert f"the question has 160 tokens; the model reads the first {tokens} (" in caplog.text
        assert cut == short | {"score": pytest.approx(short["score"], abs=1e-6)}


def test_questions_by_keyword(answering):
    ours, others = (
        pipe(question=["Who follows?", "Who remembers?"], context=LONG, max_seq_len=24, doc_stride=4)
        for pipe in answering
    )
    assert len(ours) == 2
    for answer, other in zip(ours, others, strict=True):
        assert answer == other | {"score": pytest.approx(other["score"], abs=1e-5)}
        assert LONG[answer["start"] : answer["end"]] == answer["answer"]


@pytest.mark.parametrize(
    ("inputs", "options", "message"),
    [
        ({"question": "Who?", "context": " "}, {}, "context is ' '"),
        ({"question": "Who?"}, {}, "context is None"),
        (
            {"question": "Who follows the dog?", "context": LONG},
            {"max_seq_len": 9, "doc_stride": 6},
            "doc_stride is 6.*max_question_len",
        ),
        ({"question": "Who?", "context": LONG}, {"top_k": 0}, "top_k is 0"),
        ({"question": "Who?", "context": LONG}, {"max_question_len": 0}, "max_question_len is 0"),
        ({"question": "Who?", "context": LONG}, {"max_answer_len": 0}, "max_answer_len is 0"),
    ],
)
def test_bad_questions_are_named(answering, inputs, options, message):
    with pytest.raises(ValueError, match=message):
        answering[0](inputs, **options)


def test_bad_choices_are_named(tiny_tokenizer):
    config = hf_lineage.BERTConfig(**{**BERT.tiny, "vocab_size": len(tiny_tokenizer)})
    model = hf_lineage.BERTForMultipleChoice(config).eval()
    pipe = pipeline("multiple-choice", model=model, tokenizer=tiny_tokenizer, device="cpu")
    BERT().check_multiple_choice(pipe, ["The dog", "Ada watches the quiet river near the harbour.", "Vera paints"])
    for choices, message in ((["one"], r"choices is \['one'\]"), (["one", ""], r"choices\[1\] is ''")):
        with pytest.raises(ValueError, match=message):
            pipe({"text": "The dog", "choices": choices})
    with pytest.raises(ValueError, match="top_k is 0"):
        pipe({"text": "The dog", "choices": ["one", "two"]}, top_k=0)


def test_travels_with_the_model(answering, tmp_path):
    answering[0].save_pretrained(tmp_path / "saved")
    question = {"question": "Who follows?", "context": LONG}
    options = {"max_seq_len": 24, "doc_stride": 4}
    script = f"""
import json, sys
sys.modules["hf_lineage"] = None
from transformers import pipeline
pipe = pipeline("lineage-question-answering", model={str(tmp_path / "saved")!r}, device="cpu", trust_remote_code=True)
print(json.dumps(pipe({question!r}, **{options!r})))
"""
    config = json.loads((tmp_path / "saved" / "config.json").read_text())
    task = next(iter(config["custom_pipelines"]))
    script = script.replace("lineage-question-answering", task)
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 0, result.stderr[-2000:]
    expected = answering[0](question, **options)
    assert json.loads(result.stdout) == expected | {"score": pytest.approx(expected["score"], abs=1e-6)}
