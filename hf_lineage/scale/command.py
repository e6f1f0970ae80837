"""`python -m hf_lineage scale`: counts and encodes a corpus larger than a machine, on the cores of this one.

On several machines the same blocks run in datatrove's Slurm and Ray executors (docs/scale.md).
"""

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

from datatrove.executor import LocalPipelineExecutor
from loguru import logger

from hf_lineage.arguments import json_mapping
from hf_lineage.commands import COLUMNS
from hf_lineage.data.corpus_files import with_stamp
from hf_lineage.data.text_files import ON_INVALID, SAMPLE_BY
from hf_lineage.files import read_text, write_json
from hf_lineage.scale.blocks import (
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
    args = _parser().parse_args(arguments)
    if args.workers < 1:
        raise ValueError(f"--workers is {args.workers}; it is a number of processes, at least 1")
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    reader = ReadFiles(args.corpus, text_field=args.text_field, sample_by=args.sample_by, on_invalid=args.on_invalid)
    settings = {name: value for name, value in vars(args).items() if name not in ("job", "workers", "corpus", "output")}
    settings = {"job": args.job.__name__, "files": list(map(with_stamp, map(Path, reader.files))), **settings}
    _keep_settings(args.output, json.loads(json.dumps(settings)))
    sys.stdout.write(args.job(args, reader) + "\n")


def _parser() -> argparse.ArgumentParser:
    def parser(make: Callable, *name: str, description: str) -> argparse.ArgumentParser:
        return make(
            *name,
            description=description,
            formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, width=COLUMNS),
            allow_abbrev=False,
        )

    described = "Counts or encodes a corpus larger than memory, a file per process at a time.\nscale JOB --help says more."
    whole = parser(argparse.ArgumentParser, description=described)
    whole.prog = "hf_lineage scale"
    jobs = whole.add_subparsers(required=True, metavar="JOB")
    texts = {
        "words": "Counts words, for recipes/train_tokenizer.py and pretrain_word2vec.py (--word_counts).",
        "phrases": "Finds phrases such as new_york, for pretrain_word2vec.py (--phrases).",
        "encode": "Token ids of documents, for pretrain_causal_lm.py (--encoded_corpus).",
        "sentences": "Token ids of sentences, for pretrain_bert.py (--encoded_corpus).",
    }
    parsers = {}
    for name, text in texts.items():
        one = parsers[name] = jobs.add_parser(
            name, help=text, description=text, formatter_class=whole.formatter_class, allow_abbrev=False
        )
        one.add_argument("corpus", metavar="CORPUS", help="a file, a folder, or a pattern in quotes")
        one.add_argument("output", metavar="OUTPUT", type=Path, help="a folder; an interrupted job goes on there")
        one.add_argument("--workers", type=int, default=1, metavar="N", help="processes (1)")
        one.add_argument("--text_field", default="text", metavar="NAME", help="of jsonl, csv and parquet (text)")
        one.add_argument("--sample_by", choices=SAMPLE_BY, default="line", help="a document of .txt (line)")
        one.add_argument("--on_invalid", choices=ON_INVALID, default="error", help="bytes that are no text (error)")
    for name in ("words", "phrases"):
        parsers[name].add_argument("--limit", type=int, default=5_000_000, metavar="N", help="counts kept (5 million)")
        parsers[name].add_argument("--lowercase", action="store_true", help="count lower-cased words")
        parsers[name].add_argument("--strip_punctuation", action="store_true", help="leave out punctuation")
    words, phrases = parsers["words"], parsers["phrases"]
    words.add_argument("--kind", choices=RULES, default="wordpiece", help="of the tokenizer (wordpiece)")
    words.add_argument("--special_tokens", type=json_mapping, metavar="JSON", help="of the tokenizer (BERT's five)")
    words.add_argument("--phrases", metavar="FILE", help="phrases.json: phrases count as words")
    words.set_defaults(job=count_words)
    phrases.add_argument("--thresholds", type=float, nargs="+", default=[200.0, 100.0], metavar="T", help="(200 100)")
    phrases.add_argument("--min_count", type=int, default=5, metavar="N", help="least count of both words (5)")
    phrases.set_defaults(job=learn_phrases)
    for name, job in (("encode", encode), ("sentences", encode_in_sentences)):
        parsers[name].add_argument("--tokenizer", required=True, metavar="FOLDER", help="of a saved tokenizer")
        parsers[name].set_defaults(job=job)
    parsers["sentences"].add_argument("--language", metavar="CODE", help="such as de; default: by the script")
    return whole


def count_words(args: argparse.Namespace, reader: ReadFiles) -> str:
    """Writes `counts.parquet`."""
    rules = {name: True for name in ("lowercase", "strip_punctuation") if getattr(args, name)}
    if args.kind == "wordpiece":
        if args.strip_punctuation:
            raise ValueError("--strip_punctuation is for --kind word_level, since word pieces keep punctuation")
        rules["lowercase"] = args.lowercase
    files, total = args.output / "files", args.output / "counts.parquet"
    options = {"special_tokens": args.special_tokens, "phrases": args.phrases, "limit": args.limit}
    _execute(args, "count", [reader, CountWords(files, args.kind, **options, **rules)])
    _execute(args, "merge", [MergeCounts(files, total)], tasks=1)
    counts = PrunedCounts.load(total)
    return f"result: {total}\n{len(counts):,} words of {counts.total:,}; a count misses at most {counts.error}"


def learn_phrases(args: argparse.Namespace, reader: ReadFiles) -> str:
    """Writes `phrases.json`, after a folder per pass with the counts."""
    rules = {"lowercase": args.lowercase, "strip_punctuation": args.strip_punctuation}
    before = None
    for number, threshold in enumerate(args.thresholds, start=1):
        folder = args.output / f"pass{number}"
        after = args.output / "phrases.json" if number == len(args.thresholds) else folder / "phrases.json"
        counting = CountPhrases(folder, phrases=before, limit=args.limit, **rules)
        _execute(args, f"pass{number}_count", [reader, counting])
        learning = LearnPhrases(folder, after, threshold, phrases=before, min_count=args.min_count)
        _execute(args, f"pass{number}_learn", [learning], tasks=1)
        before = after
    found = [f"{len(pairs):,}" for pairs in Phrases.load(before).passes]
    return f"result: {before}\nphrases per pass: {', '.join(found)}"


def encode(args: argparse.Namespace, reader: ReadFiles) -> str:
    """Writes token ids of documents."""
    return _encoded(args, reader, EncodeDocuments(args.output, args.tokenizer))


def encode_in_sentences(args: argparse.Namespace, reader: ReadFiles) -> str:
    """Writes token ids of documents, sentence by sentence."""
    return _encoded(args, reader, EncodeSentences(args.output, args.tokenizer, args.language))


def _encoded(args, reader, block) -> str:
    _execute(args, "encode", [reader, block])
    files = list(args.output.glob("*.parquet"))
    size = sum(path.stat().st_size for path in files)
    return f"result: {args.output}\n{len(files):,} files, {size / 1e6:,.1f} MB"


def _keep_settings(output: Path, settings: dict):
    path = output / SETTINGS
    if path.is_file():
        before = json.loads(read_text(path))
        if before != settings:
            other = sorted(name for name in {*before, *settings} if before.get(name) != settings.get(name))
            raise ValueError(f"OUTPUT {output} holds the results of other {', '.join(other)}: name another folder")
        return
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ValueError(f"OUTPUT {output} is there and not empty: name another folder")
    output.mkdir(parents=True, exist_ok=True)
    write_json(path, settings)


def _execute(args, name: str, pipeline: list, tasks: int | None = None):
    """Runs the tasks that are not yet complete: one per file of the corpus."""
    tasks = tasks or len(pipeline[0].files)
    executor = LocalPipelineExecutor(
        [_without_tracebacks, *pipeline],
        tasks=tasks,
        workers=min(args.workers, tasks),
        logging_dir=str(args.output / "logs" / name),
    )
    try:
        executor.run()
    except (ValueError, OSError) as error:
        # one that comes from another process does not tell which code raised it
        raise ValueError(str(error)) from error


def _without_tracebacks(data=None, rank=0, world_size=1):
    # the error is told in one line
    logger.disable("datatrove")
