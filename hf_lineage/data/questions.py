"""Questions whose answers are spans of a text: SQuAD's files, and the rows that the heads read."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import datasets
from accelerate import PartialState

from hf_lineage.data.labelled_files import (
    LabelledRows,
    files_of_splits,
    lines_of,
    parse_json,
    read_labelled,
    read_labelled_file,
    why_secret,
)
from hf_lineage.files import CorpusError


# columns with the answers, tried in this order
ANSWERS_FIELDS = ("answers", "answer")
# where the text of an answer has a column of its own, its first character is in this one
START_FIELD = "answer_start"


@dataclass(frozen=True)
class Question:
    """A question, its text, and its answers: (text, first character); none if the text does not answer it.

    `answers` is None where they are secret.
    """

    id: str
    question: str
    context: str
    answers: tuple[tuple[str, int], ...] | None


@dataclass(frozen=True)
class Window:
    """What one row shows of a question's text.

    `question` is the number of the question, `offsets` [T] the characters (first, behind the last) of each token of
    the text, None for others; `null` is the token that stands for "no answer".
    """

    question: int
    offsets: list[tuple[int, int] | None]
    null: int


@dataclass(frozen=True)
class _Columns:
    question: str
    context: str
    answers: str | None


def read_questions(
    source: str | os.PathLike | Mapping[str, str | os.PathLike],
    question_field: str = "question",
    context_field: str = "context",
    answers_field: str | None = None,
    *,
    encoding: str = "utf-8",
) -> dict[str, list[Question]]:
    """The questions of each split.

    `source` is as for `read_labelled`. A .json file may be SQuAD's own (v1.1 or v2.0); all others have columns with
    the question, its text, the answers and, if they have names, id. The answers are {"text": […], "answer_start":
    […]}, which CSV has as JSON, or one text, whose first character is in the column answer_start; empty lists, and no
    text, mean that the text has no answer. `answers_field` is by default answers or else answer. An answer without
    answer_start is looked for in the text. A question without an id has its split and number: validation-0.

    A test split may have no answers. Its questions then have the answers None, and a printed line says so.

    Raises:
        CorpusError: a file cannot be read, a column is missing, answers are missing in training, in validation or in
            some test questions, an answer does not stand in its text where the file says, or two questions of a split
            have the same id; the error names the place.
    """
    columns = _Columns(question_field, context_field, answers_field)
    if len({question_field, context_field, answers_field}) < 3:
        raise CorpusError(
            f"question_field is {question_field}, context_field {context_field}, and answers_field {answers_field}: "
            "give different columns"
        )
    if not isinstance(source, (str, os.PathLike)):
        files = {split: [path] for split, path in source.items()}
    else:
        folder = Path(source).expanduser()
        files = files_of_splits(folder) if folder.is_dir() else {}
    found, whys = {}, {}
    for split, paths in files.items():
        parts = [_read_file(path, encoding, columns, split) for path in paths]
        found[split] = [placed for placed, _ in parts for placed in placed]
        whys[split] = parts[0][1]
    if not files:
        for split, rows in read_labelled(source, encoding=encoding).items():
            found[split], whys[split] = _of_columns(rows, columns, split)
    return {split: _checked(split, placed, whys[split]) for split, placed in found.items()}


def _checked(split: str, placed: list[tuple[str, Question]], why: str) -> list[Question]:
    """The questions of a split, each with an id of its own; `placed` are (place, question)."""
    secret = [(place, question) for place, question in placed if question.answers is None]
    if secret and (split != "test" or len(secret) < len(placed)):
        others = ", but other questions of the test split have theirs" if split == "test" else ""
        raise CorpusError(
            f"{secret[0][0]}: the answers are missing{others}: write them, or say that there are none (an empty list, "
            'and in a .json of SQuAD "is_impossible": true), or leave the question out'
        )
    questions = [question for _, question in placed]
    if split == "test" and questions and not any(question.answers for question in questions):
        # public test sets hide their answers so, too
        why = why if secret else "none of its questions has an answer"
        PartialState().print(f"The split test has no answers and is not scored: {why}")
        questions = [replace(question, answers=None) for question in questions]
    places: dict[str, str] = {}
    for number, (place, question) in enumerate(placed):
        name = question.id or f"{split}-{number}"
        if name in places:
            raise CorpusError(f"{place}: the id {name!r} is also in {places[name]}: give each question its own id")
        places[name] = place
        questions[number] = replace(questions[number], id=name)
    return questions


def _read_file(path, encoding, columns, split) -> tuple[list[tuple[str, Question]], str]:
    if str(path).lower().endswith((".json", ".json.gz")) and Path(path).is_file():
        content = _object_in(path, encoding)
        if content is not None and isinstance(content.get("data"), list):
            return _of_squad(path, content), "none of its questions has answers"
    return _of_columns(read_labelled_file(path, encoding=encoding), columns, split)


def _object_in(path, encoding) -> dict | None:
    """What a .json file is, if that is one object; None for a list, and for a row per line."""
    lines = [line for line in lines_of(path, encoding) if line.strip()]
    if not lines or not lines[0].lstrip().startswith("{"):
        return None
    try:
        first = json.loads(lines[0])
    except (ValueError, RecursionError):
        # an object in several lines
        return parse_json(
            str(path), "\n".join(lines), "it must be SQuAD's own file, a list of rows, or a row per line"
        )
    return first if len(lines) == 1 else None


def _of_squad(path, content) -> list[tuple[str, Question]]:
    placed = []
    for a, article in enumerate(_objects(path, content, "data")):
        of_article = f"{path}, data[{a}]"
        for p, paragraph in enumerate(_objects(of_article, article, "paragraphs")):
            of_paragraph = f"{of_article}.paragraphs[{p}]"
            for q, entry in enumerate(_objects(of_paragraph, paragraph, "qas")):
                place = f"{of_paragraph}.qas[{q}]"
                answers = None if entry.get("answers") is None else _objects(place, entry, "answers")
                if entry.get("is_impossible"):
                    answers = []
                elif "is_impossible" in entry and not answers:
                    # the file says that there are some
                    answers = None
                fields = {"question": entry.get("question"), "context": paragraph.get("context")}
                found = None if answers is None else _texts_and_starts(answers)
                placed.append((place, _question(place, entry.get("id"), fields, found, "answers")))
    if not placed:
        raise CorpusError(f"{path} has no questions: data[].paragraphs[].qas[] is empty; write some, or leave it out")
    return placed


def _objects(place, owner: dict, name: str) -> list[dict]:
    """The JSON objects in a list of `owner`, [] if it has none of this name."""
    found = owner.get(name, [])
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise CorpusError(f"{place}: {name} is {found!r:.60}; it must be a list of JSON objects")
    return found


def _texts_and_starts(answers: list[dict]) -> tuple[list, list]:
    return [answer.get("text") for answer in answers], [answer.get("answer_start") for answer in answers]


def _of_columns(rows: LabelledRows, columns: _Columns, split: str) -> tuple[list[tuple[str, Question]], str]:
    """(place, question) of each row, and why the split has no answers if it is the test split and has none."""
    names = {"question": columns.question, "context": columns.context}
    texts = {name: rows.texts(column, f"{name}_field") for name, column in names.items()}
    ids = rows.column("id") if "id" in rows.column_names else [None] * len(rows)
    field = columns.answers or next((name for name in ANSWERS_FIELDS if name in rows.column_names), ANSWERS_FIELDS[0])
    # the answers of public test sets may be secret
    is_secret = split == "test" and field not in rows.column_names
    cells: list = [None] * len(rows) if is_secret else rows.column(field, "answers_field")
    # of a column of JSON, a cell without text is missing, not a question without an answer
    are_json = rows.are_texts and any(map(_begins_as_json, cells))
    placed = []
    for row, name in enumerate(ids):
        fields = {column: of_column[row] for column, of_column in texts.items()}
        is_missing = cells[row] is None or (are_json and not cells[row].strip())
        answers = None if is_missing else _answers(rows, row, field, are_json)
        placed.append((rows.place(row), _question(rows.place(row), name, fields, answers, field)))
    return placed, why_secret(rows, field)


def _begins_as_json(cell) -> bool:
    return isinstance(cell, str) and cell.lstrip().startswith(("{", "[{"))


def _answers(rows: LabelledRows, row: int, field: str, are_json: bool) -> tuple[list, list]:
    """The texts and first characters of a row's answers."""
    cell = rows.json_cell(row, field) if are_json else rows.column(field)[row]
    if isinstance(cell, list) and all(isinstance(answer, dict) for answer in cell):
        return _texts_and_starts(cell)
    if isinstance(cell, str) and not are_json:
        start = rows.column(START_FIELD)[row] if START_FIELD in rows.column_names else None
        if isinstance(start, str):
            start = int(start) if start.strip().isdecimal() else start.strip() or None
        return ([cell], [start]) if cell.strip() else ([], [])
    if not isinstance(cell, dict) or not isinstance(cell.get("text"), list):
        raise CorpusError(
            f'{rows.place(row)}: {field} is {cell!r:.60}; it must be {{"text": […], "answer_start": […]}}, with empty '
            f"lists where the text has no answer, or a text, with its first character in a column {START_FIELD}"
        )
    texts = cell["text"]
    starts = cell.get("answer_start", [None] * len(texts))
    if not isinstance(starts, list) or len(starts) != len(texts):
        number = len(starts) if isinstance(starts, list) else repr(starts)
        raise CorpusError(
            f"{rows.place(row)}: {field} has {len(texts)} texts, but {number} answer_start: write one for each, or "
            "none at all"
        )
    return texts, starts


def _question(place, name, fields, answers, column) -> Question:
    """`answers` are texts and first characters, or None; `column` is what holds them."""
    for field, text in fields.items():
        # published data, such as CMRC 2018, have questions without a word
        if not isinstance(text, str) or (field == "context" and not text.strip()):
            raise CorpusError(f"{place}: the {field} is {text!r:.60}; it must be a text, and a context not empty")
    context, found = fields["context"], []
    for text, start in zip(*(answers or ((), ())), strict=True):
        if not isinstance(text, str) or not text.strip():
            raise CorpusError(
                f"{place}: an answer is {text!r:.60} in {column}; leave it out if the text has no answer"
            )
        if start is None and text in context:
            start = context.index(text)
        if type(start) is not int or context[start : start + len(text)] != text or start < 0:
            where = "it stands nowhere in it: correct the answer, or leave the question out"
            if text in context:
                where = f"it begins at {context.index(text)}: write this number, or leave answer_start out"
            raise CorpusError(
                f"{place}: in {column}, the answer {text!r:.60} is not in its context at answer_start {start}; {where}"
            )
        found.append((text, start))
    # a missing id is made from the split and the number of the question
    name = "" if name is None else str(name)
    return Question(name, fields["question"], context, None if answers is None else tuple(found))


def question_rows(
    tokenizer,
    questions: Sequence[Question],
    max_length: int = 384,
    stride: int | None = None,
    max_question_length: int = 64,
    batch_size: int = 1_000,
) -> tuple[datasets.Dataset, list[Window]]:
    """Question and text as one row of at most `max_length` tokens; long texts in several, which overlap by `stride`.

    A question is cut after `max_question_length` tokens. `stride` None is 128 or, in short rows, half of the room for
    the text. The rows have the tokenizer's fields, start_positions and end_positions of the first answer; where a row
    does not hold it all, both are the row's `null`: the tokenizer's cls_token if it has one, else the first token.

    Raises:
        ValueError: `max_length` leaves no room for the text beside a question, or `stride` none for new tokens.
    """
    marks = tokenizer.num_special_tokens_to_add(pair=True)
    room = max_length - max_question_length - marks
    if room < 1:
        raise ValueError(
            f"max_length is {max_length} (at most what the model reads), max_question_length {max_question_length}, "
            f"and a row has {marks} marks, which leaves no token for the text: max_length must be at least "
            f"{max_question_length + marks + 1}, or max_question_length less"
        )
    if stride is None:
        stride = 128 if room > 128 else room // 2
    if not 0 <= stride < room:
        raise ValueError(
            f"stride is {stride}; it must lie between 0 and {room - 1}: below max_length {max_length} less "
            f"max_question_length {max_question_length} and {marks} marks"
        )
    columns, windows = {}, []
    for begin in range(0, len(questions), batch_size):
        batch = questions[begin : begin + batch_size]
        # blanks at the start would take tokens of their own
        asked = [_cut(tokenizer, question.question.lstrip(), max_question_length) for question in batch]
        encoded = tokenizer(
            asked,
            [question.context for question in batch],
            truncation="only_second",
            max_length=max_length,
            stride=stride,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
        )
        numbers, offsets = encoded.pop("overflow_to_sample_mapping"), encoded.pop("offset_mapping")
        for row, number in enumerate(numbers):
            sides, ids = encoded.sequence_ids(row), encoded["input_ids"][row]
            of_text = [tuple(o) if side == 1 else None for o, side in zip(offsets[row], sides, strict=True)]
            null = ids.index(tokenizer.cls_token_id) if tokenizer.cls_token_id in ids else 0
            windows.append(Window(begin + number, of_text, null))
            first, last = _tokens_of_answer(batch[number], of_text) or (null, null)
            columns.setdefault("start_positions", []).append(first)
            columns.setdefault("end_positions", []).append(last)
        for name, cells in encoded.items():
            columns.setdefault(name, []).extend(cells)
    return datasets.Dataset.from_dict(columns), windows


def _cut(tokenizer, text: str, length: int) -> str:
    offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    return text if len(offsets) <= length else text[: offsets[length - 1][1]]


def _tokens_of_answer(question: Question, offsets) -> tuple[int, int] | None:
    """The first and last token of the first answer, if the row has all of it."""
    if not question.answers:
        return None
    text, begin = question.answers[0]
    end = begin + len(text)
    shown = [(place, *span) for place, span in enumerate(offsets) if span is not None and span[0] < span[1]]
    inside = [place for place, first, behind in shown if first < end and behind > begin]
    if not inside or shown[0][1] > begin or shown[-1][2] < end:
        return None
    return inside[0], inside[-1]
