"""Corpora larger than a machine: blocks of `hf_lineage.scale` compared with datatrove's own tokenizer.

    python benchmarks/scale.py                                                  # the package's corpus
    python benchmarks/scale.py --corpus 'texts/train-*.txt' --rounds 5
    python benchmarks/scale.py --corpus 'texts/train-*.txt' --count_words 200000000

The first table has words per CPU-second of one core, in turns; both tokenizers must give the same ids. The second has
wall seconds and CPU-seconds of one worker and of two. With `--count_words` the script instead repeats the corpus in
ten files until it has that many words, each `new_word_every`-th of them new, and counts them with one worker.
"""

import itertools
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median


os.environ.update(OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false")

import numpy as np
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.tokens import DocumentTokenizer
from loguru import logger
from pyarrow import parquet

from hf_lineage.arguments import parse
from hf_lineage.data import load_corpus
from hf_lineage.scale import (
    CountPhrases,
    CountWords,
    EncodeDocuments,
    EncodeSentences,
    MergeCounts,
    ReadFiles,
    pipeline_blocks,
)
from hf_lineage.tokenization import PrunedCounts, train_wordpiece


@dataclass
class BenchmarkArguments:
    """What is read, and how often."""

    corpus: str | None = field(default=None, metadata={"help": "As load_corpus takes it; default: Wikipedia text."})
    words: int = field(default=2_000_000, metadata={"help": "At most this many words are read per round."})
    files: int = field(default=8, metadata={"help": "Files that the text is cut into."})
    vocab_size: int = field(default=30_000, metadata={"help": "Vocabulary size of the tokenizer trained on it."})
    rounds: int = field(default=5, metadata={"help": "Rounds; each runs everything once."})
    count_words: int | None = field(default=None, metadata={"help": "Count this many words instead."})
    new_word_every: int = field(
        default=20, metadata={"help": "With count_words: words from one new word to the next."}
    )
    limit: int = field(default=5_000_000, metadata={"help": "With count_words: words kept."})


def write_texts(texts, folder: Path, number: int) -> int:
    """Writes texts in `number` files, and returns their number of words."""
    folder.mkdir()
    for file in range(number):
        lines = texts[file::number]
        (folder / f"{file:02d}.txt").write_text("\n".join(lines), encoding="utf-8")
    return sum(len(text.split()) for text in texts)


def rates(args, folder: Path, num_words: int, tokenizer: Path):
    """Words per CPU-second of each block alone, reading included."""
    out = folder / "out"
    theirs = {"eos_token": "[SEP]", "shuffle_documents": False, "save_final_metadata": False}
    make = {
        "datatrove's DocumentTokenizer": lambda: DocumentTokenizer(
            str(out), str(tokenizer / "tokenizer.json"), **theirs
        ),
        "EncodeDocuments": lambda: EncodeDocuments(out, str(tokenizer)),
        "EncodeSentences": lambda: EncodeSentences(out, str(tokenizer), "en"),
        "CountWords": lambda: CountWords(out, "wordpiece"),
        "CountPhrases": lambda: CountPhrases(out),
    }
    measured, ids = {name: [] for name in make}, {}
    for _ in range(args.rounds):
        for name, block in make.items():
            shutil.rmtree(out, ignore_errors=True)
            pipeline_blocks._encoder.cache_clear()
            # in parts, a long text would get an end mark per part from datatrove
            step, reader = block(), ReadFiles(folder / "texts", longest=None)
            started = time.process_time()
            step.run(reader.run())
            measured[name].append(num_words / (time.process_time() - started))
            if "Document" in name:
                ids[name] = ids_of(out)
    mine, other = ids.values()
    np.testing.assert_array_equal(mine, other)
    base = median(measured["datatrove's DocumentTokenizer"])
    print(f"\n{num_words:,} words, one core, {args.rounds} rounds in turns: words per CPU-second")
    for name, values in measured.items():
        row = f"{name:<32}{median(values):>12,.0f}{min(values):>12,.0f}{max(values):>12,.0f}"
        print(row + f"{median(values) / base:>8.2f} x")


def ids_of(folder: Path) -> np.ndarray:
    """The token ids in a folder, which datatrove writes in one file of two bytes each."""
    if files := sorted(folder.glob("*.parquet")):
        columns = [parquet.read_table(path)["tokens"] for path in files]
        return np.concatenate([chunk.flatten().to_numpy() for column in columns for chunk in column.chunks])
    return np.concatenate([np.fromfile(path, np.uint16) for path in sorted(folder.glob("*.ds"))])


def workers(args, folder: Path, num_words: int, tokenizer: Path):
    """Wall seconds and CPU-seconds of all tasks with one worker and with two; the same bytes."""
    make = {
        "EncodeDocuments": lambda out: EncodeDocuments(out, str(tokenizer)),
        "CountWords": lambda out: CountWords(out, "wordpiece"),
    }
    print(f"\n{args.files} files, {args.rounds} rounds in turns: wall seconds (CPU-seconds) of 1 and 2 workers")
    for name, block in make.items():
        walls, processor, written = {1: [], 2: []}, {1: [], 2: []}, {}
        for _, number in itertools.product(range(args.rounds), walls):
            out = folder / f"workers{number}"
            shutil.rmtree(out, ignore_errors=True)
            pipeline_blocks._encoder.cache_clear()
            # fork: the workers need not import anything
            executor = LocalPipelineExecutor(
                [ReadFiles(folder / "texts"), block(out / "files")],
                tasks=args.files,
                workers=number,
                logging_dir=str(out / "logs"),
                start_method="fork",
            )
            before, started = cpu_seconds(), time.perf_counter()
            executor.run()
            walls[number].append(time.perf_counter() - started)
            processor[number].append(cpu_seconds() - before)
            written[number] = [path.read_bytes() for path in sorted((out / "files").glob("*.parquet"))]
        if written[1] != written[2]:
            raise AssertionError("one worker and two wrote different bytes")
        one, two = median(walls[1]), median(walls[2])
        cpu = [median(values) for values in processor.values()]
        print(f"{name:<20}{one:>8.2f} ({cpu[0]:.2f}){two:>8.2f} ({cpu[1]:.2f}){one / two:>8.2f} x")


def cpu_seconds() -> float:
    """Of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def write_repeated(args, texts: list[str], folder: Path):
    """Ten files of the texts, repeated, in which one word of `new_word_every` is new."""
    folder.mkdir()
    new, remaining, source = itertools.count(), args.count_words, itertools.cycle(texts)
    for file in range(10):
        left = remaining // (10 - file)
        remaining -= left
        with open(folder / f"{file}.txt", "w", encoding="utf-8") as lines:
            while left > 0:
                words = next(source).split()
                places = range(left % args.new_word_every, len(words), args.new_word_every)
                for place, number in zip(places, new, strict=False):
                    words[place] += f"q{number:x}"
                left -= len(words)
                lines.write(" ".join(words) + "\n")


def count(args, folder: Path):
    """Runs in a process of its own, and prints what it took."""
    before, started, processor = peak_megabytes(), time.perf_counter(), time.process_time()
    CountWords(folder / "files", "word_level", lowercase=True, limit=args.limit).run(ReadFiles(folder / "texts").run())
    counted, after_files = time.process_time() - processor, peak_megabytes()
    MergeCounts(folder / "files", folder / "counts.parquet").run()
    counts = PrunedCounts.load(folder / "counts.parquet")
    report = {
        "words": counts.total,
        "words kept": len(counts),
        "words in the files' counts": sum(parquet.read_metadata(path).num_rows for path in folder.glob("files/*")),
        "error": counts.error,
        "bound on the error": counts.total // (counts.limit + 1),
        "CPU-seconds, counting": counted,
        "CPU-seconds, merging": time.process_time() - processor - counted,
        "seconds": time.perf_counter() - started,
        "MB before": before,
        "MB peak, counting": after_files,
        "MB peak": peak_megabytes(),
        "MB on disk, text": sum(path.stat().st_size for path in folder.glob("texts/*")) / 1e6,
        "MB on disk, counts": sum(path.stat().st_size for path in folder.rglob("*.parquet")) / 1e6,
    }
    print(json.dumps(report, indent=1))


def peak_megabytes() -> float:
    """The largest resident memory so far, in MB of 2^20 bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main():
    (args,) = parse(BenchmarkArguments)
    if folder := os.environ.get("HF_LINEAGE_SCALE_FOLDER"):
        count(args, Path(folder))
        return
    logger.disable("datatrove")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if args.count_words:
            write_repeated(args, list(load_corpus(args.corpus)["text"]), folder / "texts")
            environment = {**os.environ, "HF_LINEAGE_SCALE_FOLDER": name}
            subprocess.run([sys.executable, *sys.argv], env=environment, check=True)
            return
        texts, words = [], 0
        for row in load_corpus(args.corpus, streaming=True):
            texts.append(row["text"])
            words += len(row["text"].split())
            if words >= args.words:
                break
        num_words = write_texts(texts, folder / "texts", args.files)
        # a vocabulary below 2^16, so that datatrove writes two bytes per id
        train_wordpiece(texts, args.vocab_size, show_progress=False).save_pretrained(folder / "tokenizer")
        rates(args, folder, num_words, folder / "tokenizer")
        workers(args, folder, num_words, folder / "tokenizer")


if __name__ == "__main__":
    main()
