"""The test tables of all stations, for tests that treat them alike but stand in files of their own."""

from importlib import import_module
from pathlib import Path

from hf_lineage.tokenization import causal_tokenizer, elmo_tokenizer, train_word_level, translation_tokenizer
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


def tokenizers_of_kinds(wordpiece, corpus) -> dict:
    """The tokenizers that the heads need, from one of word pieces and a corpus."""
    marks = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    return {
        "plain": wordpiece,
        "causal": causal_tokenizer(wordpiece),
        "translation": translation_tokenizer(wordpiece),
        "characters": elmo_tokenizer(train_word_level(corpus, special_tokens=marks, show_progress=False)),
    }


def model_and_tokenizer(station: str, head: str, tokenizers: dict) -> tuple:
    """A tiny model with the head, and its tokenizer of `tokenizers_of_kinds`."""
    table = TABLES[station]
    kind = "plain"
    if table.token_input == "char_ids":
        kind = "characters"
    elif table.config_class.is_encoder_decoder:
        kind = "translation"
    elif head == "AutoModelForCausalLM":
        kind = "causal"
    tokenizer = tokenizers[kind]
    ids = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    if kind == "translation":
        marks = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
        ids |= {**marks, "decoder_start_token_id": tokenizer.bos_token_id}
        if "decoder_vocab_size" in table.tiny:
            ids |= {"decoder_vocab_size": len(tokenizer)}
    return table.changed_model(head, **ids), tokenizer
