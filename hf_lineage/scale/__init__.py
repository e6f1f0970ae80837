"""Corpora larger than a machine: blocks for datatrove's pipelines (extra `scale`), which count and encode.

A task of datatrove's executors (local, Slurm, Ray) works on some of the corpus's files. A block writes a file per file
of the corpus, so that neither the number of tasks nor that of workers changes what is written.

files -> documents (ReadFiles) -> counts per file (CountWords, CountPhrases) -> counts (MergeCounts, LearnPhrases)
files -> documents (ReadFiles) -> token ids per file (EncodeDocuments, EncodeSentences)

`hf_lineage.data.encoded_blocks` and `encoded_sentence_pairs` read token ids while training; the trainers of
`hf_lineage.tokenization` take counts in place of texts.
"""

from hf_lineage.scale.pipeline_blocks import (
    CountPhrases,
    CountWords,
    EncodeDocuments,
    EncodeSentences,
    LearnPhrases,
    MergeCounts,
    ReadFiles,
)


__all__ = [
    "CountPhrases",
    "CountWords",
    "EncodeDocuments",
    "EncodeSentences",
    "LearnPhrases",
    "MergeCounts",
    "ReadFiles",
]
