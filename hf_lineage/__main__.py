"""The command line, `python -m hf_lineage` or `hf-lineage`; without arguments it lists the stations.

Each command explains itself: python -m hf_lineage COMMAND --help
"""

import re
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

from transformers.utils import logging

from hf_lineage import arguments as recipe_arguments
from hf_lineage import commands
from hf_lineage.arguments import remedy_for
from hf_lineage.hub.papers import PAPERS
from hf_lineage.models import LINEAGE, name_and_idea


def lineage_table() -> str:
    """Markdown rows of all stations from their configurations: type, name and paper, the new idea, heads."""
    rows = ["| `model_type` | station | new | heads (`AutoModel…`) |", "|---|---|---|---|"]
    for config_class in LINEAGE:
        name, idea = name_and_idea(config_class)
        heads = ", ".join(auto_name.removeprefix("AutoModel") or "Model" for auto_name in config_class.auto_classes)
        station = f"[{name}]({PAPERS[config_class.model_type]})"
        rows.append(f"| `{config_class.model_type}` | {station} | {idea} | {heads} |")
    return "\n".join(rows)


def print_table(arguments: list[str]):
    """Prints the README's table of stations."""
    commands.new_parser("table", "Prints the README's table of stations.").parse_args(arguments)
    sys.stdout.write(lineage_table() + "\n")


def print_list(arguments: list[str]):
    """Lists the recipes, the presets and the stations."""
    commands.new_parser("list", "Lists the recipes, the presets and the stations.").parse_args(arguments)
    lines = ["recipes (python -m hf_lineage train RECIPE -h):"]
    for path in sorted(commands.recipes_folder().glob("*.py")):
        [first] = re.findall(r'\A\w?"""(.*)', path.read_text(encoding="utf-8"))
        lines.append(f"  {path.stem:<28}{first}")
    lines.append("\npresets (python -m hf_lineage train RECIPE PRESET --output_dir FOLDER):")
    lines += [f"  {name:<28}{facts['recipe']}: {facts['about']}" for name, facts in commands.presets().items()]
    lines += ["\nstations (--model_type):", commands.stations()]
    sys.stdout.write("\n".join(lines) + "\n")


def train(arguments: list[str]):
    """Runs a recipe, with a preset or a YAML file, as in a checkout."""
    folder = commands.recipes_folder()
    names = sorted(path.stem for path in folder.glob("*.py"))
    if arguments in (["-h"], ["--help"]):
        recipes = "\n".join(f"  {name}" for name in names)
        sys.stdout.write(
            "usage: hf_lineage train RECIPE [CONFIG] [--key value …]\n\n"
            "Runs a recipe. CONFIG is a preset (python -m hf_lineage list) or a YAML file.\n"
            f"train RECIPE -h lists its keys.\n\n{recipes}\n"
        )
        return
    name = arguments[0].removesuffix(".py") if arguments else ""
    if name not in names:
        raise ValueError(f"there is no recipe {name!r}; {remedy_for(name, names, 'train needs one of')}")
    flags = arguments[1:]
    if flags and not flags[0].startswith("-") and not Path(flags[0]).exists():
        preset = flags[0].removesuffix(".yaml")
        presets = commands.presets()
        if preset not in presets:
            of_recipe = [each for each, facts in presets.items() if facts.get("recipe") == name]
            remedy = remedy_for(preset, presets, f"presets of {name} are", of_recipe)
            raise ValueError(f"there is no file and no preset {flags[0]!r}; {remedy}")
        if (recipe := presets[preset].get("recipe", name)) != name:
            raise ValueError(f"{preset} is a preset of {recipe}: python -m hf_lineage train {recipe} {preset}")
        flags[0] = str(folder / "configs" / f"{preset}.yaml")
    sys.argv = [str(folder / f"{name}.py"), *flags]
    runpy.run_path(sys.argv[0], run_name="__main__")


def lab(arguments: list[str]):
    """Shows what saved models do, on one offline page."""
    from hf_lineage.lab.command import lab

    lab(arguments)


def scale(arguments: list[str]):
    """Counts or encodes a corpus larger than memory."""
    try:
        from hf_lineage.scale.command import scale
    except ModuleNotFoundError as error:
        raise ValueError(f"scale needs {error.name}: pip install 'hf_lineage[scale]'") from error

    scale(arguments)


def app(arguments: list[str]):
    """Serves a page on which saved models write, translate, answer."""
    parser = commands.new_parser(
        "app",
        "Serves a page on which saved models write, fill masks, translate, complete\nanalogies, tag and answer: a tab "
        "for each task that one of them can do.",
        "runs/gpt runs/bert runs/rnnsearch",
    )
    parser.add_argument("models", nargs="*", metavar="MODEL", help="folders or Hub names; default: the demo's")
    parser.add_argument("--port", type=int, help="of this machine (default: a free one from 7860 on)")
    given = parser.parse_args(arguments)
    try:
        from hf_lineage.lab.app import serve
    except ModuleNotFoundError as error:
        raise ValueError(f"the app needs {error.name}: pip install 'hf_lineage[app]'") from error
    from hf_lineage.lab.command import models_or_demo

    serve(models_or_demo(given.models), given.port)


def push(arguments: list[str]):
    """Checks a model's folder and sends it to the Hub."""
    parser = commands.new_parser(
        "push",
        "Checks a model's folder, completes its card and digests, and sends it.",
        "runs/lstm me/my-lstm --dry_run",
    )
    parser.add_argument("folder", metavar="FOLDER", help="of a saved model")
    parser.add_argument("repository", metavar="REPOSITORY", help="on the Hub, such as me/my-lstm")
    parser.add_argument("--dry_run", action="store_true", help="say what would go, its size, and what the card lacks")
    parser.add_argument("--private", action="store_true", default=None, help="make a new repository private")
    parser.add_argument("--license", metavar="ID", help="for the model card, such as apache-2.0")
    parser.add_argument("--language", metavar="CODE", nargs="+", help="for the model card, such as zh en")
    args = parser.parse_args(arguments)
    from hf_lineage.hub import publishing

    sys.stdout.write(f"{publishing.push(**vars(args))}\n")


# name on the command line -> what runs it; the first line of its docstring is its line in the help
COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "list": print_list,
    "show": commands.show,
    "train": train,
    "convert": commands.convert,
    "vectors": commands.vectors,
    "neighbours": commands.neighbours,
    "align": commands.align_texts,
    "lab": lab,
    "scale": scale,
    "app": app,
    "push": push,
    "table": print_table,
}


def help_text() -> str:
    """What the command line can do, on one screen."""
    lines = ["usage: python -m hf_lineage COMMAND … (or hf-lineage COMMAND …)", ""]
    lines += [f"  {name:<12}{(command.__doc__ or '').splitlines()[0]}" for name, command in COMMANDS.items()]
    return "\n".join([*lines, "", *(__doc__ or "").splitlines()[2:]]) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Runs a command and returns the exit status: 0, or 2 for bad input, which one line on stderr names.

    Raises:
        SystemExit: an error or a help of a command, or the status of a recipe.
    """
    name, *rest = (sys.argv[1:] if arguments is None else arguments) or [""]
    if not name:
        sys.stdout.write(f"The stations of the lineage, in the order of history:\n\n{commands.stations()}\n\n")
        sys.stdout.write("python -m hf_lineage show STATION says more of one, --help lists the commands\n")
    elif name in ("-h", "--help"):
        sys.stdout.write(help_text())
    elif name in COMMANDS:
        if name != "train":
            # bars of loading would hide the answer
            logging.disable_progress_bar()
        recipe_arguments.run(lambda: COMMANDS[name](rest), "hf_lineage")
    else:
        remedy = remedy_for(name, COMMANDS, "the commands are")
        sys.stderr.write(f"hf_lineage: error: there is no command {name!r}; {remedy} (--help says more)\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
