"""Turns the inputs of any task into texts (Radford et al., 2018, section 3.3 and figure 1).

A text becomes `start text extract`, an ordered pair `start first delimiter second extract`. A linear layer then reads
the model's vector at the extract token.
"""

from collections.abc import Mapping
from typing import Literal

import torch
from tokenizers import processors
from transformers import PreTrainedTokenizerFast


START, DELIMITER, EXTRACT = "_start_", "_delimiter_", "_classify_"
# task -> number of columns it reads
TASKS = {"classification": (1,), "entailment": (2,), "similarity": (2,), "multiple_choice": (2, 3)}


def task_tokenizer(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """A copy that puts the start, delimiter and extract tokens around texts: `tokenizer(text)`, `tokenizer(a, b)`.

    They are new tokens at the end of the vocabulary: `model.resize_token_embeddings(len(tokenizer),
    mean_resizing=False)` gives the model vectors for them, drawn like the others. Without a pad_token, the start token
    pads, on the right.
    """
    copied = PreTrainedTokenizerFast(
        tokenizer_object=type(tokenizer.backend_tokenizer).from_str(tokenizer.backend_tokenizer.to_str()),
        model_input_names=["input_ids", "attention_mask"],
        model_max_length=tokenizer.model_max_length,
        padding_side="right",
        **tokenizer.special_tokens_map | {"bos_token": START, "sep_token": DELIMITER, "cls_token": EXTRACT},
    )
    if copied.pad_token is None:
        copied.pad_token = START
    copied.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {EXTRACT}",
        pair=f"{START} $A {DELIMITER} $B {EXTRACT}",
        special_tokens=[(token, copied.convert_tokens_to_ids(token)) for token in (START, DELIMITER, EXTRACT)],
    )
    return copied


class TaskInputs:
    """Rows of a data set -> what GPT's heads read: `dataset.map(TaskInputs(tokenizer, "entailment", columns))`.

    | task | columns | input_ids | head |
    |---|---|---|---|
    | classification | text | `[T]` | sequence classification |
    | entailment | premise, hypothesis | `[T]` | sequence classification |
    | similarity | text, text | `[2][T]`, in both orders | sequence classification, which adds their vectors |
    | multiple_choice | context, (question,) list of answers | `[C][T]` | multiple choice |

    Inputs longer than `max_length` (default: the tokenizer's model_max_length) lose the end of their longer text.
    Gives {"input_ids", "attention_mask"}; `TaskCollator` makes batches of them.

    Raises:
        ValueError: the task is unknown, the number of columns does not fit the task, or a row holds no text.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        task: Literal["classification", "entailment", "similarity", "multiple_choice"],
        columns: list[str] | tuple[str, ...],
        max_length: int | None = None,
    ):
        if task not in TASKS:
            raise ValueError(f"task is {task!r}; it must be one of {', '.join(TASKS)}")
        if isinstance(columns, str) or len(columns) not in TASKS[task]:
            wanted = " or ".join(map(str, TASKS[task]))
            raise ValueError(f"columns is {columns!r}; {task} reads {wanted} columns, in a list")
        self.tokenizer = tokenizer if tokenizer.cls_token == EXTRACT else task_tokenizer(tokenizer)
        self.task = task
        self.columns = tuple(columns)
        self.max_length = max_length

    def __call__(self, row: Mapping) -> dict[str, list]:
        values = [row[column] for column in self.columns]
        if self.task == "multiple_choice":
            *context, answers = values
            if isinstance(answers, str) or not answers:
                raise ValueError(f"column {self.columns[-1]} holds {answers!r:.60}, not a list of answers")
            texts = ([" ".join(map(self._text, context))] * len(answers), [self._text(answer) for answer in answers])
        else:
            texts = tuple(map(self._text, values))
            if self.task == "similarity":
                texts = (list(texts), list(reversed(texts)))
        encoded = self.tokenizer(*texts, truncation=True, max_length=self.max_length)
        return {"input_ids": encoded["input_ids"], "attention_mask": encoded["attention_mask"]}

    def _text(self, value) -> str:
        if not isinstance(value, str):
            raise ValueError(f"{value!r:.60} ({type(value).__name__}) in columns {self.columns} is not text")
        return value


class TaskCollator:
    """Pads what tokenizers or `TaskInputs` give to input_ids, attention_mask, … [B, T], or [B, C, T] of C texts each.

    It refuses questions with different numbers of answers, since a padded answer could be chosen. "label" becomes
    "labels"; everything else is stacked.

    Raises:
        ValueError: the examples of a batch have different numbers of texts.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast):
        self.pad_token_id = tokenizer.pad_token_id

    def __call__(self, examples: list[dict]) -> dict[str, torch.Tensor]:
        nested = isinstance(examples[0]["input_ids"][0], list)
        counts = {len(example["input_ids"]) for example in examples} if nested else {1}
        if len(counts) > 1:
            raise ValueError(
                f"the examples of a batch have {sorted(counts)} texts each; all must have the same number"
            )
        lead = (len(examples), *counts) if nested else (len(examples),)
        batch = {}
        for name in examples[0]:
            values = [example[name] for example in examples]
            if name in ("input_ids", "attention_mask", "token_type_ids", "char_ids"):
                rows = [torch.tensor(row) for value in values for row in (value if nested else [value])]
                padding = self.pad_token_id if name == "input_ids" else 0
                padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=padding)
                batch[name] = padded.unflatten(0, lead)
            else:
                batch["labels" if name == "label" else name] = torch.tensor(values)
        return batch
