"""What to do with trained models: faster decoding, vectors of texts, alignments, words in context."""

from hf_lineage.inference.fast_decoding import PreparedDecoding, fast_decoding
from hf_lineage.inference.generated_alignment import generated_alignments, replace_unknown_words
from hf_lineage.inference.given_alignment import (
    Alignment,
    NoAttentionError,
    align,
    eager_attention,
    has_words_without_blanks,
)
from hf_lineage.inference.text_vectors import embed_texts, first_component
from hf_lineage.inference.words_in_context import WordNotFoundError, context_similarities, word_layers


__all__ = [
    "Alignment",
    "NoAttentionError",
    "PreparedDecoding",
    "WordNotFoundError",
    "align",
    "context_similarities",
    "eager_attention",
    "embed_texts",
    "fast_decoding",
    "first_component",
    "generated_alignments",
    "has_words_without_blanks",
    "replace_unknown_words",
    "word_layers",
]
