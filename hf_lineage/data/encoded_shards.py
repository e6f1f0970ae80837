"""Training data in many files of token ids, made once by `hf_lineage.scale` and read while training.

A Parquet file per file of the corpus, a document per row: `tokens`, and for sentence pairs also `lengths`, the tokens
of each sentence. `datasets` streams them: each process reads its own files, and `state_dict()` tells where it stands.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
from pyarrow import parquet
from transformers import PreTrainedTokenizerBase

from hf_lineage.data import randomness
from hf_lineage.data.blocks import causal_block, check_block_size, check_context_size
from hf_lineage.data.masking import Masking
from hf_lineage.data.sentence_pairs import PairPlanner, SentenceStream, planned_together, shuffled_pairs
from hf_lineage.data.token_stream import end_mark
from hf_lineage.files import CorpusError, replacing


_FACTS = b"hf_lineage"
# tokens of a row group: 4 MB of ids
_ROW_GROUP = 2**20


def write_shard(path: str | Path, documents: Iterable[list[np.ndarray]], facts: str, sentences: bool) -> int:
    """Writes documents, lists of sentences of token ids, int32; returns the number of tokens.

    `facts` is `facts_of` their tokenizer. Without `sentences` only the tokens are kept. Equal documents give equal
    bytes.
    """
    columns = ["tokens", "lengths"] if sentences else ["tokens"]
    schema = pa.schema([(name, pa.list_(pa.int32())) for name in columns], {_FACTS: facts})
    total, held, size = 0, [], 0

    def write():
        columns = [_lists([np.concatenate(document) for document in held])]
        if sentences:
            columns.append(_lists([np.array([*map(len, document)], np.int32) for document in held]))
        file.write_table(pa.table(columns, schema))

    with replacing(path) as temporary:
        with parquet.ParquetWriter(temporary, schema, compression="zstd") as file:
            for document in documents:
                held.append(document)
                size += sum(map(len, document))
                if size >= _ROW_GROUP:
                    write()
                    total, held, size = total + size, [], 0
            if held:
                write()
    return total + size


def _lists(rows: list[np.ndarray]) -> pa.Array:
    offsets = np.cumsum([0, *map(len, rows)], dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(np.concatenate(rows)))


def facts_of(tokenizer: PreTrainedTokenizerBase) -> str:
    """What decides the ids of a text; a tokenizer's template and decoder do not."""
    parts = json.loads(tokenizer.backend_tokenizer.to_str())
    ids = [parts[name] for name in ("added_tokens", "normalizer", "pre_tokenizer", "model")]
    return json.dumps({"tokenizer": hashlib.sha256(json.dumps(ids).encode()).hexdigest()})


def shards_of(folder: str | Path, tokenizer: PreTrainedTokenizerBase, column: str = "tokens") -> list[str]:
    """The files of a folder that `write_shard` wrote, in the order of their names.

    Raises:
        CorpusError: there is none, one lacks the `column`, or another tokenizer wrote it.
    """
    paths = sorted(map(str, Path(folder).glob("*.parquet")))
    if not paths:
        raise CorpusError(f"the folder {folder} has no .parquet files of token ids: write them with hf_lineage.scale")
    facts = facts_of(tokenizer).encode()
    for path in paths:
        try:
            schema = parquet.read_schema(path)
        except pa.ArrowException as error:
            raise CorpusError(f"{path} is not a whole Parquet file ({error}); write it again") from error
        if column not in schema.names:
            raise CorpusError(f"{path} has no column {column!r}, it has {', '.join(schema.names)}")
        if (schema.metadata or {}).get(_FACTS) != facts:
            raise CorpusError(f"{path} holds ids of another tokenizer: encode the corpus with this one")
    return paths


def encoded_blocks(
    folder: str | Path, tokenizer: PreTrainedTokenizerBase, block_size: int, *, context_size: int = 1
) -> datasets.IterableDataset:
    """The blocks of `StreamedBlocks` from a folder of token ids, as datasets streams them: a shard per file.

    Each file is a stream of its own, `<eos> d1 <eos> d2 <eos> ... dn <eos>`; the tokens at its end that do not fill a
    block are dropped. With accelerate's `dispatch_batches=False` each process reads its own files, if their number is
    at least that of the processes. `state_dict()` and `load_state_dict()` of datasets resume in the middle of a file,
    and do not read again the files before it. `shuffle(seed, buffer_size)` and `repeat(passes)` are datasets' own.

    Raises:
        ValueError: a setting is out of range, or the tokenizer has no eos_token.
        CorpusError: the folder has no files of this tokenizer's ids.
    """
    check_block_size(block_size)
    check_context_size(context_size, block_size)
    settings = {"end": end_mark(tokenizer), "block_size": block_size, "context_size": context_size}
    paths = shards_of(folder, tokenizer)
    return datasets.IterableDataset.from_generator(_blocks, gen_kwargs={"paths": paths, **settings})


def _blocks(paths, end, block_size, context_size):
    for path in paths:
        pending, only_read, file = np.array([end], np.int32), 1, parquet.ParquetFile(path)
        for group in range(file.num_row_groups):
            [tokens] = file.read_row_group(group, columns=["tokens"]).combine_chunks()["tokens"].chunks
            pending = np.concatenate([pending, tokens.flatten().to_numpy()])
            start = 0
            while len(pending) - start >= block_size:
                yield causal_block(pending[start : start + block_size], only_read)
                start, only_read = start + block_size - context_size, context_size
            pending = pending[start:]


def encoded_sentence_pairs(
    folder: str | Path,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int = 128,
    *,
    masking: Masking | None = None,
    short_probability: float = 0.1,
    duplicates: int = 1,
    seed: int = 0,
) -> datasets.IterableDataset:
    """The pairs of `StreamedSentencePairs` from a folder of token ids with `lengths`, as datasets streams them.

    A shard is one of the `duplicates` of a file, each cut into other pairs. For processes and resuming see
    `encoded_blocks`. Everything is a function of (seed, duplicate, file, place in the file).

    Raises:
        ValueError: a setting is out of range.
        CorpusError: the folder has no files of this tokenizer's ids and sentences; and, when reading, a file has fewer
            than two documents.
    """
    if duplicates < 1:
        raise ValueError(f"duplicates is {duplicates}; it must be at least 1")
    paths = shards_of(folder, tokenizer, "lengths")
    settings = {
        "tokenizer": tokenizer,
        "max_length": max_length,
        "masking": masking or Masking.of(tokenizer),
        "short_probability": short_probability,
        "seed": seed,
    }
    shards = [(duplicate, number, path) for duplicate in range(duplicates) for number, path in enumerate(paths)]
    return datasets.IterableDataset.from_generator(_pairs, gen_kwargs={"shards": shards, **settings})


def _pairs(shards, tokenizer, max_length, masking, short_probability, seed):
    for duplicate, number, path in shards:
        for group, documents in enumerate(planned_together(_documents(path))):
            stream = SentenceStream.of(documents)
            planner = PairPlanner(stream, max_length, short_probability)
            draw = randomness.generator(seed, duplicate, group, f"encoded pairs of file {number}")
            yield from shuffled_pairs(stream, planner, tokenizer, masking, draw)


def _documents(path) -> Iterator[list[np.ndarray]]:
    file = parquet.ParquetFile(path)
    for group in range(file.num_row_groups):
        table = file.read_row_group(group)
        for tokens, lengths in zip(table["tokens"], table["lengths"], strict=True):
            ends = np.cumsum(lengths.values.to_numpy())
            yield np.split(tokens.values.to_numpy(), ends[:-1])
