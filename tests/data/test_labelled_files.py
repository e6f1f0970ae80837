"""Labelled data as it is written: every kind of file, every cell, and the place of what cannot be read."""

import csv
import gzip
import json

import datasets
import pandas
import pyarrow as pa
import pytest
from pyarrow import parquet

from hf_lineage.data import read_labelled, read_labelled_file
from hf_lineage.files import CorpusError


# what no reader may change, cut or lose
CELLS = [
    "007",
    "None",
    "NA",
    "1.50",
    "a, b; c",
    'say "no"',
    "two\nlines",
    "é 字 \u2028 x",
    " blanks ",
    "-",
    "#",
    "a|b",
]


def columns_of(rows):
    return {name: rows.column(name) for name in rows.column_names}


@pytest.mark.parametrize("ending", ["csv", "tsv", "csv.gz", "jsonl", "jsonl.gz", "json", "parquet"])
@pytest.mark.parametrize("writer", ["pandas", "python"])
def test_what_others_write_is_read_cell_by_cell(tmp_path, ending, writer):
    frame = pandas.DataFrame({"text": CELLS, "label": ["x", "y"] * 6})
    path = tmp_path / f"train.{ending}"
    if writer == "python" and ending.split(".")[0] in ("csv", "tsv"):
        unpack = gzip.open if ending.endswith("gz") else open
        with unpack(path, "wt", encoding="utf-8-sig", newline="") as file:
            delimiter = ";" if ending.startswith("csv") else "\t"
            table = csv.writer(file, quoting=csv.QUOTE_ALL, delimiter=delimiter, lineterminator="\r\n")
            table.writerows([list(frame.columns), *frame.itertuples(index=False)])
    elif ending.startswith(("csv", "tsv")):
        frame.to_csv(path, index=False, sep="\t" if ending.startswith("tsv") else ",")
    elif ending.startswith("json"):
        frame.to_json(path, orient="records", lines=ending.startswith("jsonl"), force_ascii=writer == "pandas")
    else:
        frame.to_parquet(path)
    rows = read_labelled_file(path)
    assert rows.texts("text") == CELLS
    assert rows.column("label") == ["x", "y"] * 6
    assert len(rows) == 12


def test_a_tab_separated_file_may_hold_quotes(tmp_path):
    """As the files of GLUE do: a quote is a letter there."""
    cells = ['"He said', 'so" he went', '5" of "snow"', '"all of it"']
    (tmp_path / "train.tsv").write_text("text\tlabel\n" + "".join(f"{cell}\t1\n" for cell in cells))
    assert read_labelled_file(tmp_path / "train.tsv").texts("text") == [*cells[:3], "all of it"]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_the_first_line_tells_what_separates(tmp_path, separator):
    (tmp_path / "train.csv").write_text(f"text{separator} label \nsome words{separator}1\n")
    assert columns_of(read_labelled_file(tmp_path / "train.csv")) == {"text": ["some words"], "label": ["1"]}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "text,label\na, b,0\n", r"a\.csv, line 2: there are 3 cells, .* 2 columns \(text, label\)"),
        ("a.csv", 'text,label\nx,1\n"a, b,0\nb,1\n', r"a\.csv, line 3: .*double quotes"),
        ("a.csv", 'text,label\n"two\nlines",1\n"a" b,0\n', r"a\.csv, line 4: .*double quotes"),
        ("a.csv", "text,text\nx,1\n", r"line 1: two columns are named 'text'"),
        ("a.csv", "text,label\n", "a.csv has no rows: .*leave the file out"),
        ("a.csv", "", r"a\.csv is empty"),
        (
            "a.csv",
            "text,label\né,0\n".encode("latin-1"),
            r"a\.csv, line 2, byte 11 .*0xe9 is not UTF-8; .*encoding='latin-1'",
        ),
        ("a.csv", "text,label\nx,0\n".encode("utf-16"), r"a\.csv, line 1, byte 0 .*0xff is not UTF-8"),
        ("a.csv", "text,label\n\0,0\n", r"a\.csv, line 2, .*NUL"),
        ("a.jsonl", '{"text": "x"}\n\n{"text": }\n', r"a\.jsonl, line 3: not JSON"),
        ("a.jsonl", '{"text": "x"}\n{"text": "y', r"a\.jsonl, line 2: not JSON .*each line.*cut off: fetch"),
        ("a.json", '[{"text": "x"}, {"te', r"a\.json: not JSON .*cut off: fetch"),
        ("a.jsonl", '{"text": "x"}\n[1]\n', r"a\.jsonl, line 2: a JSON list"),
        ("a.json", '[{"text": "x"}, 3]', r"a\.json, row 2: a JSON int"),
        ("a.parquet", "no", r"a\.parquet is not a whole Parquet file"),
        ("a.csv.gz", "no", r"a\.csv\.gz is not a whole gzip file"),
        ("a.xlsx", "no", r"a\.xlsx is of no known kind: .*\.jsonl, \.json, \.csv, \.tsv, \.parquet"),
    ],
)
def test_what_cannot_be_read_is_named_by_its_place(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(CorpusError, match=message):
        read_labelled_file(tmp_path / name)


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16", "utf-8"])
def test_other_encodings_are_read_by_name(tmp_path, encoding):
    (tmp_path / "train.csv").write_bytes("text,label\nFaçade,1\n".encode(encoding))
    assert read_labelled_file(tmp_path / "train.csv", encoding=encoding).texts("text") == ["Façade"]
    with pytest.raises(CorpusError, match="encoding is 'klingon'"):
        read_labelled_file(tmp_path / "train.csv", encoding="klingon")


def test_numbers_of_json_are_texts_as_they_are_written(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": 1.50}\n{"text": 7}\n{"text": 1E3}\n{"text": true}')
    rows = read_labelled_file(tmp_path / "a.jsonl")
    with pytest.raises(CorpusError, match=r"a\.jsonl, line 4: .*'text' is True \(bool\)"):
        rows.texts("text")
    (tmp_path / "a.jsonl").write_text('{"text": 1.50}\n{"text": 7}\n{"text": 1E3}\n{"text": ["a", 2.0]}')
    assert read_labelled_file(tmp_path / "a.jsonl").texts("text") == ["1.50", "7", "1E3", ["a", "2.0"]]


def test_whole_numbers_are_read_from_every_kind(tmp_path):
    (tmp_path / "a.csv").write_text("text,index1\na, 3\nb,x\n")
    (tmp_path / "a.jsonl").write_text('{"index1": 3}\n{"index1": 4.0}\n{"index1": 4.5}')
    with pytest.raises(CorpusError, match=r"a\.csv, line 3: .*'index1'.*'x'"):
        read_labelled_file(tmp_path / "a.csv").whole_numbers("index1")
    with pytest.raises(CorpusError, match=r"a\.jsonl, line 3: .*'index1'.* 4\.5"):
        read_labelled_file(tmp_path / "a.jsonl").whole_numbers("index1")
    with pytest.raises(CorpusError, match=r"a\.csv, line 2: .*'index2'.*text, index1"):
        read_labelled_file(tmp_path / "a.csv").whole_numbers("index2")


def test_splits_are_found_by_their_names(tmp_path):
    (tmp_path / "data").mkdir()
    names = ["train-00000-of-00002", "train-00001-of-00002", "validation_matched-00000-of-00001"]
    for number, name in enumerate(names):
        features = datasets.Features(text=datasets.Value("string"), label=datasets.ClassLabel(names=["no", "yes"]))
        rows = datasets.Dataset.from_dict({"text": [name], "label": [number % 2]}, features)
        rows.to_parquet(tmp_path / "data" / f"{name}.parquet")
    (tmp_path / "dev.csv").write_text("text\na\n")
    (tmp_path / "README.md").write_text("nothing")
    found = read_labelled(tmp_path)
    assert {split: rows.column("text") for split, rows in found.items()} == {
        "train": names[:2],
        "validation": ["a"],
        "validation_matched": names[2:],
    }
    assert found["train"].features["label"].names == ["no", "yes"]
    assert found["train"].place(1).endswith("train-00001-of-00002.parquet, row 1")
    files = read_labelled({"train": tmp_path / "dev.csv", "test": tmp_path / "dev.csv"})
    assert list(files) == ["train", "test"]
    (tmp_path / "dev.jsonl").write_text(json.dumps({"text": "a"}))
    with pytest.raises(CorpusError, match=r"dev\.csv.*dev\.jsonl.*'dev'"):
        read_labelled(tmp_path)
    with pytest.raises(CorpusError, match=r"dev\.csv, a file: .*train_file"):
        read_labelled(tmp_path / "dev.csv")


@pytest.mark.parametrize("text", ['"a\\u0000"', '"\\ud800"'])
def test_what_no_text_may_hold_is_named(tmp_path, text):
    (tmp_path / "a.jsonl").write_text(f'{{"text": "fine"}}\n{{"text": {text}}}')
    with pytest.raises(CorpusError, match=r"a\.jsonl, line 2: .*'text'"):
        read_labelled_file(tmp_path / "a.jsonl").texts("text")


CONLLU = """# sent_id = 1
# text = Don't go.
1-2\tDon't\t_\t_\t_\t_\t_\t_\t_\t_
1\tDo\tdo\tAUX\tVBP\t_\t3\taux\t_\t_
2\tn't\tnot\tPART\tRB\t_\t3\tadvmod\t_\t_
3\tgo\tgo\tVERB\tVB\t_\t0\troot\t_\t_
3.1\tsomewhere\tsomewhere\tADV\tRB\t_\t_\t_\t_\t_

1\t#\t#\tSYM\t$\t_\t0\troot\t_\t_
"""


def test_universal_dependencies(tmp_path):
    (tmp_path / "dev.conllu").write_text(CONLLU)
    rows = read_labelled(tmp_path)["validation"]
    assert rows.texts("tokens") == [["Do", "n't", "go"], ["#"]]
    assert rows.column("upos") == [["AUX", "PART", "VERB"], ["SYM"]]
    assert rows.place(1).endswith("dev.conllu, line 9")
    (tmp_path / "dev.conllu").write_text(CONLLU + "2 and AUX\n")
    with pytest.raises(CorpusError, match=r"dev\.conllu, line 10: 1 columns.*10 separated by tabs"):
        read_labelled(tmp_path)


def test_columns_of_conll(tmp_path):
    path = tmp_path / "train.conll"
    path.write_text("-DOCSTART- -X- O\n\nEU NNP B-ORG\nrejects VBZ O\n\n\n# NN O\n")
    rows = read_labelled_file(path)
    assert rows.column_names == ["tokens", "column 2", "tags"]
    assert rows.column("tags") == [["B-ORG", "O"], ["O"]]
    assert rows.texts("tokens")[1] == ["#"]
    path.write_text("EU NNP B-ORG\nrejects O\n")
    with pytest.raises(CorpusError, match=r"train\.conll, line 2: 2 columns.*3"):
        read_labelled_file(path)


@pytest.mark.parametrize("byte", [0xFF, 0x00])
def test_a_damaged_name_of_a_column_is_named_with_its_file(tmp_path, byte):
    path = tmp_path / "a.parquet"
    parquet.write_table(pa.table({"text": ["a"], "label": [0]}), path)
    damaged = path.read_bytes().replace(b"text", bytes([byte]) + b"ext")
    path.write_bytes(damaged)
    with pytest.raises(CorpusError, match=r"a\.parquet"):
        read_labelled_file(path).texts("text")


def test_what_is_not_there_is_named_with_a_remedy(tmp_path):
    with pytest.raises(CorpusError, match=r"a\.jsonl: there is no such file: give"):
        read_labelled_file(tmp_path / "a.jsonl")
    with pytest.raises(CorpusError, match=r"dataset is .*nowhere: no folder, .*; give a folder with files"):
        read_labelled(tmp_path / "nowhere")
    with pytest.raises(CorpusError, match=r"dataset is .*: a folder without files train.*; give a folder with files"):
        read_labelled(tmp_path)
