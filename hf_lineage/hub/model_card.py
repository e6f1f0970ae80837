"""Model cards, of a run or of a model that is saved by itself, and the three lines with which a recipe ends."""

import json
import math
import os
import platform
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from filecmp import cmp
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType

import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData, try_to_load_from_cache
from transformers import PreTrainedModel

from hf_lineage import __version__
from hf_lineage.files import write_text
from hf_lineage.hub.papers import PAPERS
from hf_lineage.models import name_and_idea, station_of


# ending of a class -> what `pipeline` does with it
TASKS = {
    "ForCausalLM": "text-generation",
    "ForMaskedLM": "fill-mask",
    "ForConditionalGeneration": "translation",
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
    "ForQuestionAnswering": "question-answering",
    "ForMultipleChoice": "multiple-choice",
    "ForNextSentencePrediction": "next-sentence-prediction",
}
# inputs for the code of a card whose model was saved by itself
SAMPLES: dict[str, str | dict] = {
    "fill-mask": "The cat [MASK] on the mat.",
    "question-answering": {"question": "Who sat on the mat?", "context": "The cat sat on the mat."},
    "multiple-choice": {"text": "The cat sat on the mat.", "choices": ["It slept.", "It barked."]},
    "next-sentence-prediction": {"text": "The cat sat on the mat.", "text_pair": "Then it slept."},
}
NOT_RECORDED = "Not recorded: the model was saved outside a recipe"
NOT_TOLD = "Not recorded by the script that trained the model"
# what transformers writes if a repository has no card
DRAFT = "This is the model card of a 🤗 transformers model"
# the folders of the scripts: of an installed package, and of a checkout
RECIPES = (Path(__file__).parents[1] / "recipes", Path(__file__).parents[2] / "recipes")
# the table on a card of ours
SCORES = re.compile(r"^## Scores\n\n((?:\|.+\n)+)", re.M)
CODE = re.compile(r"```python\n.+?\n```", re.S)
# what a card's code opens, as JSON
OPENED = re.compile(r'(?:model=|from_pretrained\()("(?:[^"\\]|\\.)*")')
LIBRARIES = ("hf_lineage", "transformers", "torch", "tokenizers", "datasets")
# of a split's entries these are counts, times and sums, no scores
NO_SCORES = (
    "num_",
    "nll",
    "words",
    "loss",
    "runtime",
    "samples_per",
    "steps_per",
    "model_preparation",
    "frequency_nll",
    "questions",
    "rows",
    "texts_in_several_rows",
)


@dataclass
class RunFacts:
    """What only the recipe knows of its run.

    data: the corpus as it was named, None: the default one. default_data: what the default one is. sample: a text that
    the model can answer; the words of one for a tagger; for ELMo {"word": …, "texts": [two texts with it]};
    {"both_orders": [a text, another]} for a model that reads pairs so. texts: some of the data, whose writing may tell
    the language. base_model: the model that was trained further.
    """

    data: str | None
    sample: str | dict | list[str]
    default_data: str = "English Wikipedia articles of the gensim wheel"
    language: str | list[str] | None = None
    base_model: str | None = None
    texts: Sequence[str] = ()


def task_of(model: PreTrainedModel) -> str:
    """The task in which `pipeline` opens the model."""
    for ending, task in TASKS.items():
        if type(model).__name__.endswith(ending):
            return task
    is_pretrained_bert = type(model).__name__.endswith("ForPreTraining") and model.config.model_type == "lineage_bert"
    return "fill-mask" if is_pretrained_bert else "feature-extraction"


def code_for(
    model: PreTrainedModel, name: str, sample: str | dict | list[str] | None = None, *, with_package: bool = True
) -> list[str]:
    """Lines of Python that open the model `name` (folder or Hub name) and ask it for an answer to `sample`.

    Without the package they run the code of the repository.
    """
    if isinstance(sample, dict) and "both_orders" in sample:
        return code_for_both_orders(model, name, sample["both_orders"], with_package)
    task, is_recorded = task_of(model), sample is not None
    pair = sample if isinstance(sample, dict) and "word" in sample else None
    sample = sample if pair is None else pair["texts"][0]
    sample = SAMPLES.get(task, "The cat sat on the mat.") if sample is None else sample
    # in double quotes, so that a shell takes the code in single ones
    are_words = isinstance(sample, list)
    name, sample = (json.dumps(one, ensure_ascii=False) for one in (name, sample))
    imports = ["import hf_lineage"] if with_package else []
    source = name if with_package else f"{name}, trust_remote_code=True"
    if task != "feature-extraction":
        call = f'pipeline("{task}", model={source})'
        answer = {
            "text-generation": f'{call}({sample}, max_new_tokens=20)[0]["generated_text"]',
            "fill-mask": f'[answer["sequence"] for answer in {call}({sample})]',
            "translation": f'{call}({sample})[0]["translation_text"]',
        }.get(task, f"{call}({sample}, is_split_into_words=True)" if are_words else f"{call}({sample})")
        return [*imports, "from transformers import pipeline", f"print({answer})"]
    imports.append("from transformers import AutoModel, AutoTokenizer")
    opened, tokenizer = f"AutoModel.from_pretrained({source})", f"AutoTokenizer.from_pretrained({source})"
    if model.config.model_type == "lineage_word2vec" and with_package:
        word = sample if is_recorded else "vectors.words[-1]"
        return [
            *imports,
            f"vectors = hf_lineage.word_vectors.WordVectors.from_model({opened}, {tokenizer})",
            f"print(vectors.nearest({word}, 5))",
        ]
    if model.config.model_type == "lineage_word2vec":
        number = f"tokenizer.convert_tokens_to_ids({sample})" if is_recorded else "-1"
        return [
            *imports,
            f"tokenizer, vectors = {tokenizer}, {opened}.get_input_embeddings().weight",
            f"nearest = (vectors @ vectors[{number}]).topk(5)",
            "print(tokenizer.convert_ids_to_tokens(nearest.indices.tolist()))",
        ]
    if model.config.is_encoder_decoder:
        return [
            *imports,
            f'source = {tokenizer}({sample}, return_tensors="pt")',
            f"encoder = {opened}.get_encoder()",
            "print(encoder(source.input_ids, source.attention_mask).last_hidden_state.shape)",
        ]
    if pair is not None and with_package:
        word, texts = (json.dumps(pair[key], ensure_ascii=False) for key in ("word", "texts"))
        return [
            *imports,
            "from hf_lineage.inference import context_similarities",
            f"model, tokenizer, word, texts = {opened}, {tokenizer}, {word}, {texts}",
            'print("cosine of", word, "in two texts, layer by layer:", '
            "context_similarities(model, tokenizer, word, texts))",
        ]
    return [
        *imports,
        f"tokenizer, text = {tokenizer}, {sample}",
        f'vectors = {opened}(**tokenizer(text, return_tensors="pt")).last_hidden_state',
        'print(tokenizer.tokenize(text), "have vectors of shape", [*vectors.shape])',
    ]


def code_for_both_orders(model: PreTrainedModel, name: str, texts: Sequence[str], with_package: bool) -> list[str]:
    """As `code_for`: a classifier of pairs adds its vectors of both orders, and a pipeline would read one."""
    source = json.dumps(name) if with_package else f"{json.dumps(name)}, trust_remote_code=True"
    options = "padding=True"
    if positions := getattr(model.config, "max_position_embeddings", None):
        options += f", truncation=True, max_length={positions}"
    logits = "model(pair.input_ids[None], attention_mask=pair.attention_mask[None]).logits[0]"
    answer = {
        "regression": f"print({logits}.item())",
        "multi_label_classification": f"print(dict(zip(model.config.id2label.values(), {logits}.sigmoid().tolist())))",
    }.get(
        model.config.problem_type or "",
        f"print(dict(zip(model.config.id2label.values(), {logits}.softmax(0).tolist())))",
    )
    return [
        *(["import hf_lineage"] if with_package else []),
        "from transformers import AutoModelForSequenceClassification, AutoTokenizer",
        f"tokenizer = AutoTokenizer.from_pretrained({source})",
        f"model = AutoModelForSequenceClassification.from_pretrained({source})",
        f"text, other = {', '.join(json.dumps(text, ensure_ascii=False) for text in texts)}",
        f'pair = tokenizer([text, other], [other, text], {options}, return_tensors="pt")',
        answer,
    ]


def language_of(base_model: str | None) -> str | list[str] | None:
    """The language on the card of a saved model, in a folder or in the Hub's cache; None if it says none."""
    if base_model is None:
        return None
    folder = Path(base_model)
    card = folder / "README.md" if folder.is_dir() else try_to_load_from_cache(base_model, "README.md")
    if not isinstance(card, str | Path) or not Path(card).is_file():
        return None
    try:
        return ModelCard.load(card, ignore_metadata_errors=True).data.language
    except (ValueError, yaml.YAMLError):
        # people edit cards
        return None


def scores_of(results: Mapping) -> dict[str, dict[str, float]]:
    """Split -> score -> value, of the entries of results.json; those that are not finite are left out."""
    found = {}
    for split, entries in results.items():
        # the numbers of parameters stand there too
        if not isinstance(entries, Mapping) or split == "parameters":
            continue
        scores = {
            name: value
            for name, value in entries.items()
            if isinstance(value, int | float) and math.isfinite(value) and not name.startswith(NO_SCORES)
        }
        if scores:
            found[split] = scores
    return found


def model_card(
    model: PreTrainedModel,
    arguments=None,
    facts: RunFacts | None = None,
    results: Mapping = MappingProxyType({}),
    *,
    name: str,
    opened_as: str,
    language: str | list[str] | None = None,
    license: str | None = None,
    tags: list[str] | None = None,
) -> ModelCard:
    """The card: station, paper and idea, data, scores, command, versions, parameters, limits, and code that runs.

    `arguments`, `facts` and `results` are those of a run. Without them it says that the training is not recorded.
    A model that was trained further has the `language` of the card before, unless it is given.
    """
    station = station_of(model.config.model_type)
    title, idea = name_and_idea(station) if station else (type(model).__name__, "")
    of_hub, data, base_model, sample = None, NOT_RECORDED if arguments is None else NOT_TOLD, None, None
    if facts is not None:
        # imports datasets, which the card of a saved model does without
        from hf_lineage.data.cjk import written_language
        from hf_lineage.data.corpus_files import is_hub_name

        of_hub = facts.data if facts.data is not None and is_hub_name(facts.data) else None
        # a path says nothing to readers elsewhere
        data = facts.default_data if facts.data is None else facts.data if of_hub else Path(facts.data).name
        base_model = facts.base_model if facts.base_model and is_hub_name(facts.base_model) else None
        language = language or facts.language or written_language(facts.texts) or language_of(facts.base_model)
        sample = facts.sample
    opened_as = as_shown(opened_as)
    scores, task = scores_of(results), task_of(model)
    measured = [
        EvalResult(
            task_type=task,
            dataset_type=of_hub or "custom",
            dataset_name=data,
            dataset_split=split,
            metric_type=metric,
            metric_value=value,
        )
        for split, of_split in scores.items()
        for metric, value in of_split.items()
    ]
    head = ModelCardData(
        model_name=name,
        eval_results=measured or None,
        language=language,
        license=license,
        library_name="transformers",
        pipeline_tag=task,
        tags=sorted({"hf_lineage", model.config.model_type, *(tags or [])}),
        datasets=[of_hub.partition(":")[0]] if of_hub else None,
        base_model=base_model,
    )
    rows = [f"| {split} | {metric} | {value:.6g} |" for split, one in scores.items() for metric, value in one.items()]
    settings = (
        {}
        if arguments is None
        else {
            "learning rate": arguments.learning_rate,
            "batch per device": arguments.per_device_train_batch_size,
            "processes": arguments.world_size,
            "gradient accumulation": arguments.gradient_accumulation_steps,
            "epochs": arguments.num_train_epochs if arguments.max_steps <= 0 else None,
            "updates": arguments.max_steps if arguments.max_steps > 0 else None,
            "seed": arguments.seed,
        }
    )
    how = [f"{model.num_parameters():,} parameters"]
    if settings:
        how.append(", ".join(f"{key} {value}" for key, value in settings.items() if value is not None))
    changed = {
        key: value
        for key, value in model.config.to_diff_dict().items()
        if not key.startswith(
            ("transformers_version", "auto_map", "architectures", "model_type", "id2label", "label2id", "use_cache")
        )
    }
    parts = [
        f"# {name}",
        f"{title}." if station is None else f"[{title}]({PAPERS[station.model_type]}), a station of hf_lineage.",
        f"What is new in it: {idea}" if idea else "",
        "## Data",
        f"{data}."
        + (f" It continues {as_shown(facts.base_model)}." if facts is not None and facts.base_model else ""),
        "## Scores",
        "\n".join(["| split | score | value |", "|---|---|---|", *rows]) if rows else "None were measured.",
        "## How it was trained",
        "" if arguments is None else f"```bash\n{command_line()}\n```",
        "; ".join(how) + ".",
        f"Configuration: `{json.dumps(changed, ensure_ascii=False)}`.",
        "Versions: " + ", ".join([f"python {platform.python_version()}", *map(_with_version, LIBRARIES)]) + ".",
        "## How to use it",
        _block(code_for(model, opened_as, sample)),
        "`import hf_lineage` registers the station. Without the package, the code of the repository runs:"
        if station
        else "",
        _block(code_for(model, opened_as, sample, with_package=False)) if station else "",
        "It reads each pair in both orders, as in its training and for its scores. A pipeline reads one order."
        if isinstance(sample, dict) and "both_orders" in sample
        else "",
        "## Limits",
        limits_of(model, None if facts is None else data),
    ]
    return ModelCard(
        f"---\n{head.to_yaml()}\n---\n\n" + "\n\n".join(part.rstrip("\n") for part in parts if part) + "\n"
    )


def limits_of(model: PreTrainedModel, data: str | None) -> str:
    """What a user must not expect."""
    held = f" ({data})" if data else ""
    limits = [f"The model knows only what its training text held{held}, with the faults and the bias of that text."]
    if positions := getattr(model.config, "max_position_embeddings", None):
        limits.append(f"A text has at most {positions} tokens.")
    limits.append(
        {
            "text-generation": "What it writes may be false.",
            "fill-mask": "What it fills in may be false.",
            "translation": "Its translations may be false, those of other kinds of text most of all.",
        }.get(task_of(model), "Texts of another kind may be read wrongly.")
    )
    limits.append("Nobody has checked it for a use that concerns people.")
    return " ".join(limits)


def card_of_saved(model: PreTrainedModel, name: str, before: str | None) -> str:
    """The card of a model that is saved or pushed as `name`; `before`, which is there, stays if it is no draft."""
    if before is not None and DRAFT not in before:
        return before
    return str(model_card(model, name=name.rpartition("/")[2], opened_as=name))


def write_card_of_saved(model: PreTrainedModel, folder: Path, name: str):
    """Writes README.md beside the saved weights; `LineagePreTrainedModel.write_card`.

    It is the card that the folder has, without scores of other weights. Where it has none, it is that of the folder
    that the model was opened from, if the weights are still the same, or else `card_of_saved`.
    """
    card, place, source = folder / "README.md", Path(name), Path(model.name_or_path or "")
    before = found = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else None
    if before is not None and place.is_dir() and not same_weights(place, folder):
        before = without_scores(before)
    if (before is None or DRAFT in before) and (source / "README.md").is_file() and same_weights(source, folder):
        before = renamed((source / "README.md").read_text(encoding="utf-8", errors="replace"), as_shown(name))
    text = card_of_saved(model, name, before)
    if text != found:
        write_text(card, text)


def same_weights(folder: Path, other: Path) -> bool:
    """Whether two folders hold the same files of weights, byte for byte."""
    files, of_other = ({path.name: path for path in each.glob("*.safetensors")} for each in (folder, other))
    return files.keys() == of_other.keys() and all(cmp(files[name], of_other[name], shallow=False) for name in files)


def without_scores(text: str) -> str:
    """A card of ours without its table of scores; what people have written stays."""
    if (table := SCORES.search(text)) is None:
        return text
    text = text.replace(table[1], "None were measured of these weights.\n")
    try:
        card = ModelCard(text, ignore_metadata_errors=True)
    except (yaml.YAMLError, ValueError):
        # people edit cards; nobody reads such a head
        return text
    card.data["eval_results"] = None
    return str(card)


def renamed(text: str, name: str) -> str:
    """A card with the folder or repository `name` where its code opens another; what people have written stays."""
    ours = next((code for code in CODE.findall(text) if "import hf_lineage" in code), "")
    if (found := OPENED.search(ours)) is None:
        return text
    opened, folder = json.dumps(name), Path(json.loads(found[1])).name
    text = CODE.sub(lambda code: code[0].replace(found[1], opened), text)
    return re.sub(rf"^# {re.escape(folder)}$", f"# {name.rpartition('/')[2]}", text, count=1, flags=re.M)


def as_shown(name: str) -> str:
    """A path for readers elsewhere: relative to the working directory or, from outside of it, its last part."""
    path = Path(name).expanduser()
    if not path.is_absolute():
        return name
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else path.name


def command_line() -> str:
    """The command that runs now, as a shell reads it, without absolute paths."""
    script, arguments = Path(sys.argv[0]), sys.argv[1:]
    if script.is_absolute() and script.parent in RECIPES:
        begin = ["python", "-m", "hf_lineage", "train", script.stem]
        if arguments and Path(arguments[0]).parent == script.parent / "configs":
            arguments = [Path(arguments[0]).stem, *arguments[1:]]
    else:
        begin = ["python", as_shown(str(script))]
    return shlex.join([*begin, *map(_shown_argument, arguments)])


def _shown_argument(argument: str) -> str:
    flag, equals, value = argument.partition("=") if argument.startswith("--") else ("", "", argument)
    return f"{flag}{equals}{as_shown(value)}"


def _block(code: list[str]) -> str:
    return "\n".join(["```python", *code, "```"])


def _with_version(library: str) -> str:
    # a checkout on the path has no metadata
    return f"{library} {__version__ if library == 'hf_lineage' else version(library)}"


def read_results(folder: Path) -> dict:
    """results.json of a run, empty if there is none."""
    path = folder / "results.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def write_card(folder: Path, card: ModelCard):
    """README.md in one piece."""
    write_text(folder / "README.md", str(card))


def has_scores_of(folder: Path, card: ModelCard) -> bool:
    """Whether README.md in `folder` has the scores of `card`."""
    try:
        before = ModelCard((folder / "README.md").read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return False
    return before.data.get("eval_results") == card.data.get("eval_results")


def last_lines(folder: str | os.PathLike, score: str, command: list[str]) -> str:
    """The end of a recipe: where its result is, the score, and what to type next."""
    return f"\nresult: {folder}\nscore:  {score}\nnext:   {shlex.join(command)}"


def page_command(page: str | os.PathLike) -> list[str]:
    """A command that shows a page or a picture in the browser."""
    return ["python", "-m", "webbrowser", Path(page).resolve().as_uri()]
