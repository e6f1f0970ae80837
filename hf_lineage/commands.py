"""Commands of `python -m hf_lineage` that look at models, and carry them to other formats and back.

Each takes its arguments as a shell gives them and writes to stdout.

Raises:
    ValueError, OSError: an argument or a file cannot be used (the command line makes one line and status 2 of it).
    SystemExit: argparse refuses the arguments, or shows the help.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import textwrap
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from safetensors.torch import save_file
from transformers import AutoModel, AutoModelForSeq2SeqLM, PreTrainedModel

import hf_lineage
from hf_lineage import (
    ELMoModel,
    GPTForCausalLM,
    LSTMForCausalLM,
    LuongForConditionalGeneration,
    TransformerForConditionalGeneration,
    converters,
)
from hf_lineage.arguments import configuration_type, json_mapping, saved_config
from hf_lineage.data.cjk import lacks_blanks
from hf_lineage.data.segmentation import segmented_by
from hf_lineage.files import replacing
from hf_lineage.hub.model_card import read_results, scores_of
from hf_lineage.hub.papers import PAPERS
from hf_lineage.inference import Alignment, align, has_words_without_blanks
from hf_lineage.models import LINEAGE, name_and_idea, station_of
from hf_lineage.tokenization import is_word_level, open_tokenizer
from hf_lineage.word_vectors import WordVectors


# a help fits 24 lines of this many columns
COLUMNS = 80
VECTOR_FILES = (".bin", ".txt", ".vec", ".gz")


def recipes_folder() -> Path:
    """The recipes beside the package in a checkout, or within an installed one."""
    within = Path(__file__).parent / "recipes"
    return within if within.is_dir() else Path(__file__).parents[1] / "recipes"


def presets() -> dict[str, dict[str, str]]:
    """Preset -> what it trains ("about"), its recipe and, if it has one, its model_type."""
    found = {}
    for path in sorted((recipes_folder() / "configs").glob("*.yaml")):
        about, *lines = path.read_text(encoding="utf-8").splitlines()
        found[path.stem] = {"about": about.removeprefix("# ")}
        for line in lines:
            key, _, value = line.removeprefix("# ").partition(": ")
            if key in ("recipe", "model_type"):
                found[path.stem][key] = Path(value).stem if key == "recipe" else value
    return found


def stations() -> str:
    """A line per station: the name of its type, and its name with the paper."""
    return "\n".join(
        f"  {config_class.model_type.removeprefix('lineage_'):<14}{name_and_idea(config_class)[0]}"
        for config_class in LINEAGE
    )


def new_parser(name: str, description: str, *examples: str) -> argparse.ArgumentParser:
    """The parser of a command, whose help fits a screen: what it does, how it is called, its arguments."""
    calls = "\n".join(f"  python -m hf_lineage {name} {example}" for example in examples)
    return argparse.ArgumentParser(
        prog=f"hf_lineage {name}",
        description=f"{description}\n\n{calls}",
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, width=COLUMNS),
        allow_abbrev=False,
    )


def show(arguments: list[str]):
    """Shows the card of a station or of a saved model."""
    parser = new_parser("show", "Shows the card of a station or of a saved model.", "lstm", "runs/lstm")
    parser.add_argument("what", metavar="STATION|FOLDER", help="a station, or a folder with a saved model")
    what = parser.parse_args(arguments).what
    if (Path(what) / "config.json").is_file():
        sys.stdout.write(_card_of_model(Path(what)))
    else:
        sys.stdout.write(_card_of_station(what))


def _card_of_station(name: str) -> str:
    try:
        model_type = configuration_type(name.removeprefix("lineage_"))
    except ValueError as error:
        if not Path(name).exists() and len(Path(name).parts) == 1:
            raise ValueError(f"there is no folder and no station {name}: {error}") from error
        inside = ", ".join(str(path.parent) for path in sorted(Path(name).glob("*/config.json")))
        remedy = f"did you mean one of {inside}?" if inside else "name a folder with a saved model, or a station"
        raise ValueError(f"{name} is no folder with a saved model (config.json); {remedy}") from error
    config_class = station_of(model_type)
    if config_class is None:
        raise ValueError(f"{name} is a model of transformers, no station of the lineage")
    title, idea = name_and_idea(config_class)
    # the head of pre-training comes first
    head = next(reference for auto, reference in config_class.auto_classes.items() if auto != "AutoModel")
    module, _, class_name = head.partition(".")
    lines = [title, f"paper: {PAPERS[model_type]}", f"idea:  {idea}", "", "heads:"]
    lines += [f"  {auto:<36}{ref.partition('.')[2]}" for auto, ref in config_class.auto_classes.items()]
    size = f"{_count(getattr(hf_lineage, class_name), config_class()):,}"
    lines += ["", f"parameters: {size} ({class_name} with the defaults of its configuration)"]
    lines += ["", "presets (python -m hf_lineage train RECIPE PRESET --output_dir FOLDER):"]
    for preset, facts in presets().items():
        if facts.get("model_type") == model_type:
            lines.append(f"  {facts['recipe']} {preset}")
            lines.append(textwrap.fill(facts["about"], COLUMNS, initial_indent=" " * 6, subsequent_indent=" " * 6))
    lines += ["", f"code: {Path(hf_lineage.__file__).parent / 'models' / f'{module}.py'}"]
    return "\n".join(lines) + "\n"


def _card_of_model(folder: Path) -> str:
    config = saved_config(str(folder), "FOLDER")
    station = station_of(config.model_type)
    title, idea = name_and_idea(station) if station else (f"{config.model_type}, no station of the lineage", "")
    lines = [title]
    if station:
        lines += [f"paper: {PAPERS[config.model_type]}", f"idea:  {idea}"]
    if config.architectures:
        model_class = _class_of(config)
        lines += ["", f"class:      {model_class.__name__}", f"parameters: {_count(model_class, config):,}"]
    changed = config.to_diff_dict()
    for name in ("architectures", "auto_map", "dtype", "model_type", "transformers_version"):
        changed.pop(name, None)
    lines += ["", "fields that are not the default:"]
    lines += [f"  {name}: {json.dumps(value, ensure_ascii=False)}" for name, value in changed.items()]
    if scores := scores_of(read_results(folder)):
        lines += ["", "scores (results.json):"]
        lines += [
            f"  {split:<12}{name:<34}{value:.6g}" for split, one in scores.items() for name, value in one.items()
        ]
    if (folder / "README.md").is_file():
        lines += ["", f"model card: {folder / 'README.md'}"]
    return "\n".join(lines) + "\n"


def _class_of(config) -> type[PreTrainedModel]:
    """The class that a configuration names."""
    name = (config.architectures or ["no class"])[0]
    model_class = getattr(hf_lineage, name, None) or getattr(transformers, name, None)
    if model_class is None:
        raise ValueError(f"architectures of config.json names {name}, which neither hf_lineage nor transformers has")
    return model_class


def _count(model_class: type[PreTrainedModel], config) -> int:
    """Parameters of a class with this configuration; those that parts share count once."""
    with torch.device("meta"):
        return model_class(config).num_parameters()


class Format(NamedTuple):
    """A format of other programs: what it is, which class it holds, how it is read and how it is written.

    `read` takes FROM and fields and gives a model, `write` takes a model and TO.
    """

    about: str
    holds: type[PreTrainedModel]
    read: Callable[..., PreTrainedModel]
    write: Callable[[Any, Path], Any]


def _read_elmo(folder: str) -> PreTrainedModel:
    found = [sorted(Path(folder).glob(pattern)) for pattern in ("*options.json", "*.hdf5")]
    if [len(files) for files in found] != [1, 1]:
        raise ValueError(f"{folder} must hold one *options.json and one *.hdf5, as ELMo's published models do")
    return converters.from_elmo(found[0][0], found[1][0])


def _write_awd(model, path: Path):
    # safetensors cannot hold shared tensors
    tensors = {name: tensor.detach().clone() for name, tensor in converters.to_awd_lstm_lm(model).items()}
    with replacing(path) as temporary:
        save_file(tensors, temporary)


FORMATS = {
    "awd-lstm-lm": Format(
        "LSTM of awd-lstm-lm and fastai (.safetensors)", LSTMForCausalLM, converters.from_awd_lstm_lm, _write_awd
    ),
    "elmo": Format(
        "ELMo: folder of options.json and weights (.hdf5)",
        ELMoModel,
        _read_elmo,
        converters.to_elmo,
    ),
    "fairseq": Format(
        "fairseq's Transformer (.safetensors)",
        TransformerForConditionalGeneration,
        converters.from_fairseq,
        converters.to_fairseq,
    ),
    "joeynmt": Format(
        "JoeyNMT's recurrent models (.safetensors)",
        LuongForConditionalGeneration,
        converters.from_joeynmt,
        converters.to_joeynmt,
    ),
    "marian": Format(
        "Marian's Transformer: a folder of transformers",
        TransformerForConditionalGeneration,
        converters.from_marian,
        lambda model, path: converters.to_marian(model).save_pretrained(path),
    ),
    "openai-gpt": Format(
        "GPT: OpenAI's folder, or one of transformers",
        GPTForCausalLM,
        converters.from_openai_gpt,
        lambda model, path: converters.to_openai_gpt(model).save_pretrained(path),
    ),
    "opennmt": Format(
        "OpenNMT-py's recurrent models (.safetensors)",
        LuongForConditionalGeneration,
        converters.from_opennmt,
        converters.to_opennmt,
    ),
}


def convert(arguments: list[str]):
    """Reads a model of another program, or writes ours in its format."""
    parser = new_parser(
        "convert",
        "Converts a model of another program to a folder of ours; if FROM is a folder of\n"
        "ours, writes TO in the other format. Only weights and sizes: add the tokenizer.",
        "marian opus-mt-de-en runs/de_en",
        "fairseq wmt.safetensors runs/wmt \\\n      --fields '{\"num_attention_heads\": 8}'",
    )
    parser.add_argument("format", metavar="FORMAT", choices=FORMATS, help=", ".join(FORMATS))
    parser.add_argument("source", metavar="FROM", help="the file or folder to read")
    parser.add_argument("target", metavar="TO", type=Path, help="what to write; it must not exist yet")
    parser.add_argument(
        "--fields", metavar="JSON", type=json_mapping, default={}, help="fields that FROM does not hold"
    )
    given = parser.parse_args(arguments)
    form = FORMATS[given.format]
    if not Path(given.source).exists():
        raise ValueError(f"FROM is {given.source}, which does not exist")
    if given.target.exists():
        raise ValueError(f"TO is {given.target}, which exists: name another one, or remove it")
    if _is_ours(Path(given.source)):
        if given.fields:
            raise ValueError("--fields completes a model of another program; FROM is one of ours")
        saved = _class_of(saved_config(given.source, "FROM"))
        # every head of a station has the body
        is_body = form.holds is ELMoModel
        if saved.config_class is not form.holds.config_class or not (is_body or issubclass(saved, form.holds)):
            raise ValueError(
                f"FROM is {given.source}, a {saved.__name__}: the format {given.format} holds a {form.holds.__name__}"
            )
        model = form.holds.from_pretrained(given.source)
        with _new(given.target) as temporary:
            form.write(model, temporary)
    else:
        try:
            model = form.read(given.source, **given.fields)
        except TypeError as error:
            raise ValueError(f"--fields is {json.dumps(given.fields)}: {error}") from error
        with _new(given.target) as temporary:
            model.save_pretrained(temporary)
            if given.format == "openai-gpt" and (Path(given.source) / "vocab_40000.bpe").is_file():
                files = (Path(given.source) / name for name in ("encoder_bpe_40000.json", "vocab_40000.bpe"))
                converters.from_openai_bpe(*files).save_pretrained(temporary)
    sys.stdout.write(f"{given.target}: {type(model).__name__}, {model.num_parameters():,} parameters\n")


def _is_ours(folder: Path) -> bool:
    return (folder / "config.json").is_file() and saved_config(str(folder), "FROM").model_type in PAPERS


@contextmanager
def _new(path: Path) -> Iterator[Path]:
    """A place for a new file or folder, moved to `path` when it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
        yield Path(folder) / path.name
        os.replace(Path(folder) / path.name, path)


def vectors(arguments: list[str]):
    """Writes the word vectors of a model to a file."""
    parser = new_parser(
        "vectors",
        "Writes the word vectors of a model to a file of word2vec's or GloVe's format.",
        "runs/word2vec vectors.bin",
        "glove.6B.100d.txt vectors.vec",
    )
    parser.add_argument("model", metavar="MODEL", help="a saved model (folder or Hub name), or a file of vectors")
    parser.add_argument("target", metavar="TO", type=Path, help="a .bin (word2vec), .txt or .vec file, also .gz")
    parser.add_argument("--format", choices=("binary", "text", "glove"), help="default: by the name of TO")
    given = parser.parse_args(arguments)
    found = _vectors_of(given.model)
    found.save(given.target, given.format)
    sys.stdout.write(f"{given.target}: {len(found):,} words, {found.vectors.shape[1]} numbers each\n")


def _vectors_of(name: str) -> WordVectors:
    if name.endswith(VECTOR_FILES) or Path(name).is_file():
        return WordVectors.load(name, show_progress=False)
    saved_config(name, "MODEL")
    return WordVectors.from_model(AutoModel.from_pretrained(name), open_tokenizer(name))


def neighbours(arguments: list[str]):
    """Lists the words whose vectors are nearest."""
    parser = new_parser(
        "neighbours",
        "Lists the words whose vectors have the largest cosine with that of each word.",
        "runs/word2vec germany",
        "vectors.bin king queen --number 5",
    )
    parser.add_argument("model", metavar="MODEL", help="a saved model (folder or Hub name), or a file of vectors")
    parser.add_argument("words", metavar="WORD", nargs="+")
    parser.add_argument("--number", type=int, default=10, help="how many neighbours (default: 10)")
    given = parser.parse_args(arguments)
    if given.number < 1:
        raise ValueError(f"--number is {given.number}; it must be at least 1")
    found = _vectors_of(given.model)
    # an unknown word is refused before anything is printed
    found.ids(*given.words)
    for word in given.words:
        sys.stdout.write(f"{word}\n")
        for other, cosine in found.nearest(word, given.number):
            sys.stdout.write(f"  {cosine:6.3f}  {other}\n")


def align_texts(arguments: list[str]):
    """Translates a text and shows which words the model looks at."""
    parser = new_parser(
        "align",
        "Translates each text and shows the attention of each target word (row) to the\n"
        "source words (columns), in percent; a dot is less than 5.",
        'runs/rnnsearch "他 欠 小明 100万"',
        'runs/rnnsearch "他 欠 小明 100万" --target "he owes him"',
    )
    parser.add_argument("model", metavar="MODEL", help="a saved translation model (folder or Hub name)")
    parser.add_argument("sources", metavar="SOURCE", nargs="+", help="a text to translate")
    parser.add_argument("--target", metavar="TEXT", help="align with this translation (of one SOURCE)")
    parser.add_argument("--beams", type=int, default=4, help="beams of the search (default: 4)")
    parser.add_argument("--by_token", action="store_true", help="show tokens; default: only for text without blanks")
    given = parser.parse_args(arguments)
    if given.beams < 1:
        raise ValueError(f"--beams is {given.beams}; it must be at least 1")
    if given.target is not None and len(given.sources) > 1:
        raise ValueError(f"--target is the translation of one SOURCE; there are {len(given.sources)}")
    for text in [*given.sources, *([] if given.target is None else [given.target])]:
        if not text.strip():
            raise ValueError(f"a text is {text!r}; it must not be empty")
    config = saved_config(given.model, "MODEL")
    if type(config) not in AutoModelForSeq2SeqLM._model_mapping:
        raise ValueError(f"MODEL is {given.model}, of type {config.model_type}, which does not translate")
    model: Any = AutoModelForSeq2SeqLM.from_pretrained(given.model)
    tokenizer: Any = open_tokenizer(given.model)
    sources = [_readable(tokenizer, text) for text in given.sources]
    if given.target is not None:
        targets = [_readable(tokenizer, given.target)]
    else:
        # its import loads transformers' code for images and sound, which no other command needs
        from hf_lineage.pipelines import TranslationPipeline

        translate = TranslationPipeline(model=model, tokenizer=tokenizer)
        targets = [translate(text, num_beams=given.beams)[0]["translation_text"] for text in sources]
    for pair in zip(sources, targets, strict=True):
        lacks_blanks = has_words_without_blanks(tokenizer, *pair)
        if lacks_blanks and not given.by_token:
            sys.stderr.write(
                f"{' – '.join(pair)}: without blanks between the words, tokens are shown; write the blanks if the "
                "model's training text had them\n"
            )
        [found] = align(model, tokenizer, *([text] for text in pair), by_token=given.by_token or lacks_blanks)
        sys.stdout.write(matrix(found, shutil.get_terminal_size().columns) + "\n")


def _readable(tokenizer, text: str) -> str:
    """The text, for a model of words with blanks between them; stderr says what is added, and which words are unknown.

    Raises:
        ValueError: the model knows no word of the text.
    """
    read = text
    if is_word_level(tokenizer) and lacks_blanks(text):
        read = segmented_by(text, tokenizer.get_vocab())
        if read.split() != text.split():
            sys.stderr.write(f"{text} lacks blanks between its words; it is read as: {read}\n")
    encoded = tokenizer(read, add_special_tokens=False, return_offsets_mapping=True)
    places = zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
    unknown = [read[start:end] for token, (start, end) in places if token == tokenizer.unk_token_id]
    if len(unknown) == len(encoded["input_ids"]):
        raise ValueError(f"the model knows no word of {text}: write as in the text it was trained on")
    if unknown:
        sys.stderr.write(f"the model does not know: {', '.join(dict.fromkeys(unknown))}\n")
    return read


def matrix(alignment: Alignment, columns: int) -> str:
    """The weights in percent, target words as rows; source words that do not fit into `columns` follow below."""
    first = max(map(_width, alignment.target), default=0)
    widths = [max(_width(word), 3) for word in alignment.source]
    blocks, used = [[]], first
    for number, width in enumerate(widths):
        if blocks[-1] and used + 2 + width > columns:
            blocks.append([])
            used = first
        blocks[-1].append(number)
        used += 2 + width
    lines = [" ".join(alignment.source), " ".join(alignment.target)]
    for block in blocks:
        lines += ["", " " * first + "".join("  " + _padded(alignment.source[j], widths[j]) for j in block)]
        for word, row in zip(alignment.target, alignment.weights, strict=True):
            cells = (f"{100 * row[j]:.0f}" if row[j] >= 0.05 else "·" for j in block)
            line = "".join("  " + cell.rjust(widths[j]) for cell, j in zip(cells, block, strict=True))
            lines.append(_padded(word, first, left=True) + line)
    return "\n".join(lines) + "\n"


def _padded(word: str, width: int, left: bool = False) -> str:
    blanks = " " * (width - _width(word))
    return word + blanks if left else blanks + word


def _width(word: str) -> int:
    """Columns of a terminal; Chinese characters take two, marks that combine with a letter none."""
    return sum(
        0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
        for character in word
    )
