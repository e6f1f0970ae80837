"""Word vectors without their model: neighbours, analogies, similarities, files, and the phrases of a corpus."""

from hf_lineage.models.analogy_scores import ANALOGY_METHODS, analogy_scores
from hf_lineage.word_vectors.analogy import Analogy, answer_analogies, load_analogies
from hf_lineage.word_vectors.phrases import MappedTexts, Phrases
from hf_lineage.word_vectors.similarity import WordPair, load_similarities, pair_similarities
from hf_lineage.word_vectors.spellings import Spellings
from hf_lineage.word_vectors.vectors import WordVectors


__all__ = [
    "ANALOGY_METHODS",
    "Analogy",
    "MappedTexts",
    "Phrases",
    "Spellings",
    "WordPair",
    "WordVectors",
    "analogy_scores",
    "answer_analogies",
    "load_analogies",
    "load_similarities",
    "pair_similarities",
]
