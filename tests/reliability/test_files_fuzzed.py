"""Every reader of files, fed with files that are damaged at random: it reads them, or names the file.

`HF_LINEAGE_FUZZ_SECONDS=600 pytest -m slow tests/reliability/test_files_fuzzed.py` searches for ten minutes.
"""

import json
import os
import random
import re
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from pyarrow import parquet
from safetensors.torch import load_file, save_file

from hf_lineage import (
    BERTConfig,
    BERTForMaskedLM,
    ELMoConfig,
    ELMoModel,
    GPTConfig,
    GPTForCausalLM,
    LSTMConfig,
    LSTMForCausalLM,
    LuongConfig,
    LuongForConditionalGeneration,
    TransformerConfig,
    TransformerForConditionalGeneration,
)
from hf_lineage.converters import (
    from_awd_lstm_lm,
    from_elmo,
    from_elmo_token_vectors,
    from_fairseq,
    from_joeynmt,
    from_marian,
    from_openai_bpe,
    from_openai_gpt,
    from_opennmt,
    to_awd_lstm_lm,
    to_elmo,
    to_fairseq,
    to_joeynmt,
    to_marian,
    to_openai_gpt,
    to_opennmt,
)
from hf_lineage.data import read_documents
from hf_lineage.data.choice_questions import read_choice_questions
from hf_lineage.data.labelled_files import read_labelled_file
from hf_lineage.data.parallel_corpus import load_parallel_corpus
from hf_lineage.data.questions import read_questions
from hf_lineage.word_vectors import WordVectors, load_analogies, load_similarities
from tests.memory import little_memory


hypothesis = pytest.importorskip("hypothesis", reason="pip install 'hf_lineage[test]'")
st = hypothesis.strategies
SECONDS = float(os.environ.get("HF_LINEAGE_FUZZ_SECONDS", 30))
ENCODER_DECODER = {"vocab_size": 20, "embedding_size": 8, "hidden_size": 8, "num_hidden_layers": 1}


@dataclass
class Reader:
    """Writes sound files into a folder, and reads them."""

    write: Callable[[Path], object]
    read: Callable[[Path], object]


def write_elmo(folder):
    to_elmo(ELMoModel(ELMoConfig(character_size=4, cnn_filters=[[1, 4]], hidden_size=8, projection_size=4)), folder)


def write_token_vectors(folder):
    h5py = pytest.importorskip("h5py")
    with h5py.File(folder / "vectors.hdf5", "w") as file:
        file["embedding"] = np.ones((5, 4), np.float32)


def gpt():
    return GPTForCausalLM(
        GPTConfig(
            vocab_size=20,
            hidden_size=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=6,
        )
    )


def write_shards(folder):
    tensors = to_openai_gpt(gpt()).transformer.state_dict()
    first = ["positions_embed.weight", "tokens_embed.weight"]
    arrays = [tensors[name].numpy() for name in [*first, *(name for name in tensors if name not in first)]]
    (folder / "params_shapes.json").write_text(json.dumps([list(array.shape) for array in arrays]))
    numbers = np.concatenate([array.flatten() for array in arrays])
    for number, shard in enumerate(np.array_split(numbers, 2)):
        np.save(folder / f"params_{number}.npy", shard)


def write_bpe(folder):
    tokens = ["<unk>", "a", "b", "ab", "ab</w>", "b</w>"]
    (folder / "encoder.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    (folder / "merges.bpe").write_text("#version: 0.2\na b\na b</w>\n")


# of a Transformer
TINY = {"vocab_size": 20, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}


def write_marian(folder):
    config = TransformerConfig(
        **TINY,
        layer_norm_eps=1e-5,
        position_layout="concatenated",
        output_bias=True,
    )
    to_marian(TransformerForConditionalGeneration(config)).save_pretrained(folder)


def write_fairseq(folder):
    config = TransformerConfig(
        **TINY,
        position_layout="tensor2tensor",
        position_offset=2,
        pad_token_id=1,
    )
    to_fairseq(TransformerForConditionalGeneration(config), folder / "model.safetensors")


def write_awd(folder):
    config = LSTMConfig(vocab_size=20, embedding_size=8, hidden_size=8, num_hidden_layers=2)
    save_file(to_awd_lstm_lm(LSTMForCausalLM(config)), folder / "model.safetensors")


def luong(**settings):
    return LuongForConditionalGeneration(LuongConfig(**ENCODER_DECODER, **settings))


def write_opennmt(folder):
    model = luong(output_bias=True, encoder_hidden_size=4, bidirectional=True, reverse_source=False)
    to_opennmt(model, folder / "model.safetensors")


def write_joeynmt(folder):
    model = luong(answer_bias=True, bridge="dense", bidirectional=True, reverse_source=False)
    to_joeynmt(model, folder / "model.safetensors")


def write_vectors(name):
    def write(folder):
        WordVectors(["one", "two", "three"], np.arange(12, dtype=np.float32).reshape(3, 4)).save(folder / name)

    return write


def write_text(name, text):
    def write(folder):
        (folder / name).write_text(text, encoding="utf-8")

    return write


def write_table(folder):
    rows = {"text": ["one", "two", "three"] * 20, "other": ["x", "y", "z"] * 20}
    datasets.Dataset.from_dict(rows).to_parquet(folder / "table.parquet")


def write_bert(folder):
    sizes = {"vocab_size": 20, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = BERTConfig(**sizes, intermediate_size=8, max_position_embeddings=6)
    BERTForMaskedLM(config).save_pretrained(folder, max_shard_size="1KB")
    # no reader of data reads code
    for path in (*folder.glob("*.py"), folder / "SHA256SUMS"):
        path.unlink()


def documents(name):
    return lambda folder: list(read_documents(folder / name))


def columns(name):
    def read(folder):
        rows = read_labelled_file(folder / name)
        return [rows.texts(column) for column in rows.column_names]

    return read


def translations(folder):
    return list(load_parallel_corpus(str(folder / "bad.parquet")))


JSONL = '{"text": "one", "label": 1}\n{"text": "two", "label": 0}\n'
SQUAD = {
    "data": [
        {
            "title": "t",
            "paragraphs": [
                {
                    "context": "The cat sat.",
                    "qas": [{"id": "1", "question": "Who?", "answers": [{"text": "cat", "answer_start": 4}]}],
                }
            ],
        }
    ]
}
CHOICES = '{"question": "Who?", "choices": ["cat", "dog"], "label": 1}\n'
READERS = {
    "elmo": Reader(write_elmo, lambda f: from_elmo(f / "options.json", f / "lm_weights.hdf5")),
    "elmo token vectors": Reader(write_token_vectors, lambda f: from_elmo_token_vectors(f / "vectors.hdf5", 5, 4)),
    "gpt shards": Reader(write_shards, lambda f: from_openai_gpt(f, num_attention_heads=2)),
    "gpt folder": Reader(lambda f: to_openai_gpt(gpt()).save_pretrained(f), from_openai_gpt),
    "gpt tokenizer": Reader(write_bpe, lambda f: from_openai_bpe(f / "encoder.json", f / "merges.bpe")),
    "marian": Reader(write_marian, from_marian),
    "fairseq": Reader(write_fairseq, lambda f: from_fairseq(f / "model.safetensors", 2)),
    "awd_lstm_lm": Reader(write_awd, lambda f: from_awd_lstm_lm(f / "model.safetensors")),
    "opennmt": Reader(write_opennmt, lambda f: from_opennmt(f / "model.safetensors")),
    "joeynmt": Reader(write_joeynmt, lambda f: from_joeynmt(f / "model.safetensors")),
    "binary vectors": Reader(write_vectors("v.bin"), lambda f: WordVectors.load(f / "v.bin")),
    "text vectors": Reader(write_vectors("v.vec"), lambda f: WordVectors.load(f / "v.vec")),
    "packed vectors": Reader(write_vectors("v.txt.gz"), lambda f: WordVectors.load(f / "v.txt.gz")),
    "analogies": Reader(write_text("a.txt", ": capitals\na b c d\n"), lambda f: load_analogies(f / "a.txt")),
    "similarities": Reader(write_text("s.tsv", "a\tb\t3.5\nc\td\t1\n"), lambda f: load_similarities(f / "s.tsv")),
    "text": Reader(write_text("t.txt", "one\n\ntwo ä\n"), documents("t.txt")),
    "JSON Lines": Reader(write_text("t.jsonl", JSONL), documents("t.jsonl")),
    "CSV": Reader(write_text("t.csv", 'text,label\n"one, two",1\n'), documents("t.csv")),
    "Parquet": Reader(write_table, documents("table.parquet")),
    "labelled Parquet": Reader(write_table, columns("table.parquet")),
    "labelled JSON Lines": Reader(write_text("t.jsonl", JSONL), columns("t.jsonl")),
    "labelled JSON": Reader(write_text("t.json", f"[{JSONL.strip().replace(chr(10), ',')}]"), columns("t.json")),
    "labelled TSV": Reader(write_text("t.tsv", "text\tlabel\none\t1\n"), columns("t.tsv")),
    "CoNLL": Reader(write_text("t.conll", "The DET\ncat NOUN\n\nIt PRON\n"), columns("t.conll")),
    "CoNLL-U": Reader(
        write_text("t.conllu", "1\tThe\tthe\tDET\t_\t_\t2\tdet\t_\t_\n2\tcat\tcat\tNOUN\t_\t_\t0\troot\t_\t_\n\n"),
        columns("t.conllu"),
    ),
    "questions": Reader(write_text("q.json", json.dumps(SQUAD)), lambda f: read_questions({"train": f / "q.json"})),
    "choices": Reader(write_text("c.jsonl", CHOICES), lambda f: read_choice_questions({"train": f / "c.jsonl"})),
    "a model": Reader(write_bert, BERTForMaskedLM.from_pretrained),
}

VALUES = (None, True, -1, 0, 1.5, 10**9, 10**30, float("nan"), "", "x", "\0", [], {}, [[]], {"": None})
BYTES = (b"", b"\0", b"\xff", b"\xf0\x28", b"\n", b'"', b"{", b"[" * 3000, b"9" * 30, b"1e999", b"nan", b"../")


def damaged_bytes(draw, data: bytes) -> bytes:
    """Some bytes changed, cut out, put in, repeated or exchanged."""
    start = draw(st.integers(0, len(data)))
    stop = min(len(data), start + draw(st.sampled_from([0, 1, 2, 8, 64, 10**9])))
    part = draw(st.sampled_from([*BYTES, data[start:stop] * 2, data[start:stop][::-1]]) | st.binary(max_size=9))
    return data[:start] + part + data[stop:]


def damaged_json(draw, value):
    """One value of the tree exchanged for another, taken out, or nested deeply."""
    if isinstance(value, dict | list) and value and draw(st.integers(0, 3)):
        key = draw(st.sampled_from(sorted(value) if isinstance(value, dict) else range(len(value))))
        copy = value.copy()
        if draw(st.integers(0, 9)):
            copy[key] = damaged_json(draw, value[key])
        else:
            del copy[key]
        return copy
    return draw(st.sampled_from(VALUES))


def damage(draw, folder: Path) -> str:
    """Damages a file in the folder; returns its name."""
    names = sorted(path.name for path in folder.iterdir())
    name = draw(st.sampled_from(names))
    path = folder / name
    if path.suffix == ".json" and draw(st.booleans()):
        path.write_text(json.dumps(damaged_json(draw, json.loads(path.read_text()))))
        return name
    if path.suffix == ".safetensors" and draw(st.booleans()):
        data = path.read_bytes()
        length = int.from_bytes(data[:8], "little")
        header = json.dumps(damaged_json(draw, json.loads(data[8 : 8 + length]))).encode()
        path.write_bytes(len(header).to_bytes(8, "little") + header + data[8 + length :])
        return name
    path.write_bytes(damaged_bytes(draw, path.read_bytes()))
    return name


def reads_or_names(reader: Reader, folder: Path):
    """The reader reads the files, or raises ValueError or OSError with the name of the file, or of its folder."""
    found = None
    try:
        reader.read(folder)
    except StrictDataclassError:
        # names the field of the configuration
        return
    except (ValueError, OSError) as error:
        found = error
    names = [folder.name, *(path.name for path in folder.iterdir())]
    assert found is None or any(name in str(found) for name in names), repr(found)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """Reader -> a folder with sound files; written once."""
    found = {}

    def of(name):
        if name not in found:
            torch.manual_seed(0)
            found[name] = tmp_path_factory.mktemp(re.sub(r"\W", "_", name))
            READERS[name].write(found[name])
        return found[name]

    return of


def search(name: str, folder: Path, examples: int, seed: int, work: Path):
    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        print_blob=False,
    )
    @hypothesis.given(st.data())
    def check(data):
        # models draw weights, and hypothesis demands that this leaves no trace
        with tempfile.TemporaryDirectory(dir=work) as place:
            copy = shutil.copytree(folder, Path(place, folder.name))
            damage(data.draw, copy)
            reads_or_names(READERS[name], copy)

    check()


@pytest.mark.reliability("B7", "B15", "B16")
@pytest.mark.parametrize("name", READERS)
def test_sound_files_are_read(name, sound):
    READERS[name].read(sound(name))


@pytest.mark.reliability("B7", "B15", "B16")
@pytest.mark.parametrize("name", READERS)
def test_damaged_files_are_read_or_named(name, sound, tmp_path):
    search(name, sound(name), 5, 0, tmp_path)


@pytest.mark.reliability("C3")
@pytest.mark.parametrize("read", [documents("bad.parquet"), columns("bad.parquet"), translations])
def test_bytes_in_parquet_that_are_no_text_name_the_file(read, tmp_path):
    data = pa.py_buffer(b"one\xfftwo")
    offsets = pa.py_buffer(np.array([0, 3, 7], np.int32).tobytes())
    texts = pa.Array.from_buffers(pa.string(), 2, [None, offsets, data])
    parquet.write_table(pa.table({"text": texts, "zh": texts, "en": texts}), tmp_path / "bad.parquet")
    with pytest.raises(ValueError, match=r"bad\.parquet"):
        read(tmp_path)


# what searches have found
FOUND = {
    "the header of an array is no Python": ("gpt shards", "params_0.npy", lambda data: data.replace(b"{", b"{(", 1)),
    "an index names no file": (
        "a model",
        "model.safetensors.index.json",
        lambda data: b'{"metadata": {}, "weight_map": {}}',
    ),
    "an index names a NUL": (
        "a model",
        "model.safetensors.index.json",
        lambda data: re.sub(rb'"model-[^"]*00001-of[^"]*"', rb'"\\u0000"', data),
    ),
    "a dtype that torch does not have": ("a model", "config.json", lambda data: data.replace(b'"float32"', b'"x"')),
    "an article is a number": ("questions", "q.json", lambda data: b'{"data": [3]}'),
    "an answer is a text": (
        "questions",
        "q.json",
        lambda data: b'{"data": [{"paragraphs": [{"context": "a", "qas": [{"question": "b", "answers": ["a"]}]}]}]}',
    ),
    "the options are a list": ("elmo", "options.json", lambda data: b"[[]]"),
    "the options are deep": ("elmo", "options.json", lambda data: b"[" * 100_000),
    "a configuration of Marian is a number": ("marian", "config.json", lambda data: b"3"),
    "a configuration of Marian has a text as size": (
        "marian",
        "config.json",
        lambda data: data.replace(b'"d_model": 8', b'"d_model": "8"'),
    ),
    "a configuration of GPT has no size": (
        "gpt folder",
        "config.json",
        lambda data: data.replace(b'"n_embd": 8,', b""),
    ),
    "a configuration of BERT": ("marian", "config.json", lambda data: data.replace(b'"marian"', b'"bert"')),
}


@pytest.mark.reliability("B7", "B16")
@pytest.mark.parametrize("case", FOUND)
def test_what_searches_have_found(case, sound, tmp_path):
    name, file, change = FOUND[case]
    shutil.copytree(sound(name), tmp_path / "copy")
    path = tmp_path / "copy" / file
    before = path.read_bytes()
    path.write_bytes(change(before))
    assert path.read_bytes() != before
    with pytest.raises((ValueError, OSError), match=f"{re.escape(file)}|copy"):
        READERS[name].read(tmp_path / "copy")


SAFETENSORS = ["gpt folder", "marian", "fairseq", "awd_lstm_lm", "opennmt", "joeynmt"]


@pytest.mark.reliability("B6")
@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.bool, torch.float8_e5m2], ids=str)
@pytest.mark.parametrize("name", SAFETENSORS)
def test_foreign_weights_that_are_whole_numbers_are_named(name, dtype, sound, tmp_path):
    shutil.copytree(sound(name), tmp_path / "copy")
    path = tmp_path / "copy" / "model.safetensors"
    for part in ("weight", "bias"):
        tensors = load_file(path)
        last = [each for each in sorted(tensors) if part in each.rpartition(".")[2]][-1:]
        save_file({**tensors, **{each: tensors[each].to(dtype) for each in last}}, path, metadata={"format": "pt"})
        if last:
            with pytest.raises(ValueError, match=f"{path}.* holds {dtype}"):
                READERS[name].read(tmp_path / "copy")
        save_file(tensors, path, metadata={"format": "pt"})


@pytest.mark.reliability("B6")
@pytest.mark.parametrize("name", SAFETENSORS)
def test_nan_in_foreign_weights_is_named(name, sound, tmp_path):
    shutil.copytree(sound(name), tmp_path / "copy")
    path = tmp_path / "copy" / "model.safetensors"
    tensors = load_file(path)
    last = sorted(tensors)[-1]
    tensors[last].flatten()[-1] = torch.nan
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=f"{re.escape(last.removeprefix('transformer.'))} holds NaN"):
        READERS[name].read(tmp_path / "copy")


@pytest.mark.reliability("B6")
def test_nan_in_hdf5_is_named(sound, tmp_path):
    h5py = pytest.importorskip("h5py")
    shutil.copytree(sound("elmo"), tmp_path / "copy")
    with h5py.File(tmp_path / "copy" / "lm_weights.hdf5", "a") as file:
        file["char_embed"][0, 0] = np.nan
    with pytest.raises(ValueError, match=r"lm_weights\.hdf5.*char_embed holds NaN"):
        READERS["elmo"].read(tmp_path / "copy")


@pytest.mark.reliability("B19")
@pytest.mark.parametrize(
    ("name", "file", "field"),
    [("elmo", "lm_weights.hdf5", "char_embed"), ("elmo token vectors", "vectors.hdf5", "embedding")],
)
def test_hdf5_that_grows_to_gigabytes_is_refused_by_its_header(name, file, field, sound, tmp_path):
    h5py = pytest.importorskip("h5py")
    shutil.copytree(sound(name), tmp_path / "copy")
    path = tmp_path / "copy" / file
    with h5py.File(path, "a") as opened:
        del opened[field]
        # 4 GB of zeros; the file stores none of them
        opened.create_dataset(field, (2**15, 2**15), "f4", chunks=(1024, 1024), compression="gzip")
    assert path.stat().st_size < 1e6
    with little_memory(), pytest.raises(ValueError, match=rf"{file}.*{field}.*32768"):
        READERS[name].read(tmp_path / "copy")


@pytest.mark.slow
@pytest.mark.reliability("B7", "B15", "B16")
@pytest.mark.parametrize("name", READERS)
def test_damaged_files_are_read_or_named_at_length(name, sound, tmp_path):
    """`HF_LINEAGE_FUZZ_SECONDS`, by default 30, for all readers together."""
    end = time.monotonic() + SECONDS / len(READERS)
    while time.monotonic() < end:
        search(name, sound(name), 50, random.randrange(2**32), tmp_path)
