"""Counts of a corpus of any size: a table of limited size, whose error is known, and which can be merged with others.

words -> counts of a stretch -> table of word, count and counter, pruned -> Parquet file -> one table of many files

This is the summary of Misra and Gries (1982) in the mergeable form of Agarwal et al. (2012, "Mergeable summaries",
§3). Of the N words read, a table of at most k words keeps for each word

- count: how often it was seen since it last came into the table; never more than its true frequency;
- counter: what Misra and Gries keep, from which pruning subtracts.

Pruning with the (k+1)-th largest counter s subtracts s from all counters, drops the words whose counter is then not
above 0, and adds s to `error`, E. Merging adds counts, counters, totals and errors; a word missing in one table has 0
there.

Bounds. For every word, count ≤ true frequency ≤ counter + E, with counter = 0 for words outside the table, which so
occur at most E times. Proof: counting and merging keep this; pruning keeps counter + E of the words that stay, and
those that go had counter + E of at most s + E, which is the new E.

E ≤ (N − C) / (k + 1) ≤ N / (k + 1), where C is the sum of the counters. Proof: a word read adds 1 to N and to C;
pruning takes s from at least k + 1 counters, so at least (k + 1) · s from C, and adds s to E; merging adds on both
sides. So a table that was never pruned has E = 0, and is exact.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from hf_lineage.files import CorpusError, replacing


SCHEMA = pa.schema([("word", pa.string()), ("count", pa.int64()), ("counter", pa.int64())])
_FACTS = b"hf_lineage"
# raise it when the meaning of a file changes
_VERSION = 1
# rows that are read at a time
_ROWS = 2**17


class PrunedCounts:
    """Counts of words in a table of at most `limit` words; `total` words were read, each count misses at most `error`.

    `made_from` tells what was counted, such as the rules that cut words: tables of different rules cannot be merged.
    Memory holds at most 2 · `limit` rows of about 40 bytes, and as much again while they are sorted.

    Raises ValueError for a limit below 1.
    """

    def __init__(self, limit: int = 5_000_000, made_from: Mapping[str, Any] | None = None):
        if limit < 1:
            raise ValueError(f"limit is {limit}; it is a number of words, at least 1")
        self.limit = limit
        self.made_from = dict(made_from or {})
        self.total = 0
        self.error = 0
        # not yet summed up
        self._tables: list[pa.Table] = []

    def add(self, counts: Mapping[str, int]):
        """Adds counts of a stretch of text; words read before may be among them."""
        words = pa.array(counts.keys(), pa.string())
        numbers = pa.array(counts.values(), pa.int64())
        self._add(pa.table([words, numbers, numbers], SCHEMA))
        self.total += sum(counts.values())

    def merge(self, other: "PrunedCounts"):
        """Adds the counts of another table.

        Raises:
            ValueError: the other table counted something else.
        """
        if other.made_from != self.made_from:
            raise ValueError(f"counts of {other.made_from} cannot be added to counts of {self.made_from}")
        for table in other._tables:
            self._add(table)
        self.total += other.total
        self.error += other.error

    def _add(self, table):
        self._tables.append(table)
        if sum(map(len, self._tables)) > 2 * self.limit:
            self._sum_up()

    def _sum_up(self):
        """One table with each word once, pruned."""
        if len(self._tables) > 1:
            sums = pa.concat_tables(self._tables).group_by("word", use_threads=False)
            sums = sums.aggregate([("count", "sum"), ("counter", "sum")])
            self._tables = [sums.select(["word", "count_sum", "counter_sum"]).rename_columns(SCHEMA.names)]
        self._tables = [self._pruned(table) for table in self._tables]

    def _pruned(self, table):
        surplus = len(table) - self.limit
        if surplus <= 0:
            return table
        counters = table["counter"].to_numpy()
        step = int(np.partition(counters, surplus - 1)[surplus - 1])
        self.error += step
        left = counters - step
        return table.set_column(2, "counter", pa.array(left)).filter(pa.array(left > 0))

    @property
    def table(self) -> pa.Table:
        """At most `limit` rows of word, count and counter, each word once, in no order."""
        self._sum_up()
        return self._tables[0] if self._tables else SCHEMA.empty_table()

    def items(self) -> Iterator[tuple[str, int]]:
        """Words and their counts."""
        for batch in self.table.to_batches(_ROWS):
            yield from zip(batch["word"].to_pylist(), batch["count"].to_pylist(), strict=True)

    def __len__(self) -> int:
        return len(self.table)

    def save(self, path: str | PathLike):
        """Writes a Parquet file, sorted by word: equal tables give equal bytes."""
        table = self.table.sort_by("word")
        names = ("limit", "total", "error", "made_from")
        facts = {"version": _VERSION} | {name: getattr(self, name) for name in names}
        table = table.replace_schema_metadata({_FACTS: json.dumps(facts, sort_keys=True)})
        with replacing(Path(path)) as temporary:
            parquet.write_table(table, temporary, compression="zstd", use_dictionary=False)

    @classmethod
    def load(cls, path: str | PathLike) -> "PrunedCounts":
        """Reads what `save` wrote.

        Raises:
            CorpusError: the file holds no counts.
            OSError: the file cannot be read.
        """
        try:
            table = parquet.read_table(path, memory_map=False, partitioning=None)
            facts = json.loads((table.schema.metadata or {})[_FACTS])
            counts = cls(int(facts["limit"]), facts["made_from"])
            counts.total, counts.error = int(facts["total"]), int(facts["error"])
            if facts["version"] != _VERSION or not table.schema.equals(SCHEMA):
                raise ValueError(f"version {facts['version']}, columns {table.schema.names}")
        except (pa.ArrowException, ValueError, TypeError, KeyError) as error:
            raise CorpusError(f"{path} is not a file of counts, as PrunedCounts.save writes it ({error!r})") from error
        counts._tables = [table.replace_schema_metadata(None)]
        return counts

    @classmethod
    def merged(cls, paths: Iterable[str | PathLike]) -> "PrunedCounts":
        """The sum of saved tables; the same paths in the same order give the same table.

        Raises:
            ValueError: there is no path, or the tables counted different things.
            CorpusError: a file holds no counts.
            OSError: a file cannot be read.
        """
        counts = None
        for path in paths:
            one = cls.load(path)
            if counts is None:
                counts = one
            else:
                counts.merge(one)
        if counts is None:
            raise ValueError("there are no files of counts to merge")
        return counts
