"""`python -m hf_lineage scale`: counts and encodes a corpus larger than a machine, on the cores of this one.

On several machines the same blocks run in datatrove's Slurm and Ray executors (docs/scale.md).
"""

import argparse
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.base import PipelineStep
from loguru import logger

from hf_lineage.arguments import json_mapping
from hf_lineage.commands import COLUMNS
from hf_lineage.data.corpus_files import with_stamp
from hf_lineage.files import read_text, write_json
from hf_lineage.scale.pipeline_blocks import (
    CountPhrases,
    CountWords,
    EncodeDocuments,
    EncodeSentences,
    LearnPhrases,
    MergeCounts,
    ReadFiles,
)
from hf_lineage.tokenization import RULES, PrunedCounts
from hf_lineage.word_vectors.phrases import Phrases


SETTINGS = "settings.json"


def scale(arguments: list[str]):
    """Counts or encodes a corpus larger than memory.

    Raises:
        ValueError: an argument is out of its range, or OUTPUT holds the results of other settings.
        CorpusError: the corpus cannot be read.
    """
    args = vars(_parser().parse_args(arguments))
    job, workers, corpus = args.pop("job"), args.pop("workers"), args.pop("corpus")
    output = args.pop("output")
    if workers < 1:
        raise ValueError(f"--workers is {workers}; it is a number of processes, at least 1")
    # the workers are as many as the cores that the user gives
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    reader = ReadFiles(corpus, **{name: args.pop(name) for name in ("text_field", "sample_by", "on_invalid")})
    files = [with_stamp(Path(path)) for path in reader.files]
    settings = {"job": job.__name__, "files": files, "options": args, "reader": reader.options}
    _keep_settings(output, json.loads(json.dumps(settings)))
    sys.stdout.write(job(_Run(reader, output, workers), **args) + "\n")


@dataclass(frozen=True)
class _Run:
    reader: ReadFiles
    output: Path
    workers: int

    def execute(self, name: str, block: PipelineStep):
        """Runs a block on the texts, a task per file; tasks that are complete do not run again."""
        self._execute(name, [self.reader, block], len(self.reader.files))

    def execute_once(self, name: str, block: PipelineStep):
        """Runs a block that puts results together."""
        self._execute(name, [block], 1)

    def _execute(self, name, pipeline, tasks):
        executor = LocalPipelineExecutor(
            [_without_tracebacks, *pipeline],
            tasks=tasks,
            workers=min(self.workers, tasks),
            logging_dir=str(self.output / "logs" / name),
        )
        try:
            executor.run()
        except (ValueError, OSError) as error:
            # one that comes from another process does not tell which code raised it
            raise ValueError(str(error)) from error


def _parser() -> argparse.ArgumentParser:
    whole = argparse.ArgumentParser(
        "hf_lineage scale",
        description="Counts or encodes a corpus larger than memory, a file per process at a time.",
        epilog="hf_lineage scale JOB --help says more.",
        formatter_class=_formatter,
    )
    jobs = whole.add_subparsers(required=True, metavar="JOB")

    def new(name: str, job: Callable, text: str) -> argparse.ArgumentParser:
        usage = f"hf_lineage scale {name} CORPUS OUTPUT [--option VALUE ...]"
        one = jobs.add_parser(
            name, help=text, usage=usage, description=text, formatter_class=_formatter, allow_abbrev=False
        )
        one.set_defaults(job=job)
        one.add_argument("corpus", metavar="CORPUS", help="a file, a folder, or a pattern in quotes")
        one.add_argument("output", metavar="OUTPUT", type=Path, help="a folder; an interrupted job continues there")
        one.add_argument("--workers", type=int, default=1, metavar="N", help="processes (1)")
        one.add_argument("--text_field", default="text", metavar="NAME", help="of jsonl, csv and parquet (text)")
        one.add_argument("--sample_by", default="line", metavar="UNIT", help="a document of .txt (line)")
        one.add_argument("--on_invalid", default="error", metavar="HOW", help="or replace: bytes that are not text")
        return one

    words = new("words", count_words, "Counts words, to train tokenizers and word2vec on.")
    kinds = [*RULES, "word2vec"]
    words.add_argument("--kind", choices=kinds, default="wordpiece", metavar="KIND", help=", ".join(kinds))
    words.add_argument("--lowercase", type=_boolean, metavar="BOOL", help="default: as its trainer")
    words.add_argument("--special_tokens", type=json_mapping, metavar="JSON", help="of the tokenizer (BERT's five)")
    words.add_argument("--phrases", metavar="FILE", help="phrases.json: with word2vec, phrases are words")
    phrases = new("phrases", learn_phrases, "Finds phrases such as new_york, for word2vec.")
    phrases.add_argument("--thresholds", type=float, nargs="+", default=[200.0, 100.0], metavar="T", help="(200 100)")
    phrases.add_argument("--min_count", type=int, default=5, metavar="N", help="least count of both words (5)")
    for one in (words, phrases):
        one.add_argument("--limit", type=int, default=5_000_000, metavar="N", help="counts kept (5 million)")
    documents = new("encode", encode, "Token ids of documents, for causal language models.")
    sentences = new("sentences", encode_in_sentences, "Token ids of sentences, for BERT.")
    for one in (documents, sentences):
        one.add_argument("--tokenizer", required=True, metavar="FOLDER", help="of a saved tokenizer")
    sentences.add_argument("--language", metavar="CODE", help="such as de; default: by the script")
    return whole


def _formatter(prog: str) -> argparse.HelpFormatter:
    return argparse.RawDescriptionHelpFormatter(prog, width=COLUMNS)


def _boolean(text: str) -> bool:
    if text not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return text == "true"


def count_words(run: _Run, kind, lowercase, special_tokens, phrases, limit) -> str:
    """Writes `counts.parquet`."""
    rules = {} if lowercase is None else {"lowercase": lowercase}
    if kind == "word2vec":
        # as recipes/pretrain_word2vec.py has them
        kind, rules = "word_level", {"lowercase": True, "strip_punctuation": True} | rules
        special_tokens = special_tokens or {"unk_token": "<unk>", "pad_token": "<pad>"}
    files, total = run.output / "files", run.output / "counts.parquet"
    options = {"special_tokens": special_tokens, "phrases": phrases, "limit": limit}
    run.execute("count", CountWords(files, kind, **options, **rules))
    run.execute_once("merge", MergeCounts(files, total))
    counts = PrunedCounts.load(total)
    return f"result: {total}\n{len(counts):,} words of {counts.total:,}; a count misses at most {counts.error}"


def learn_phrases(run: _Run, thresholds, min_count, limit) -> str:
    """Writes `phrases.json`, after a folder per pass with the counts."""
    before = None
    for number, threshold in enumerate(thresholds, start=1):
        folder = run.output / f"pass{number}"
        after = run.output / "phrases.json" if number == len(thresholds) else folder / "phrases.json"
        run.execute(f"pass{number}_count", CountPhrases(folder, phrases=before, limit=limit))
        learning = LearnPhrases(folder, after, threshold, phrases=before, min_count=min_count)
        run.execute_once(f"pass{number}_learn", learning)
        before = after
    found = [f"{len(pairs):,}" for pairs in Phrases.load(run.output / "phrases.json").passes]
    return f"result: {before}\nphrases per pass: {', '.join(found)}"


def encode(run: _Run, tokenizer) -> str:
    """Writes token ids of documents."""
    return _encoded(run, EncodeDocuments(run.output, tokenizer))


def encode_in_sentences(run: _Run, tokenizer, language) -> str:
    """Writes token ids of documents, sentence by sentence."""
    return _encoded(run, EncodeSentences(run.output, tokenizer, language))


def _encoded(run, block) -> str:
    run.execute("encode", block)
    files = list(run.output.glob("*.parquet"))
    size = sum(path.stat().st_size for path in files)
    return f"result: {run.output}\n{len(files):,} files, {size / 1e6:,.1f} MB"


def _keep_settings(output: Path, settings: dict):
    path = output / SETTINGS
    if path.is_file():
        before = json.loads(read_text(path))
        if before != settings:
            other = sorted(name for name in {*before, *settings} if before.get(name) != settings.get(name))
            raise ValueError(f"OUTPUT {output} holds the results of other {', '.join(other)}: name another folder")
        return
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ValueError(f"OUTPUT {output} exists and is not empty: name another folder")
    output.mkdir(parents=True, exist_ok=True)
    write_json(path, settings)


def _without_tracebacks(data=None, rank=0, world_size=1):
    # the error is told in one line
    logger.disable("datatrove")
