"""Corpora and the datasets made of them."""

from hf_lineage.data.corpus import CorpusError, load_corpus, read_documents
from hf_lineage.data.packing import PackedDocuments
from hf_lineage.data.phrases import MappedTexts, Phrases
from hf_lineage.data.randomness import EpochCallback, EpochDataset, generator, permutation
from hf_lineage.data.streams import ContiguousBlocks, ParallelStreams, StreamedBlocks, TokenStream, encode_corpus
from hf_lineage.data.windows import WordFile, WordWindows


__all__ = [
    "ContiguousBlocks",
    "CorpusError",
    "EpochCallback",
    "EpochDataset",
    "MappedTexts",
    "PackedDocuments",
    "ParallelStreams",
    "Phrases",
    "StreamedBlocks",
    "TokenStream",
    "WordFile",
    "WordWindows",
    "encode_corpus",
    "generator",
    "load_corpus",
    "permutation",
    "read_documents",
]
