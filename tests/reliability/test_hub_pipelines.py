"""Every head answers in its pipeline from the Hub, with the package and by the code of its repository."""

import json

import pytest

from tests.models.stations import HEADS, STATIONS, tokenizers_of_kinds
from tests.reliability.test_hub_travel import ROOT, hub, run  # noqa: F401 - a fixture


IN_STATIONS = [(station, head) for station, head in HEADS if station in STATIONS]
# asked of every model of a task
QUESTIONS = {
    "feature-extraction": ("The dog watches.", {}),
    "text-generation": ("The dog", {"max_new_tokens": 4, "do_sample": False}),
    "fill-mask": ("The [MASK] watches.", {}),
    "translation": ("The dog watches.", {"max_new_tokens": 5}),
    "text-classification": ("The dog watches.", {}),
    "token-classification": ("The dog watches.", {}),
    "question-answering": ({"question": "Who?", "context": "The dog watches the river."}, {}),
    "multiple-choice": ({"text": "The dog watches.", "choices": ["Ada paints.", "Vera visits the river."]}, {}),
    "next-sentence-prediction": ({"text": "The dog watches.", "text_pair": "Ada paints."}, {}),
}
PUSH = """
import copy, json, sys
import transformers
from transformers import AutoTokenizer, pipeline
from hf_lineage.hub.model_card import task_of
from tests.models.stations import model_and_tokenizer
transformers.utils.logging.set_verbosity_error()
tokenizers = {kind: AutoTokenizer.from_pretrained(folder) for kind, folder in TOKENIZERS.items()}
for station, head in MODELS:
    model, tokenizer = model_and_tokenizer(station, head, tokenizers)
    model.push_to_hub(f"me/{station}-{head}")
    tokenizer.push_to_hub(f"me/{station}-{head}")
    task = task_of(model)
    question, options = QUESTIONS[task]
    if head == "AutoModelForPreTraining":
        # the task is that of another head, which has the same weights
        model.save_pretrained(f"{station}-{head}")
        auto = transformers.AutoModelForMaskedLM if task == "fill-mask" else transformers.AutoModel
        model = auto.from_pretrained(f"{station}-{head}")
    answer = pipeline(task, model=model, tokenizer=tokenizer)(question, **options)
    print(json.dumps([station, head, task, answer], default=float))
"""
ASK = """
import json, sys
if not PACKAGE:
    sys.modules["hf_lineage"] = None
import transformers
if PACKAGE:
    import hf_lineage
from transformers import pipeline
transformers.utils.logging.set_verbosity_error()
for name, task in MODELS:
    question, options = QUESTIONS[task]
    trust = {} if PACKAGE else {"trust_remote_code": True}
    for given in (task, None):
        try:
            pipe = pipeline(given, model=name, **trust)
            answer = [type(pipe.model).__module__.partition(".")[0], pipe(question, **options)]
        except Exception as error:
            answer = ["error", f"{type(error).__name__}: {error}"]
        print(json.dumps([name, given, *answer], default=float))
"""


RUN_CARDS = r"""
import contextlib, io, json, re, sys
sys.modules["hf_lineage"] = None
from huggingface_hub import ModelCard
for name, _ in MODELS:
    _, code = re.findall(r"```python\n(.+?)\n```", ModelCard.load(name).text, re.S)
    error, printed = None, io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            exec(code, {})
    except Exception as raised:
        error = repr(raised)
    print(json.dumps([name, error, len(printed.getvalue()) > 0]))
"""


def script(code, **names):
    """The code after a line `NAME = value` for each name."""
    return "\n".join(f"{name} = {value!r}" for name, value in names.items()) + code


@pytest.fixture(scope="module")
def pushed(hub, tiny_tokenizer, tiny_corpus, tmp_path_factory):  # noqa: F811
    """[name of the repository, task, the answer of the model before it was pushed] of every head."""
    home = tmp_path_factory.mktemp("pusher")
    tokenizers = tokenizers_of_kinds(tiny_tokenizer, tiny_corpus)
    for kind, tokenizer in tokenizers.items():
        tokenizer.save_pretrained(home / kind)
    folders = {kind: str(home / kind) for kind in tokenizers}
    code = script(PUSH, MODELS=IN_STATIONS, TOKENIZERS=folders, QUESTIONS=QUESTIONS)
    result = run(hub, code, home, PYTHONPATH=ROOT)
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [tuple(row[:2]) for row in rows] == IN_STATIONS, result.stderr[-2000:]
    return [(f"me/{station}-{head}", task, answer) for station, head, task, answer in rows]


def close(found, expected) -> bool:
    """Whether two answers are the same but for rounding."""
    if isinstance(expected, float):
        return found == pytest.approx(expected, abs=1e-5)
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(close(found[key], expected[key]) for key in expected)
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(close, found, expected))
    return found == expected


@pytest.mark.slow
@pytest.mark.parametrize("package", [True, False], ids=["with the package", "without"])
def test_every_head_answers_from_the_hub(package, hub, pushed, tmp_path):  # noqa: F811
    """`pipeline(task, model=id)` and `pipeline(model=id)` answer as the model did before it was pushed."""
    code = script(ASK, MODELS=[row[:2] for row in pushed], QUESTIONS=QUESTIONS, PACKAGE=package)
    result = run(hub, code, tmp_path, PYTHONPATH=ROOT)
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(rows) == 2 * len(pushed), result.stderr[-2000:]
    origin, wrong = "hf_lineage" if package else "transformers_modules", []
    for number, (name, given, found_origin, answer) in enumerate(rows):
        expected_name, task, expected = pushed[number // 2]
        assert (name, given) == (expected_name, [task, None][number % 2])
        if found_origin != origin or not close(answer, expected):
            wrong.append((name, given, found_origin, str(answer)[:300], str(expected)[:300]))
    assert wrong == []


@pytest.mark.slow
def test_the_code_on_the_card_of_every_head_runs_without_the_package(hub, pushed, tmp_path):  # noqa: F811
    result = run(hub, script(RUN_CARDS, MODELS=[row[:2] for row in pushed]), tmp_path)
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert rows == [[name, None, True] for name, _, _ in pushed], result.stderr[-2000:]
