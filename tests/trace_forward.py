"""How far a reader of one training step walks: a traced forward, loss included, of each station's main head.

    python tests/trace_forward.py

The first table: the rooms (files of hf_lineage/models) that the forward enters; the moves between rooms, there by a
call and back by a return; the functions entered; the lines of the .py files that its checkpoint carries, without its
pipelines. A reader skips fast paths (fast_*.py), whose result is that of the paper's lines: their rooms stand in a
column of their own, and count nowhere else. He does not see what transformers reads of a configuration either
(`attention_in_use`). The batch is padded, and models of more than two layers have one.

The second: lines of code, and lines of idea among them, of the base model's own `forward` and of all the `forward`s
that are entered. No line of code are the signature, the docstring and comments. No line of idea is a statement that
returns or raises, or that names what is carried or hidden, checked or passed on (PLUMBING), nor what is under an `if`
that does. The rule is blunt: compare its numbers with its own, before and after a change.
"""

import ast
import inspect
import itertools
import re
import sys
import tempfile
import textwrap
from pathlib import Path

import torch
import transformers

from hf_lineage.models import LINEAGE


ROOMS = Path(sys.modules["hf_lineage.models"].__file__).parent
SIZES = {
    "vocab_size": 60,
    "hidden_size": 16,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "context_size": 3,
    "max_position_embeddings": 32,
}
SKIPPED = "fast_"
ATTRIBUTE_OF_CONFIGURATIONS = "attention_in_use"
# the beginnings of files that no forward reads
OF_PIPELINES = ("pipeline_", "answer_spans")
PLUMBING = re.compile(r"cache|mask|padding|seen|position_ids|seq_lens|kwargs|options|check_|output_hidden|None")


def tiny_model(config_class: type):
    """The head that the paper trains, the first after the base model, with a configuration of small sizes."""
    full = config_class()
    fields = {name: size for name, size in SIZES.items() if (getattr(full, name, None) or 0) > 1}
    if getattr(full, "num_hidden_layers", 0) > 2:
        fields["num_hidden_layers"] = 1
    head = next(name for name in config_class.auto_classes if name != "AutoModel")
    return getattr(transformers, head).from_config(config_class(**fields)).train()


def batch_for(model) -> dict:
    """Two texts of 7 and 4 words, or two words and those around them, and what to say about them."""
    ids = torch.randint(5, 60, (2, 7), generator=torch.Generator().manual_seed(0))
    if model.config.model_type == "lineage_word2vec":
        return {"input_ids": ids[:, :1], "labels": ids[:, 0], "negative_ids": ids[:, 1:4]}
    batch = {"input_ids": ids, "labels": ids, "attention_mask": (torch.arange(7) < torch.tensor([[7], [4]])).long()}
    if model.config.model_type == "lineage_bert":
        batch["next_sentence_label"] = torch.tensor([0, 1])
    if model.config.model_type == "lineage_elmo":
        batch["char_ids"] = (batch.pop("input_ids")[..., None] + torch.arange(50)) % 200 + 1
    return batch


def trace(model) -> tuple[list, list]:
    """The code objects of ROOMS that a forward enters, and those that it is in, one after the other."""
    batch, stack, entered, walk = batch_for(model), [], [], []

    def note(frame, event, _):
        if event not in ("call", "return") or Path(frame.f_code.co_filename).parent != ROOMS:
            return
        if event == "call":
            stack.append(frame.f_code)
            entered.append(frame.f_code)
        else:
            stack.pop()
        walk.extend(stack[-1:])

    sys.setprofile(note)
    try:
        model(**batch)
    finally:
        sys.setprofile(None)
    return entered, walk


def carried_lines(model) -> int:
    """Lines of the .py files that a checkpoint holds, without fast paths."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        files = [
            path
            for path in Path(folder).glob("*.py")
            if not path.name.startswith(SKIPPED) and not path.name.startswith(OF_PIPELINES)
        ]
        return sum(len(path.read_text(encoding="utf-8").splitlines()) for path in files)


def lines_of(code) -> tuple[int, int]:
    """Lines of code of a function's body, and lines of idea among them."""
    [function] = ast.parse(textwrap.dedent(inspect.getsource(code))).body
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return sum(map(len_of, body)), sum(idea_of(statement) for statement in body)


def len_of(statement: ast.stmt) -> int:
    return statement.end_lineno - statement.lineno + 1


def idea_of(statement: ast.stmt) -> int:
    """Lines of idea in a statement; a compound one has those of what it holds, and its own first line."""
    if isinstance(statement, ast.Return | ast.Raise):
        return 0
    if not isinstance(statement, ast.If | ast.For | ast.With):
        return 0 if PLUMBING.search(ast.unparse(statement)) else len_of(statement)
    head, *_ = ast.unparse(statement).splitlines()
    if PLUMBING.search(head):
        return 0
    return 1 + sum(map(idea_of, [*statement.body, *getattr(statement, "orelse", [])]))


def is_fast(code) -> bool:
    return Path(code.co_filename).name.startswith(SKIPPED)


def is_read(code) -> bool:
    return not is_fast(code) and code.co_name != ATTRIBUTE_OF_CONFIGURATIONS


def figures_of(config_class: type) -> tuple[int, ...]:
    """The numbers of both tables: rooms, moves, functions, lines, fast rooms; lines and idea of the base, of all."""
    model = tiny_model(config_class)
    entered, walk = trace(model)
    fast_rooms = {code.co_filename for code in entered if is_fast(code)}
    entered, walk = list(filter(is_read, entered)), list(filter(is_read, walk))
    moves = sum(a.co_filename != b.co_filename for a, b in itertools.pairwise(walk))
    # by name: one function may hold several comprehensions
    functions = {(code.co_filename, code.co_qualname): code for code in entered}
    forwards = [code for code in functions.values() if code.co_name == "forward"]
    base = lines_of(inspect.unwrap(transformers.AutoModel._model_mapping[config_class].forward).__code__)
    every = [sum(lines) for lines in zip(*map(lines_of, forwards), strict=True)]
    rooms = {code.co_filename for code in entered}
    return len(rooms), moves, len(functions), carried_lines(model), len(fast_rooms), *base, *every


def main():
    transformers.utils.logging.disable_progress_bar()
    rows = [(config_class.__name__.removesuffix("Config"), *figures_of(config_class)) for config_class in LINEAGE]
    print(f"{'station':12} {'rooms':>6} {'moves':>6} {'functions':>10} {'checkpoint lines':>17} {'fast rooms':>11}")
    for name, *counts in rows:
        print(f"{name:12} {counts[0]:6} {counts[1]:6} {counts[2]:10} {counts[3]:17,} {counts[4]:11}")
    print(f"\n{'station':12} {'base model: lines':>18} {'idea':>5} {'all forwards: lines':>20} {'idea':>5}")
    for name, *counts in rows:
        print(f"{name:12} {counts[5]:18} {counts[6]:5} {counts[7]:20} {counts[8]:5}")


if __name__ == "__main__":
    main()
