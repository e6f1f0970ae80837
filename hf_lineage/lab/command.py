"""`python -m hf_lineage lab`: writes the lab's page for saved models."""

import sys
from pathlib import Path

from transformers.utils import logging

from hf_lineage.commands import new_parser
from hf_lineage.data import load_splits
from hf_lineage.hub.model_card import read_results
from hf_lineage.lab.opened import open_models
from hf_lineage.lab.page import write_lab
from hf_lineage.lab.view import Given
from hf_lineage.training import last_lines, page_command


DEMO = Path("runs/lineage")


def lab(arguments: list[str]):
    """Shows what saved models do on one offline page: gates, heads, beams, senses, and more.

    Raises:
        ValueError: there is no such model, or it can show nothing.
    """
    parser = new_parser(
        "lab",
        "Shows what saved models do on one offline HTML page: next words, gates,\ngradients, beams, heads, senses, "
        "masks, word order, analogies and minimal pairs.\nEvery number comes from these models.",
        "runs/lstm runs/gpt",
    )
    parser.add_argument(
        "models", nargs="*", metavar="MODEL", help=f"folders or Hub names; default: the demo's, below {DEMO}"
    )
    parser.add_argument("--text", nargs="+", default=[], help="your own sentences, in any language that a model knows")
    parser.add_argument(
        "--corpus",
        help="the models' training text, as in the recipes: adds an n-gram model of it to the minimal pairs",
    )
    parser.add_argument("--recall", metavar="FOLDER", help="of recipes/long_dependencies.py: recall beside gradients")
    parser.add_argument("--output", default="lab.html", help="the page (default: lab.html)")
    args = parser.parse_args(arguments)
    if any(not text.strip() for text in args.text):
        raise ValueError("--text has a sentence without words: give at least one word, or leave --text out")
    folders = models_or_demo(args.models)
    recall = None if args.recall is None else recall_of(Path(args.recall))
    if recall is None and not args.models and (DEMO / "long_dependencies" / "results.json").is_file():
        recall = recall_of(DEMO / "long_dependencies")
    # lines about loading would hide the result
    logging.set_verbosity_error()
    models = open_models(folders)
    corpus = load_splits(args.corpus)["train"]["text"] if args.corpus or not args.models else None
    data = write_lab(args.output, models, Given(args.text, corpus, recall=recall))
    shown = f"{len(data['views'])} views of {len(data['models'])} models"
    sys.stdout.write(last_lines(args.output, shown, page_command(args.output)) + "\n")


def models_or_demo(folders: list[str]) -> list[str]:
    """The folders that are named, or those with a saved model below the demo's folder.

    Raises:
        ValueError: none is named, and there is no demo.
    """
    found = folders or sorted(str(path.parent) for path in DEMO.glob("*/config.json"))
    if not found:
        raise ValueError(f"MODEL is missing, and {DEMO} has no model: name folders, or run `make demo` first")
    return found


def recall_of(folder: Path) -> dict[str, dict[str, float]]:
    """The results of recipes/long_dependencies.py.

    Raises:
        ValueError: the folder has none.
    """
    results = read_results(folder)
    if not results or not all(isinstance(gaps, dict) and all(map(str.isdecimal, gaps)) for gaps in results.values()):
        raise ValueError(f"--recall is {folder}, which has no results.json of recipes/long_dependencies.py")
    return results
