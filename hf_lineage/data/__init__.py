"""Corpora and the datasets made of them."""

from hf_lineage.data.corpus import CorpusError, load_corpus, read_documents
from hf_lineage.data.kept_layers import KeptLayers
from hf_lineage.data.packing import PackedDocuments
from hf_lineage.data.randomness import EpochCallback, EpochDataset, generator, permutation
from hf_lineage.data.sentence_streams import BidirectionalStreams, SentenceStream, encode_sentences
from hf_lineage.data.streams import (
    BlocksWithNegatives,
    ContiguousBlocks,
    ParallelStreams,
    StreamedBlocks,
    TokenStream,
    encode_corpus,
)
from hf_lineage.data.windows import WordFile, WordWindows


__all__ = [
    "BidirectionalStreams",
    "BlocksWithNegatives",
    "ContiguousBlocks",
    "CorpusError",
    "EpochCallback",
    "EpochDataset",
    "KeptLayers",
    "PackedDocuments",
    "ParallelStreams",
    "SentenceStream",
    "StreamedBlocks",
    "TokenStream",
    "WordFile",
    "WordWindows",
    "encode_corpus",
    "encode_sentences",
    "generator",
    "load_corpus",
    "permutation",
    "read_documents",
]
