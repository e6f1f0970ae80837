"""The test tables of all stations, for tests that treat them alike but stand in files of their own."""

from importlib import import_module
from pathlib import Path

from tests.models.common import ModelTests


def find_tables() -> dict[str, ModelTests]:
    """One of each test table, by its name without "Test"."""
    tables = {}
    for path in sorted(Path(__file__).parent.glob("test_modeling_*.py")):
        for name, value in vars(import_module(f"tests.models.{path.stem}")).items():
            if name.startswith("Test") and isinstance(value, type) and issubclass(value, ModelTests):
                tables[name.removeprefix("Test")] = value()
    return tables


TABLES = find_tables()
# each station's heads: (table, Auto class)
HEADS = [(name, head) for name, table in TABLES.items() for head in table.heads]


def one_table_each() -> list[str]:
    """For each station the name of the table that has most heads, the first of them; both of ELMo's token layers."""
    best = {}
    for name, table in TABLES.items():
        station = (table.config_class, table.token_input)
        if station not in best or len(table.heads) > len(TABLES[best[station]].heads):
            best[station] = name
    return list(best.values())


STATIONS = one_table_each()
