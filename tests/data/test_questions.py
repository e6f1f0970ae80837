"""Questions and answers: SQuAD's files and rows, and the tokens that stand for an answer."""

import csv
import json

import datasets
import pytest

from hf_lineage.data import question_rows, read_questions, without_secret_test
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


def write_squad(folder, **splits):
    for split, entries in splits.items():
        (folder / f"{split}.json").write_text(squad(*entries))
    return folder


WITHOUT = {"id": "1", "question": "Whom?"}


@pytest.mark.parametrize("split", ["train", "validation"])
@pytest.mark.parametrize(
    "entry", [WITHOUT, {**WITHOUT, "answers": None}, {**WITHOUT, "answers": [], "is_impossible": False}]
)
def test_missing_answers_are_not_taken_for_none(tmp_path, split, entry):
    write_squad(tmp_path, **{"train": ENTRIES, "validation": ENTRIES, split: [ENTRIES[1], entry]})
    with pytest.raises(CorpusError, match=rf"{split}\.json, .*qas\[1\]: the answers are missing.*is_impossible"):
        read_questions(tmp_path)


@pytest.mark.parametrize(
    "entry", [WITHOUT, {**WITHOUT, "answers": []}, {**WITHOUT, "answers": [], "is_impossible": False}]
)
def test_secret_answers_of_a_test_split_are_said(tmp_path, capsys, entry):
    write_squad(tmp_path, train=ENTRIES, validation=ENTRIES, test=[entry, {**entry, "id": "2"}])
    splits = read_questions(tmp_path)
    assert [question.answers for question in splits["test"]] == [None, None]
    assert "The split test has no answers and is not scored" in capsys.readouterr().out
    assert list(without_secret_test(splits, lambda question: question.answers)) == ["train", "validation"]
    with pytest.raises(ValueError, match="validation split are secret: set validation_split"):
        without_secret_test({"validation": splits["test"]}, lambda question: question.answers)


def test_a_question_that_cannot_be_answered_is_no_secret(tmp_path, capsys):
    impossible = {**WITHOUT, "is_impossible": True}
    write_squad(tmp_path, train=[impossible], validation=ENTRIES, test=[impossible, {**ENTRIES[0], "id": "2"}])
    splits = read_questions(tmp_path)
    assert splits["train"][0].answers == splits["test"][0].answers == ()
    assert not capsys.readouterr().out


def test_a_partly_secret_test_split_is_named(tmp_path):
    write_squad(tmp_path, train=ENTRIES, test=[*ENTRIES, {**WITHOUT, "id": "3"}])
    with pytest.raises(CorpusError, match=r"test\.json, .*qas\[2\].*other questions of the test split have theirs"):
        read_questions(tmp_path)


def test_a_test_split_without_the_column_says_which_it_has(tmp_path, capsys):
    row = {"question": "Whom?", "context": CONTEXT}
    (tmp_path / "train.jsonl").write_text(json.dumps({**row, "answers": {"text": ["Ada"]}}))
    (tmp_path / "test.jsonl").write_text(json.dumps({**row, "Answers": {"text": ["Ada"]}}))
    assert read_questions(tmp_path)["test"][0].answers is None
    assert "there is no column 'answers'; it has question, context, Answers" in capsys.readouterr().out
    (tmp_path / "dev.jsonl").write_text(json.dumps(row))
    with pytest.raises(CorpusError, match=r"dev\.jsonl, line 1: .*'answers' \(answers_field\)"):
        read_questions(tmp_path)


def test_ids_are_different(tmp_path):
    write_squad(tmp_path, train=[ENTRIES[0], {**ENTRIES[1], "id": "1"}])
    with pytest.raises(CorpusError, match=r"qas\[1\]: the id '1' is also in .*qas\[0\]"):
        read_questions(tmp_path)


def test_questions_without_ids_get_some_over_all_shards_and_splits(tmp_path):
    row = json.dumps({"question": "Whom?", "context": CONTEXT, "answers": {"text": ["Ada"]}})
    for name in ("train-00000-of-00002", "train-00001-of-00002", "validation"):
        (tmp_path / f"{name}.jsonl").write_text(f"{row}\n{row}\n")
    ids = [question.id for questions in read_questions(tmp_path).values() for question in questions]
    assert len(set(ids)) == 6


ROWS = [
    {"question": "Whom?", "context": CONTEXT, "texts": ["the yellow dog", "dog"], "starts": [12, 23]},
    {"question": "Where?", "context": CONTEXT, "texts": [], "starts": []},
]


def write_rows(folder, ending, rows, split="train"):
    """A row per dictionary, as pandas or datasets write it; lists and objects are JSON in CSV."""
    path = folder / f"{split}.{ending}"
    if ending in ("csv", "tsv"):
        with open(path, "w", newline="", encoding="utf-8") as file:
            table = csv.writer(file, delimiter="\t" if ending == "tsv" else ",")
            table.writerow(rows[0])
            for row in rows:
                table.writerow(
                    json.dumps(c, ensure_ascii=False) if isinstance(c, (dict, list)) else c for c in row.values()
                )
    elif ending == "parquet":
        datasets.Dataset.from_list(rows).to_parquet(path)
    else:
        path.write_text("\n".join(map(json.dumps, rows)) if ending == "jsonl" else json.dumps(rows))
    return path


@pytest.mark.parametrize("ending", ["jsonl", "json", "csv", "tsv", "parquet"])
@pytest.mark.parametrize("form", ["lists", "objects", "flat"])
def test_every_format_has_every_form_of_answers(tmp_path, ending, form):
    def row(one):
        pairs = [
            {"text": text, "answer_start": start} for text, start in zip(one["texts"], one["starts"], strict=True)
        ]
        answers = {
            "lists": {"gold": {"text": one["texts"], "answer_start": one["starts"]}},
            "objects": {"gold": pairs},
            # a number in a column that also has none is a text in CSV
            "flat": {"gold": "".join(one["texts"][:1]), "answer_start": (one["starts"] or [None])[0]},
        }
        return {"asked": one["question"], "passage": one["context"], **answers[form]}

    path = write_rows(tmp_path, ending, list(map(row, ROWS)))
    first, second = read_questions({"train": path}, "asked", "passage", "gold")["train"]
    assert (first.question, first.context) == ("Whom?", CONTEXT)
    assert first.answers == (("the yellow dog", 12), ("dog", 23))[: 1 if form == "flat" else 2]
    assert second.answers == ()


def test_the_usual_columns_are_found(tmp_path):
    row = {"question": "Whom?", "context": CONTEXT, "answer": "dog", "answer_start": "23"}
    [found] = read_questions({"train": write_rows(tmp_path, "csv", [row])})["train"]
    assert found.answers == (("dog", 23),)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"question": "Whom?", "context": CONTEXT, "answers": "{'text': ['dog']}"},
            "line 2, .*'answers'.*double quotes",
        ),
        ({"question": "Whom?", "context": CONTEXT, "answers": '{"text": "dog"}'}, "line 2: answers is"),
        (
            {"question": "Whom?", "context": CONTEXT, "answers": '{"text": ["dog"], "answer_start": 3}'},
            "1 texts, but 3",
        ),
        (
            {"question": "Whom?", "context": CONTEXT, "answer": "dog", "answer_start": "x"},
            "in answer, .*answer_start x",
        ),
        (
            {"query": "Whom?", "context": CONTEXT, "answer": "dog"},
            "'question' .question_field.*query, context, answer",
        ),
        ({"question": "Whom?", "passage": CONTEXT, "answer": "dog"}, "'context' .context_field"),
        ({"question": "Whom?", "context": CONTEXT, "gold": "dog"}, "'answers' .answers_field.*: set answers_field"),
    ],
)
def test_bad_rows_are_named(tmp_path, row, message):
    with pytest.raises(CorpusError, match=rf"train\.csv, .*{message}"):
        read_questions({"train": write_rows(tmp_path, "csv", [row])})


def test_the_columns_are_different(tmp_path):
    with pytest.raises(CorpusError, match="question_field is question, context_field question"):
        read_questions(tmp_path, context_field="question")


@pytest.mark.parametrize("indent", [None, 1])
def test_a_file_that_is_cut_off_says_so(tmp_path, indent):
    text = json.dumps(json.loads(squad(*ENTRIES)), indent=indent)
    for kept in (len(text) // 2, len(text) - 1):
        (tmp_path / "train.json").write_text(text[:kept])
        with pytest.raises(CorpusError, match=r"train\.json: not JSON .*cut off: fetch") as error:
            read_questions(tmp_path)
        assert "each line" not in str(error.value)


def test_files_of_squad_have_an_encoding(tmp_path):
    (tmp_path / "train.json").write_bytes(squad(*ENTRIES).encode().decode("unicode_escape").encode("utf-16"))
    [first, _] = read_questions({"train": tmp_path / "train.json"}, encoding="utf-16")["train"]
    assert first.context == CONTEXT


def test_short_rows_name_what_was_given(tmp_path, tiny_tokenizer):
    (tmp_path / "train.json").write_text(squad(*ENTRIES))
    questions = read_questions(tmp_path)["train"]
    with pytest.raises(ValueError, match="max_length is 60 .*max_question_length 64.* at least 68") as error:
        question_rows(tiny_tokenizer, questions, 60)
    assert "stride" not in str(error.value)
    rows, _ = question_rows(tiny_tokenizer, questions, 68)
    assert max(map(len, rows["input_ids"])) <= 68
