"""Questions whose answers are spans of a text: SQuAD's files, and the rows that the heads read."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import datasets

from hf_lineage.data.labelled_files import files_of_splits, read_labelled, read_labelled_file
from hf_lineage.files import CorpusError, read_text


@dataclass(frozen=True)
class Question:
    """A question, its text, and its answers: (text, first character); none if the text does not answer it."""

    id: str
    question: str
    context: str
    answers: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Window:
    """What one row shows of a question's text.

    `question` is the number of the question, `offsets` [T] the characters (first, behind the last) of each token of
    the text, None for others; `null` is the token that stands for "no answer".
    """

    question: int
    offsets: list[tuple[int, int] | None]
    null: int


def read_questions(
    source: str | os.PathLike | Mapping[str, str | os.PathLike], *, encoding: str = "utf-8"
) -> dict[str, list[Question]]:
    """The questions of each split.

    `source` is as for `read_labelled`. A .json file may be SQuAD's own (v1.1 or v2.0); all others have the columns
    question, context, answers {"text": […], "answer_start": […]} and, if they have names, id. An answer without
    answer_start is looked for in the text.

    Raises:
        CorpusError: a file cannot be read, a column is missing, or an answer does not stand in its text where the file
            says; the error names the place.
    """
    if not isinstance(source, (str, os.PathLike)):
        return {split: _read_file(path, encoding) for split, path in source.items()}
    folder = Path(source).expanduser()
    if folder.is_dir() and (files := files_of_splits(folder)):
        return {split: [q for path in paths for q in _read_file(path, encoding)] for split, paths in files.items()}
    return {split: _of_columns(rows) for split, rows in read_labelled(source, encoding=encoding).items()}


def _read_file(path, encoding) -> list[Question]:
    if str(path).lower().endswith((".json", ".json.gz")):
        try:
            content = json.loads(read_text(path))
        except (ValueError, RecursionError):
            # JSON Lines
            content = None
        if isinstance(content, dict) and isinstance(content.get("data"), list):
            return _of_squad(path, content)
    return _of_columns(read_labelled_file(path, encoding=encoding))


def _of_squad(path, content) -> list[Question]:
    questions = []
    for a, article in enumerate(_objects(path, content, "data")):
        of_article = f"{path}, data[{a}]"
        for p, paragraph in enumerate(_objects(of_article, article, "paragraphs")):
            of_paragraph = f"{of_article}.paragraphs[{p}]"
            for q, entry in enumerate(_objects(of_paragraph, paragraph, "qas")):
                place = f"{of_paragraph}.qas[{q}]"
                answers = [] if entry.get("is_impossible") else _objects(place, entry, "answers")
                fields = {"question": entry.get("question"), "context": paragraph.get("context")}
                texts, starts = [answer.get("text") for answer in answers], [a.get("answer_start") for a in answers]
                questions.append(_question(place, str(entry.get("id", len(questions))), fields, texts, starts))
    if not questions:
        raise CorpusError(f"{path} has no questions: data[].paragraphs[].qas[] is empty")
    return questions


def _objects(place, owner: dict, name: str) -> list[dict]:
    """The JSON objects in a list of `owner`, [] if it has none of this name."""
    found = owner.get(name, [])
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise CorpusError(f"{place}: {name} is {found!r:.60}; it must be a list of JSON objects")
    return found


def _of_columns(rows) -> list[Question]:
    texts = {name: rows.texts(name) for name in ("question", "context")}
    ids = map(str, rows.column("id")) if "id" in rows.column_names else map(str, range(len(rows)))
    questions = []
    for row, (name, answers) in enumerate(zip(ids, rows.column("answers"), strict=True)):
        fields = {column: cells[row] for column, cells in texts.items()}
        place = rows.place(row)
        if not isinstance(answers, dict) or not isinstance(answers.get("text"), list):
            raise CorpusError(
                f'{place}: answers is {answers!r:.60}; it must be {{"text": […], "answer_start": […]}}, with empty '
                "lists where the text has no answer"
            )
        starts = answers.get("answer_start", [None] * len(answers["text"]))
        if len(starts) != len(answers["text"]):
            raise CorpusError(f"{place}: answers has {len(answers['text'])} texts, but {len(starts)} answer_start")
        questions.append(_question(place, name, fields, answers["text"], starts))
    return questions


def _question(place, name, fields, texts, starts) -> Question:
    for column, text in fields.items():
        # published data, such as CMRC 2018, have questions without a word
        if not isinstance(text, str) or (column == "context" and not text.strip()):
            raise CorpusError(f"{place}: the {column} is {text!r:.60}; it must be a text, and a context not empty")
    context, answers = fields["context"], []
    for text, start in zip(texts, starts, strict=True):
        if not isinstance(text, str) or not text.strip():
            raise CorpusError(f"{place}: an answer is {text!r:.60}; leave it out if the text has no answer")
        if start is None and text in context:
            start = context.index(text)
        if type(start) is not int or context[start : start + len(text)] != text or start < 0:
            where = f"it begins at {context.index(text)}" if text in context else "it stands nowhere in it"
            raise CorpusError(
                f"{place}: the answer {text!r:.60} is not in its context at answer_start {start}; {where}"
            )
        answers.append((text, start))
    return Question(name, fields["question"], context, tuple(answers))


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
        ValueError: `stride` leaves no room for new tokens.
    """
    marks = tokenizer.num_special_tokens_to_add(pair=True)
    room = max_length - max_question_length - marks
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
