"""Questions and answers: SQuAD's files and rows, and the tokens that stand for an answer."""

import json

import pytest

from hf_lineage.data import question_rows, read_questions
from hf_lineage.files import CorpusError


CONTEXT = "Ada follows the yellow dog near the harbour. 她在河边画画。"


def squad(*entries):
    return json.dumps(
        {"version": "v2.0", "data": [{"title": "t", "paragraphs": [{"context": CONTEXT, "qas": entries}]}]}
    )


ENTRIES = [
    {
        "id": "1",
        "question": "Whom?",
        "answers": [{"text": "the yellow dog", "answer_start": 12}],
        "is_impossible": False,
    },
    {"id": "2", "question": "Where?", "answers": [], "is_impossible": True},
]


def test_files_of_squad_are_rows_with_columns(tmp_path):
    # pretty-printed or in one line
    (tmp_path / "train.json").write_text(json.dumps(json.loads(squad(*ENTRIES)), indent=1))
    (tmp_path / "dev.json").write_text(squad(*ENTRIES))
    rows = [
        {"id": "1", "question": "Whom?", "answers": {"text": ["the yellow dog"], "answer_start": [12]}},
        # looked for
        {"id": "2", "question": "Where?", "answers": {"text": []}},
    ]
    lines = "\n".join(json.dumps({**row, "context": CONTEXT}) for row in rows)
    (tmp_path / "test.jsonl").write_text(lines)
    splits = read_questions(tmp_path)
    assert list(splits) == ["train", "validation", "test"]
    assert splits["train"] == splits["validation"] == splits["test"]
    assert splits["train"][0].answers == (("the yellow dog", 12),)
    assert splits["train"][1].answers == ()


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            {"answers": [{"text": "the yellow dog", "answer_start": 11}]},
            r"qas\[0\].*yellow dog.*answer_start 11.*at 12",
        ),
        ({"answers": [{"text": "the red dog", "answer_start": 12}]}, "red dog.*nowhere"),
        ({"answers": [{"text": "", "answer_start": 0}]}, "an answer is ''"),
        ({"question": 3, "answers": []}, "question is 3"),
    ],
)
def test_answers_that_are_not_in_their_text_are_named(tmp_path, entry, message):
    (tmp_path / "train.json").write_text(squad({"id": "1", "question": "Whom?", **entry}))
    with pytest.raises(CorpusError, match=rf"train\.json, .*{message}"):
        read_questions({"train": tmp_path / "train.json"})


def test_a_question_may_be_empty(tmp_path):
    """As one of CMRC 2018 is."""
    (tmp_path / "train.json").write_text(squad({"id": "1", "question": "", "answers": []}))
    [found] = read_questions({"train": tmp_path / "train.json"})["train"]
    assert found.question == ""


def test_rows_hold_the_answer_or_say_that_they_do_not(tmp_path, tiny_tokenizer):
    (tmp_path / "train.json").write_text(squad(*ENTRIES))
    [first, second] = read_questions({"train": tmp_path / "train.json"})["train"]
    rows, windows = question_rows(tiny_tokenizer, [first, second], 16, 4, 4)
    assert len(rows) == len(windows) > 4
    held = 0
    for row, window in zip(rows, windows, strict=True):
        assert len(row["input_ids"]) == len(window.offsets) <= 16
        assert row["input_ids"][window.null] == tiny_tokenizer.cls_token_id
        start, end = row["start_positions"], row["end_positions"]
        spans = [span for span in window.offsets if span]
        if window.question == 0 and spans[0][0] <= 12 and spans[-1][1] >= 26:
            assert CONTEXT[window.offsets[start][0] : window.offsets[end][1]] == "the yellow dog"
            held += 1
        else:
            assert start == end == window.null
    assert held
    # together the rows show all of the text
    shown = {
        place
        for window in windows
        if window.question == 0
        for span in window.offsets
        if span
        for place in range(*span)
    }
    assert {place for place, character in enumerate(CONTEXT) if not character.isspace()} <= shown
    with pytest.raises(ValueError, match="stride is 9;.*between 0 and 8"):
        question_rows(tiny_tokenizer, [first], 16, 9, 4)
    # without a stride, half of the 9 tokens of text
    by_default, _ = question_rows(tiny_tokenizer, [first], 16, max_question_length=4)
    by_number, _ = question_rows(tiny_tokenizer, [first], 16, 4, 4)
    assert by_default["input_ids"] == by_number["input_ids"]


def test_a_deep_file_is_named(tmp_path):
    path = tmp_path / "deep.json"
    path.write_text("[" * 100_000 + "]" * 100_000)
    with pytest.raises(CorpusError, match=r"deep\.json"):
        read_questions({"train": path})
