"""`python -m hf_lineage table` prints the stations as the README's table."""

import sys

from hf_lineage.models import LINEAGE, name_and_idea


def lineage_table() -> str:
    """Markdown rows of all stations, read off their configurations: type, name and paper, the new idea, heads."""
    rows = ["| `model_type` | station | new | heads (`AutoModel…`) |", "|---|---|---|---|"]
    for config_class in LINEAGE:
        name, idea = name_and_idea(config_class)
        heads = ", ".join(auto_name.removeprefix("AutoModel") or "Model" for auto_name in config_class.auto_classes)
        rows.append(f"| `{config_class.model_type}` | {name} | {idea} | {heads} |")
    return "\n".join(rows)


def main(arguments: list[str]) -> int:
    """Returns the exit status."""
    if arguments != ["table"]:
        sys.stderr.write("usage: python -m hf_lineage table\n")
        return 2
    sys.stdout.write(lineage_table() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
