"""datatrove's blocks and `python -m hf_lineage scale`: the same bytes whoever works, and what the results feed."""

import json
import re

import pytest
from transformers import AutoTokenizer

from hf_lineage.__main__ import main
from hf_lineage.data import (
    CorpusTexts,
    MappedTexts,
    Phrases,
    TextEncoder,
    encode_sentences,
    encoded_blocks,
    encoded_sentence_pairs,
    load_corpus,
)
from hf_lineage.tokenization import PrunedCounts, train_word_level, train_wordpiece, word_normalizer
from hf_lineage.tokenization.word_counts import count_words


pytest.importorskip("datatrove", reason="datatrove is not installed: pip install 'hf_lineage[scale]'")

from datatrove.data import Document
from datatrove.executor import LocalPipelineExecutor
from loguru import logger
from pyarrow import parquet

from hf_lineage.scale import (
    CountPhrases,
    CountWords,
    EncodeDocuments,
    EncodeSentences,
    LearnPhrases,
    MergeCounts,
    ReadFiles,
)


FILES = 6
THRESHOLDS = [1.5, 1.0]


@pytest.fixture(scope="module", autouse=True)
def quiet():
    logger.disable("datatrove")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory, tiny_corpus):
    folder = tmp_path_factory.mktemp("corpus")
    for number in range(FILES):
        # one file in JSON, one with a long line
        lines = [f"{a} {b}" for a, b in zip(tiny_corpus[number::FILES], tiny_corpus, strict=False)]
        if number == 2:
            rows = [json.dumps({"text": line}) for line in lines]
            (folder / f"{number}.jsonl").write_text("\n".join(rows))
        else:
            text = "\n".join(lines) if number != 4 else " ".join(lines * 20)
            (folder / f"{number}.txt").write_text(text)
    return folder


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory, tiny_tokenizer):
    folder = tmp_path_factory.mktemp("tokenizer")
    tiny_tokenizer.save_pretrained(folder)
    return str(folder)


def texts_of(corpus):
    return list(load_corpus(corpus)["text"])


def bytes_of(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.parquet")}


BLOCKS = {
    "words": lambda out, tokenizer: CountWords(out, limit=60),
    "phrases": lambda out, tokenizer: CountPhrases(out, limit=60),
    "documents": EncodeDocuments,
    "sentences": EncodeSentences,
}


@pytest.mark.parametrize("kind", BLOCKS)
def test_one_and_four_workers_write_the_same_bytes(corpus, tokenizer_folder, tmp_path, kind):
    """Of as many tasks as files, and of two tasks."""
    written = []
    for workers, tasks in ((1, FILES), (4, FILES), (1, 2)):
        out = tmp_path / f"{workers}_{tasks}"
        block = BLOCKS[kind](out / "files", tokenizer_folder)
        # fork: new processes would import everything again
        options = {"workers": workers, "logging_dir": str(out / "logs"), "start_method": "fork"}
        LocalPipelineExecutor([ReadFiles(corpus), block], tasks=tasks, **options).run()
        written.append(bytes_of(out / "files"))
    assert len(written[0]) == FILES * (2 if kind == "phrases" else 1)
    assert all(other == written[0] for other in written)


def test_merged_counts_are_those_of_all_texts(corpus, tmp_path):
    CountWords(tmp_path / "files").run(ReadFiles(corpus).run())
    MergeCounts(tmp_path / "files", tmp_path / "counts").run()
    counts = PrunedCounts.load(tmp_path / "counts")
    expected = train_wordpiece(texts_of(corpus), 300, show_progress=False)
    assert counts.error == 0
    found = train_wordpiece(counts, 300, show_progress=False)
    assert found.backend_tokenizer.to_str() == expected.backend_tokenizer.to_str()


def test_pruned_files_keep_the_bound(corpus, tmp_path, tiny_corpus):
    block = CountWords(tmp_path / "files", "word_level", limit=40)
    block.run(ReadFiles(corpus).run())
    MergeCounts(tmp_path / "files", tmp_path / "counts").run()
    counts = PrunedCounts.load(tmp_path / "counts")
    normalizer, pre_tokenizer, _ = block._made()
    true = count_words(texts_of(corpus), normalizer, pre_tokenizer, block.specials, False)
    assert len(true) > 2 * counts.limit
    assert 0 < counts.error <= sum(true.values()) / (counts.limit + 1)
    kept = dict(counts.items())
    for word, frequency in true.items():
        assert kept.get(word, 0) <= frequency <= kept.get(word, 0) + counts.error


def test_phrases_and_words_of_word2vec_are_the_recipes(corpus, tmp_path, capsys):
    """Two passes by the command, then the words with the phrases: what the recipe learns in memory."""
    thresholds = [str(threshold) for threshold in THRESHOLDS]
    run = ["scale", "phrases", str(corpus), str(tmp_path / "phrases"), "--min_count", "2", "--thresholds", *thresholds]
    assert main(run) == 0
    texts = MappedTexts(CorpusTexts(load_corpus(corpus)), word_normalizer(True, True).normalize_str)
    expected = Phrases.learn(texts, THRESHOLDS, min_count=2, show_progress=False)
    found = Phrases.load(tmp_path / "phrases" / "phrases.json")
    assert found.passes == expected.passes
    assert all(len(pairs) > 3 for pairs in expected.passes)
    words = ["scale", "words", str(corpus), str(tmp_path / "words"), "--kind", "word2vec"]
    assert main([*words, "--phrases", str(tmp_path / "phrases" / "phrases.json")]) == 0
    options = {"lowercase": True, "strip_punctuation": True, "show_progress": False}
    options["special_tokens"] = {"unk_token": "<unk>", "pad_token": "<pad>"}
    tokenizer = train_word_level(expected.joined(texts), **options)
    counts = PrunedCounts.load(tmp_path / "words" / "counts.parquet")
    assert train_word_level(counts, **options).get_vocab() == tokenizer.get_vocab()
    assert any("_" in word for word in tokenizer.get_vocab())
    out = capsys.readouterr().out
    assert "result: " in out
    assert "misses at most 0" in out


def test_encoded_files_are_the_tokenizers_ids(corpus, tokenizer_folder, tmp_path, capsys):
    assert main(["scale", "encode", str(corpus), str(tmp_path / "out"), "--tokenizer", tokenizer_folder]) == 0
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    columns = [parquet.read_table(path)["tokens"].to_pylist() for path in sorted((tmp_path / "out").glob("*.parquet"))]
    expected = tokenizer(texts_of(corpus), add_special_tokens=False, verbose=False)["input_ids"]
    assert sum(columns, []) == [[*ids, tokenizer.eos_token_id] for ids in expected]
    assert next(iter(encoded_blocks(tmp_path / "out", tokenizer, 8)))["input_ids"].shape == (8,)


def test_encoded_sentences_are_those_of_the_corpus(corpus, tokenizer_folder, tmp_path, capsys):
    assert main(["scale", "sentences", str(corpus), str(tmp_path / "out"), "--tokenizer", tokenizer_folder]) == 0
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    stream = encode_sentences(load_corpus(corpus), tokenizer)
    rows = [
        row for path in sorted((tmp_path / "out").glob("*.parquet")) for row in parquet.read_table(path).to_pylist()
    ]
    assert [token for row in rows for token in row["tokens"]] == stream.tokens.tolist()
    lengths = [length for row in rows for length in row["lengths"]]
    assert lengths == (stream.sentence_starts[1:] - stream.sentence_starts[:-1]).tolist()
    # the file of one document has no other document for random sentences
    (tmp_path / "out" / "00004.parquet").unlink()
    pair = next(iter(encoded_sentence_pairs(tmp_path / "out", tokenizer, 32)))
    assert pair["input_ids"].shape == pair["labels"].shape


def test_an_interrupted_job_goes_on(corpus, tmp_path, capsys):
    """What is complete is not made again; what is not is."""
    run = ["scale", "words", str(corpus), str(tmp_path / "out")]
    assert main(run) == 0
    whole = bytes_of(tmp_path / "out")
    # as a kill leaves it: a task that is not marked as complete, and no sum
    (tmp_path / "out" / "logs" / "count" / "completions" / "00003").unlink()
    (tmp_path / "out" / "logs" / "merge" / "completions" / "00000").unlink()
    (tmp_path / "out" / "files" / "00003.parquet").write_bytes(b"half")
    (tmp_path / "out" / "counts.parquet").unlink()
    kept = (tmp_path / "out" / "files" / "00002.parquet").stat().st_mtime_ns
    assert main(run) == 0
    assert bytes_of(tmp_path / "out") == whole
    assert (tmp_path / "out" / "files" / "00002.parquet").stat().st_mtime_ns == kept


def refused(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        main(["scale", *map(str, arguments)])
    assert stop.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    return err.splitlines()[-1]


def test_mistakes_are_one_line(corpus, tokenizer_folder, tmp_path, capsys):
    there = tmp_path / "there"
    there.mkdir()
    (there / "file").write_text("x")
    assert str(there) in refused(capsys, "words", corpus, there)
    assert "--workers" in refused(capsys, "words", corpus, tmp_path / "a", "--workers", 0)
    assert "nowhere" in refused(capsys, "words", tmp_path / "nowhere", tmp_path / "a")
    assert "sample_by" in refused(capsys, "words", corpus, tmp_path / "a", "--sample_by", "word")
    assert "limit" in refused(capsys, "words", corpus, tmp_path / "b", "--limit", 0)
    assert "maybe" in refused(capsys, "words", corpus, tmp_path / "a", "--lowercase", "maybe")
    assert not (tmp_path / "a").exists()


def test_other_settings_do_not_mix(corpus, tmp_path, capsys):
    assert main(["scale", "words", str(corpus), str(tmp_path / "out")]) == 0
    capsys.readouterr()
    assert "options" in refused(capsys, "words", corpus, tmp_path / "out", "--lowercase", "false")
    assert "files" in refused(capsys, "words", corpus / "0.txt", tmp_path / "out")


def test_bytes_that_are_no_text_are_named(tmp_path, capsys):
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "good.txt").write_text("a text\n")
    (tmp_path / "texts" / "bad.txt").write_bytes(b"a text\nnot \xff text\n")
    assert re.search(r"bad\.txt, line 2", refused(capsys, "words", tmp_path / "texts", tmp_path / "out"))
    replaced = ["scale", "words", str(tmp_path / "texts"), str(tmp_path / "other"), "--on_invalid", "replace"]
    assert main(replaced) == 0


@pytest.mark.parametrize("job", ["words", "phrases", "encode", "sentences"])
def test_each_help_fits_a_screen(job, capsys):
    with pytest.raises(SystemExit):
        main(["scale", job, "--help"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80


def test_documents_of_other_readers_make_a_file_per_task(tmp_path, tiny_corpus, tokenizer_folder):
    documents = [Document(text, str(number)) for number, text in enumerate(tiny_corpus)]
    out = tmp_path / "out"
    options = {"workers": 1, "logging_dir": str(tmp_path / "logs")}
    LocalPipelineExecutor([documents, EncodeDocuments(out, tokenizer_folder)], tasks=2, **options).run()
    assert sorted(path.name for path in out.iterdir()) == ["00000.parquet", "00001.parquet"]
    encode = TextEncoder(AutoTokenizer.from_pretrained(tokenizer_folder))
    rows = parquet.read_table(out / "00001.parquet")["tokens"].to_pylist()
    assert [row[:-1] for row in rows] == [ids.tolist() for ids in encode(tiny_corpus)]


def test_blocks_travel_to_other_machines(corpus, tmp_path, tokenizer_folder):
    """Slurm's and Ray's executors send them by dill, and write their settings as JSON."""
    dill = pytest.importorskip("dill")
    pipeline = [ReadFiles(corpus), CountWords(tmp_path / "there")]
    others = [EncodeDocuments(tmp_path, tokenizer_folder), EncodeSentences(tmp_path, tokenizer_folder)]
    others += [
        CountPhrases(tmp_path),
        LearnPhrases(tmp_path, tmp_path / "p", 2.0),
        MergeCounts(tmp_path, tmp_path / "m"),
    ]
    executor = LocalPipelineExecutor([*pipeline, *others], logging_dir=str(tmp_path / "logs"))
    executor.save_executor_as_json()
    reader, counting, *_ = dill.loads(dill.dumps(executor.pipeline))
    counting.run(reader.run(rank=1, world_size=2), rank=1, world_size=2)
    assert sorted(path.name for path in (tmp_path / "there").iterdir()) == [f"{n:05d}.parquet" for n in (1, 3, 5)]


@pytest.mark.slow
def test_one_and_four_workers_of_the_command_write_the_same_bytes(corpus, tmp_path, capsys):
    for workers in ("1", "4"):
        run = ["scale", "words", str(corpus), str(tmp_path / workers), "--limit", "60", "--workers", workers]
        assert main(run) == 0
    assert len(bytes_of(tmp_path / "1")) == FILES + 1
    assert bytes_of(tmp_path / "1") == bytes_of(tmp_path / "4")
