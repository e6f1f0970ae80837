"""Corpora, and the data sets made from them."""

from hf_lineage.data.bilm_streams import BidirectionalStreams, BiLMStream, encode_bilm_corpus
from hf_lineage.data.choice_questions import ChoiceQuestion, read_choice_questions
from hf_lineage.data.collators import (
    PackingCollator,
    TranslationPackingCollator,
    WithScoredPositions,
    collate_rows,
)
from hf_lineage.data.corpus import CorpusTexts, load_corpus, load_splits
from hf_lineage.data.encoded_shards import encoded_blocks, encoded_sentence_pairs
from hf_lineage.data.encoding import TextEncoder
from hf_lineage.data.kept_layers import KeptLayers, KeptStates
from hf_lineage.data.labelled_files import (
    LabelledRows,
    pair_files,
    read_labelled,
    read_labelled_file,
    read_minimal_pairs,
    splits_for_training,
    without_secret_test,
)
from hf_lineage.data.labels import LabelledData, Labels, class_names, labelled_splits, load_labelled
from hf_lineage.data.masking import Masking
from hf_lineage.data.packing import PackedDocuments
from hf_lineage.data.parallel_corpus import load_parallel_corpus, load_parallel_splits
from hf_lineage.data.phases import GrowingBatches, Phases, WithoutBlanks, batch_sizes, growing_data
from hf_lineage.data.questions import Question, Window, question_rows, read_questions
from hf_lineage.data.randomness import EpochCallback, EpochDataset, generator, permutation
from hf_lineage.data.rows import Rows, draw_rows
from hf_lineage.data.samples import recurring_word, short_sentences, with_a_mask
from hf_lineage.data.segmentation import WordSegmentation, segment_words, segmentation_of, segmented
from hf_lineage.data.sentence_pairs import (
    SentencePairs,
    SentenceStream,
    StreamedSentencePairs,
    encode_sentences,
)
from hf_lineage.data.sentences import split_sentences
from hf_lineage.data.streamed_blocks import StreamedBlocks
from hf_lineage.data.streams import BlocksWithNegatives, ContiguousBlocks, ParallelStreams, VariableStreams
from hf_lineage.data.tagging import tagged_rows, tags_of_tokens
from hf_lineage.data.task_inputs import TaskCollator, TaskInputs, task_tokenizer
from hf_lineage.data.text_files import CorpusError, read_documents, read_parts
from hf_lineage.data.token_stream import TokenStream, encode_corpus
from hf_lineage.data.translation_grammar import TranslationGrammar, grammar_corpus
from hf_lineage.data.translation_pairs import PairCollator, TokenBuckets, TranslationPairs
from hf_lineage.data.windows import WordFile, WordWindows
from hf_lineage.word_vectors.phrases import MappedTexts, Phrases


__all__ = [
    "BiLMStream",
    "BidirectionalStreams",
    "BlocksWithNegatives",
    "ChoiceQuestion",
    "ContiguousBlocks",
    "CorpusError",
    "CorpusTexts",
    "EpochCallback",
    "EpochDataset",
    "GrowingBatches",
    "KeptLayers",
    "KeptStates",
    "LabelledData",
    "LabelledRows",
    "Labels",
    "MappedTexts",
    "Masking",
    "PackedDocuments",
    "PackingCollator",
    "PairCollator",
    "ParallelStreams",
    "Phases",
    "Phrases",
    "Question",
    "Rows",
    "SentencePairs",
    "SentenceStream",
    "StreamedBlocks",
    "StreamedSentencePairs",
    "TaskCollator",
    "TaskInputs",
    "TextEncoder",
    "TokenBuckets",
    "TokenStream",
    "TranslationGrammar",
    "TranslationPackingCollator",
    "TranslationPairs",
    "VariableStreams",
    "Window",
    "WithScoredPositions",
    "WithoutBlanks",
    "WordFile",
    "WordSegmentation",
    "WordWindows",
    "batch_sizes",
    "class_names",
    "collate_rows",
    "draw_rows",
    "encode_bilm_corpus",
    "encode_corpus",
    "encode_sentences",
    "encoded_blocks",
    "encoded_sentence_pairs",
    "generator",
    "grammar_corpus",
    "growing_data",
    "labelled_splits",
    "load_corpus",
    "load_labelled",
    "load_parallel_corpus",
    "load_parallel_splits",
    "load_splits",
    "pair_files",
    "permutation",
    "question_rows",
    "read_choice_questions",
    "read_documents",
    "read_labelled",
    "read_labelled_file",
    "read_minimal_pairs",
    "read_parts",
    "read_questions",
    "recurring_word",
    "segment_words",
    "segmentation_of",
    "segmented",
    "short_sentences",
    "split_sentences",
    "splits_for_training",
    "tagged_rows",
    "tags_of_tokens",
    "task_tokenizer",
    "with_a_mask",
    "without_secret_test",
]
