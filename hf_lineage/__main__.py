"""`python -m hf_lineage`: train by the recipes, list them and the stations.

    python -m hf_lineage list
    python -m hf_lineage train pretrain_causal_lm lstm_tiny --output_dir runs/lstm --corpus my_text.txt
    python -m hf_lineage push runs/lstm me/my-lstm --dry_run

`train RECIPE [CONFIG] [--key value …]` runs a recipe, as `python recipes/RECIPE.py` does in a checkout; CONFIG is a
YAML file, or the name of a preset. `train RECIPE -h` lists its keys. `push FOLDER REPOSITORY [--private] [--dry_run]`
checks a model's folder, completes its card and its digests, and sends it to the Hub; with `--dry_run` it says what
would go. `table` prints the README's table of stations.
"""

import re
import runpy
import sys
from pathlib import Path

from hf_lineage.models import LINEAGE, name_and_idea
from hf_lineage.papers import PAPERS


def recipes_folder() -> Path:
    """The recipes beside the package in a checkout, or within an installed one."""
    within = Path(__file__).parent / "recipes"
    return within if within.is_dir() else Path(__file__).parents[1] / "recipes"


def lineage_table() -> str:
    """Markdown rows of all stations from their configurations: type, name and paper, the new idea, heads."""
    rows = ["| `model_type` | station | new | heads (`AutoModel…`) |", "|---|---|---|---|"]
    for config_class in LINEAGE:
        name, idea = name_and_idea(config_class)
        heads = ", ".join(auto_name.removeprefix("AutoModel") or "Model" for auto_name in config_class.auto_classes)
        station = f"[{name}]({PAPERS[config_class.model_type]})"
        rows.append(f"| `{config_class.model_type}` | {station} | {idea} | {heads} |")
    return "\n".join(rows)


def list_of_all() -> str:
    """The recipes with what they do, the presets with what they train, and the stations."""
    folder = recipes_folder()
    lines = ["recipes (python -m hf_lineage train RECIPE -h):"]
    for path in sorted(folder.glob("*.py")):
        [first] = re.findall(r'\A\w?"""(.*)', path.read_text(encoding="utf-8"))
        lines.append(f"  {path.stem:<28}{first}")
    lines.append("\npresets (python -m hf_lineage train RECIPE PRESET --output_dir FOLDER):")
    for path in sorted((folder / "configs").glob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        [recipe] = re.findall(r"^# recipe: recipes/(\w+)\.py", text, re.M)
        lines.append(f"  {path.stem:<28}{recipe}: {text.partition(chr(10))[0].removeprefix('# ')}")
    lines.append("\nstations (--model_type):")
    for config_class in LINEAGE:
        lines.append(f"  {config_class.model_type.removeprefix('lineage_'):<28}{name_and_idea(config_class)[0]}")
    return "\n".join(lines)


def train(arguments: list[str]) -> int:
    """Runs a recipe in this process; its exit status comes as SystemExit."""
    folder = recipes_folder()
    names = sorted(path.stem for path in folder.glob("*.py"))
    name = arguments[0].removesuffix(".py") if arguments else ""
    if name not in names:
        sys.stderr.write(f"hf_lineage: error: train needs a recipe, one of {', '.join(names)}; not {name!r}\n")
        return 2
    flags = arguments[1:]
    if flags and not flags[0].startswith("-") and not Path(flags[0]).exists():
        preset = folder / "configs" / f"{flags[0].removesuffix('.yaml')}.yaml"
        flags[0] = str(preset) if preset.is_file() else flags[0]
    sys.argv = [str(folder / f"{name}.py"), *flags]
    runpy.run_path(sys.argv[0], run_name="__main__")
    return 0


def push(arguments: list[str]) -> int:
    """Sends a model's folder to the Hub; returns the exit status."""
    options = {"--dry_run", "--private"} & set(arguments)
    places = [argument for argument in arguments if argument not in options]
    if len(places) != 2 or any(place.startswith("-") for place in places):
        sys.stderr.write("hf_lineage: error: push needs FOLDER and REPOSITORY, and takes --dry_run and --private\n")
        return 2
    # imports more than the other commands need
    from hf_lineage import publishing

    try:
        done = publishing.push(*places, dry_run="--dry_run" in options, private="--private" in options or None)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"hf_lineage: error: {error}\n")
        return 2
    sys.stdout.write(f"{done}\n")
    return 0


def main(arguments: list[str]) -> int:
    """Returns the exit status."""
    match arguments:
        case ["table"]:
            sys.stdout.write(lineage_table() + "\n")
        case ["list"]:
            sys.stdout.write(list_of_all() + "\n")
        case ["train", *rest]:
            return train(rest)
        case ["push", *rest]:
            return push(rest)
        case ["-h" | "--help"]:
            sys.stdout.write(__doc__ or "")
        case []:
            sys.stdout.write(__doc__ or "")
            return 2
        case _:
            sys.stderr.write(f"hf_lineage: error: {arguments[0]!r} is none of train, push, list, table (see -h)\n")
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
