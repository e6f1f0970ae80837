"""What a station is called and what is new in it, as its configuration says."""

import inspect


def name_and_idea(config_class: type) -> tuple[str, str]:
    """`LSTMConfig` -> ("Long short-term memory (Hochreiter & …)", "a cell that gates …")."""
    name, _, idea = inspect.getdoc(config_class).splitlines()[:3]
    return name.rstrip("."), idea.removeprefix("New: ")
