"""A web page on which saved models write, fill in, translate, answer …: `python -m hf_lineage app MODEL …`.

A tab is there only if a model can do its task. Everything is answered on this machine; the page asks no other one.

This file is a Hugging Face Space too: copy it there as app.py, and name the models, with blanks between them, in the
Space's variable LINEAGE_MODELS. docs/recipes.md shows the Space's other two files.
"""

import functools
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr
import torch
from transformers import AutoModelForQuestionAnswering, AutoModelForTokenClassification, Pipeline, pipeline, set_seed
from transformers.utils import logging

from hf_lineage.data.cjk import lacks_blanks
from hf_lineage.data.segmentation import segmented_by
from hf_lineage.inference import NoAttentionError, align, has_words_without_blanks
from hf_lineage.lab.examples import ANALOGIES, MASKED, SENTENCES
from hf_lineage.lab.heads import sources
from hf_lineage.lab.opened import LabModel, open_models
from hf_lineage.models.pipeline_inputs import text_of
from hf_lineage.tokenization import is_word_level


MODELS_VARIABLE = "LINEAGE_MODELS"
MOST_CHARACTERS = 5_000
# words and marks of the page stay readable where a system has no Chinese font of its own
FONTS = ["system-ui", "Noto Sans CJK SC", "Microsoft YaHei", "PingFang SC", "sans-serif"]
STYLE = """
/* the ends of sliders are too pale to read */
:is([data-testid=min-value], [data-testid=max-value]) { color: var(--body-text-color) !important; }
.lineage-scroll { overflow-x: auto; }
.lineage-table { border-collapse: separate !important; border-spacing: 2px !important; border: none !important; }
.lineage-table :is(th, td) { border: none !important; padding: 4px 8px; color: var(--body-text-color); }
.lineage-table th { font-weight: 400; }
.lineage-table td { min-width: 2.4em; text-align: center; border-radius: 3px; }
.lineage-table thead th { white-space: nowrap; }
.lineage-marked { line-height: 2.2; color: var(--body-text-color); }
.lineage-marked mark { padding: 2px 4px; border-radius: 3px; background: rgb(37 99 235 / .28); color: inherit; }
.lineage-marked small { margin-left: 4px; font-weight: 600; }
.lineage-message { margin: 0; padding: 8px 12px; border-radius: 4px; border: 1px solid var(--error-border-color);
  background: var(--error-background-fill); color: var(--error-text-color); }
"""


@dataclass(frozen=True)
class Tab:
    """A task: its name, a sentence about it, which models can do it, and what builds the tab from these models."""

    name: str
    about: str
    able: Callable[[LabModel], bool]
    build: Callable[[dict[str, LabModel]], None]


def has_head(model: LabModel, auto_class) -> bool:
    """Whether a model was saved with the head that the Auto class opens."""
    return type(model.model) is auto_class._model_mapping.get(type(model.config), None)


def has_word_vectors(model: LabModel) -> bool:
    """Whether its tokens are words, each with a vector of its own."""
    words = is_word_level(model.tokenizer) and "char_ids" not in model.tokenizer.model_input_names
    return words and not model.translates


def short(name: str, text: str) -> str:
    """The text, if the page takes it.

    Raises:
        ValueError: the text is empty or too long.
    """
    text = text_of(name, text)
    if len(text) > MOST_CHARACTERS:
        raise ValueError(f"{name} has {len(text):,} characters; this page takes at most {MOST_CHARACTERS:,}")
    return text


def known(model: LabModel, name: str, text: str) -> str:
    """The text, if the model can read it at once; for a model of words with blanks between those of Chinese.

    Raises:
        ValueError: the text is empty, too long, or has no token that the model knows.
    """
    tokenizer, text = model.tokenizer, short(name, text)
    if is_word_level(tokenizer) and lacks_blanks(text):
        text = segmented_by(text, tokenizer.get_vocab())
    unknown = model.read(text).unknown_share == 1
    # pipelines read the text as it is written; special tokens, such as a mask, are not words of it
    ids = tokenizer(text, add_special_tokens=False, verbose=False).get("input_ids", [])
    others = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    words = {token for token in ids if token not in others}
    if unknown or words == {tokenizer.unk_token_id}:
        raise ValueError(f"{model.name} knows no word of {name}: write as in the text it was trained on")
    return text


@functools.cache
def task_of(model: LabModel, task: str) -> Pipeline:
    """The pipeline of a task."""
    network = model.masked_lm if task == "fill-mask" else model.model
    return pipeline(task, model=network, tokenizer=model.tokenizer, device="cpu")


def write(model: LabModel, text: str, tokens: float, temperature: float, seed: float) -> str:
    """Continues a text; a temperature of 0 takes the likeliest token each time."""
    text = known(model, "the text", text)
    room = model.longest - len(model.read(text).ids)
    if room < 1:
        raise ValueError(f"the text fills all {model.longest} tokens that {model.name} reads: shorten it")
    set_seed(int(seed))
    sampling = {"do_sample": True, "temperature": temperature} if temperature > 0 else {"do_sample": False}
    answer = task_of(model, "text-generation")(text, max_new_tokens=min(int(tokens), room), **sampling)
    return answer[0]["generated_text"]


def fill(model: LabModel, text: str) -> str:
    """The likeliest words of each mask, as a table."""
    mask = model.tokenizer.mask_token
    if mask not in text_of("the text", text):
        raise ValueError(f"the text has no {mask}: write {mask} where a word is missing")
    answers = task_of(model, "fill-mask")(known(model, "the text", text), top_k=5)
    answers = answers if isinstance(answers[0], list) else [answers]
    rows = [
        (f"mask {number}: {guess['token_str']}", [guess["score"]])
        for number, guesses in enumerate(answers, start=1)
        for guess in guesses
    ]
    return table("The likeliest words", ["probability in percent"], rows)


def translate(model: LabModel, text: str, beams: float) -> tuple[str, str]:
    """The translation, and its alignment with the source as a table."""
    text = known(model, "the text", text)
    [answer] = task_of(model, "lineage-translation")(text, num_beams=int(beams))
    translation = answer["translation_text"]
    if not translation.strip():
        return "", "<p>The model ended the translation before its first word.</p>"
    by_token = has_words_without_blanks(model.tokenizer, text, translation)
    try:
        [alignment] = align(model.model, model.tokenizer, [text], [translation], by_token=by_token)
    except NoAttentionError:
        return translation, f"<p>{escape(model.name)} has no attention, so there is no alignment to show.</p>"
    caption = "Attention of each word of the translation (row) to the source words (columns), in percent"
    rows = zip(alignment.target, alignment.weights.tolist(), strict=True)
    return translation, table(caption, alignment.source, rows)


def table(caption: str, columns: Sequence[str], rows: Iterable[tuple[str, Sequence[float]]]) -> str:
    """Rows of a name and of shares, in percent; the darker, the more."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in columns)
    lines = []
    for name, shares in rows:
        places = 0 if len(shares) > 1 else 1
        # pale enough for the letters, in both themes
        cells = "".join(
            f'<td style="background: rgb(37 99 235 / {0.55 * share:.2f})">{100 * share:.{places}f}</td>'
            for share in shares
        )
        lines.append(f'<tr><th scope="row">{escape(name)}</th>{cells}</tr>')
    return (
        f"<p>{escape(caption)}</p>"
        f'<div class="lineage-scroll" tabindex="0" role="region" aria-label="{escape(caption)}">'
        f'<table class="lineage-table">'
        f"<thead><tr><td></td>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def marked(text: str, spans: Sequence[tuple[int, int, str]]) -> str:
    """The text with the stretches (start, end, name) marked."""
    parts, done = [], 0
    for start, end, name in spans:
        parts.append(f"{escape(text[done:start])}<mark>{escape(text[start:end])}<small>{escape(name)}</small></mark>")
        done = end
    return f'<p class="lineage-marked">{"".join(parts)}{escape(text[done:])}</p>'


def complete_analogy(model: LabModel, a: str, b: str, c: str, method: str) -> str:
    """The words d such that a is to b as c is to d, best first, as a list."""
    words = {name: text_of(f"word {name}", word).strip() for name, word in {"a": a, "b": b, "c": c}.items()}
    found = task_of(model, "word-analogy")(words, method=method, top_k=10)
    lines = "".join(f"<li>{escape(guess['word'])} ({guess['score']:.3f})</li>" for guess in found)
    return f"<ol>{lines}</ol>"


def tag(model: LabModel, text: str) -> str:
    """The text with the stretches that have one tag marked."""
    text = known(model, "the text", text)
    found = task_of(model, "token-classification")(text, aggregation_strategy="simple")
    return marked(text, [(one["start"], one["end"], one["entity_group"]) for one in found])


def find_answer(model: LabModel, question: str, context: str) -> tuple[str, str]:
    """The answer with its score, and the text with the answer marked."""
    # a long text is read in windows
    asked = {"question": short("the question", question), "context": short("the text", context)}
    found = task_of(model, "lineage-question-answering")(asked)
    shown = marked(context, [(found["start"], found["end"], "answer")])
    return f"{found['answer']} ({found['score']:.0%})", shown


def answered(models: dict[str, LabModel], task: Callable, number: int) -> Callable:
    """The task with a model's name in place of the model; it gives `number` answers and a message.

    For bad input the answers are empty, so that none to an earlier question stays, and the message says what is wrong.
    """

    @functools.wraps(task)
    def answer(name: str, *inputs):
        try:
            with torch.inference_mode():
                found = task(models[name], *inputs)
        except ValueError as error:
            said = f'<p class="lineage-message" role="alert">Not answered: {escape(str(error))}</p>'
            return [""] * number + [said]
        return [*([found] if number == 1 else found), ""]

    return answer


def form(models: dict[str, LabModel], task: Callable, verb: str, inputs: Sequence, outputs: Sequence):
    """The model's choice above the inputs, and below them the button, and the outputs that the task fills."""
    chosen = gr.Dropdown(list(models), value=next(iter(models)), label="Model", render=False)
    message = gr.HTML(render=False, padding=False)
    with gr.Row(equal_height=False):
        with gr.Column():
            for part in [chosen, *inputs]:
                part.render()
            button = gr.Button(verb, variant="primary")
            message.render()
        with gr.Column():
            for part in outputs:
                part.render()
    # one at a time: the cores are shared by all users, and a seed belongs to the process
    gr.on(
        [button.click, *(part.submit for part in inputs if isinstance(part, gr.Textbox) and part.lines == 1)],
        answered(models, task, len(outputs)),
        [chosen, *inputs],
        [*outputs, message],
        concurrency_id="models",
        concurrency_limit=1,
        api_name=task.__name__,
        show_progress_on=list(outputs),
    )


def text_box(label: str, value: str = "", lines: int = 3) -> gr.Textbox:
    return gr.Textbox(value, label=label, lines=lines, max_length=MOST_CHARACTERS, render=False)


def example(models: dict[str, LabModel], texts: Sequence[str]) -> str:
    """The first of the texts that the first model knows."""
    first = next(iter(models.values()))
    return next((text for text in texts if first.knows(text)), "")


def build_writing(models):
    inputs = [
        text_box("Beginning of the text", example(models, ["The old king of France", "我欠他一百万"])),
        gr.Slider(1, 200, 40, step=1, label="New tokens", render=False),
        gr.Slider(0, 2, 0.8, step=0.1, label="Temperature (0: the likeliest token)", render=False),
        gr.Number(0, label="Seed", precision=0, minimum=0, maximum=2**32 - 1, render=False),
    ]
    form(models, write, "Write", inputs, [gr.Textbox(label="Text", lines=8, render=False)])


def build_filling(models):
    first = next(iter(models.values()))
    text = example(models, MASKED)
    for word in (" Paris ", "城市"):
        text = text.replace(word, word.replace(word.strip(), first.tokenizer.mask_token), 1)
    label = f"Text with {first.tokenizer.mask_token} where a word is missing"
    form(models, fill, "Fill in", [text_box(label, text)], [gr.HTML(render=False)])


def build_translation(models):
    first = next(iter(models.values()))
    inputs = [
        text_box("Source", example(models, sources(first))),
        gr.Slider(1, 10, 4, step=1, label="Beams", render=False),
    ]
    outputs = [gr.Textbox(label="Translation", lines=2, render=False), gr.HTML(render=False)]
    form(models, translate, "Translate", inputs, outputs)


def build_analogies(models):
    words = example(models, [" ".join(question) for question in ANALOGIES]).split() or [""] * 3
    inputs = [text_box(f"Word {name}", word, 1) for name, word in zip("abc", words, strict=True)]
    inputs.append(gr.Radio(["3CosAdd", "3CosMul"], value="3CosAdd", label="Method", render=False))
    form(models, complete_analogy, "Complete", inputs, [gr.HTML(render=False)])


def build_tagging(models):
    form(models, tag, "Tag", [text_box("Text", example(models, SENTENCES))], [gr.HTML(render=False)])


def build_answers(models):
    inputs = [
        text_box("Question", "Where was the old king born?", 1),
        text_box("Text that holds the answer", example(models, SENTENCES), 6),
    ]
    outputs = [gr.Textbox(label="Answer (score)", render=False), gr.HTML(render=False)]
    form(models, find_answer, "Answer", inputs, outputs)


TABS = [
    Tab("Write", "Language models continue a text.", lambda model: model.is_causal, build_writing),
    Tab("Fill in", "A masked language model guesses hidden words.", lambda model: model.fills_masks, build_filling),
    Tab(
        "Translate",
        "Encoder-decoders translate; attention shows which source words each word of the translation looked at.",
        lambda model: model.translates,
        build_translation,
    ),
    Tab(
        "Analogies",
        "Differences of word vectors can stand for a relation: a is to b as c is to which word?",
        has_word_vectors,
        build_analogies,
    ),
    Tab(
        "Tag",
        "A fine-tuned model gives words their classes or finds names.",
        lambda model: has_head(model, AutoModelForTokenClassification),
        build_tagging,
    ),
    Tab(
        "Answer",
        "A fine-tuned model finds the answer to a question in a text.",
        lambda model: has_head(model, AutoModelForQuestionAnswering),
        build_answers,
    ),
]


def build(models: Sequence[LabModel]) -> gr.Blocks:
    """The page of these models (`open_models`).

    Raises:
        ValueError: none of them can do a task of the page.
    """
    able = {tab: {model.name: model for model in models if tab.able(model)} for tab in TABS}
    able = {tab: found for tab, found in able.items() if found}
    if not able:
        names = ", ".join(f"{model.folder} ({type(model.model).__name__})" for model in models)
        raise ValueError(
            f"no tab can be shown for {names}: name models that write, fill masks, translate, tag or answer, or "
            "word vectors"
        )
    with gr.Blocks(title="hf_lineage", analytics_enabled=False) as page:
        gr.Markdown("# Models of the lineage\n" + ", ".join(model.name for model in models))
        # on a phone too every tab is in sight
        with gr.Tabs(overflow_behavior="wrap"):
            for tab, found in able.items():
                with gr.Tab(tab.name):
                    gr.Markdown(tab.about)
                    tab.build(found)
    return page


def launch(page: gr.Blocks, **options: Any) -> str:
    """Serves the page on this machine only, or where GRADIO_SERVER_NAME says; returns its address."""
    theme = gr.themes.Default(primary_hue="blue", font=FONTS, font_mono=["ui-monospace", "Consolas", "monospace"])
    _, address, _ = page.launch(
        theme=theme,
        css=STYLE,
        quiet=True,
        share=False,
        ssr_mode=False,
        footer_links=[],
        prevent_thread_lock=True,
        **options,
    )
    return address


def serve(folders: Sequence[str], port: int | None = None):
    """Opens the models and serves their page until the process ends.

    Raises:
        ValueError: there is no such model, none can do a task of the page, or the port is invalid or taken.
    """
    if port is not None and not 1 <= port <= 65_535:
        raise ValueError(f"port is {port}; it must lie in [1, 65535]")
    if not folders:
        raise ValueError(f"MODEL is missing: name folders or Hub names, in a Space by its variable {MODELS_VARIABLE}")
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    page = build(open_models(folders))
    try:
        address = launch(page, server_port=port)
    except OSError as error:
        raise ValueError(f"port is {port}, which another program uses: name another --port, or none") from error
    sys.stdout.write(f"open {address} in a browser; Ctrl-C ends it\n")
    sys.stdout.flush()
    page.block_thread()


if __name__ == "__main__":
    try:
        serve(sys.argv[1:] or os.environ.get(MODELS_VARIABLE, "").split())
    except (ValueError, OSError) as error:
        sys.stderr.write(f"app.py: error: {error}\n")
        sys.exit(2)
