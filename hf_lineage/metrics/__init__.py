"""Metrics: perplexities that compare across vocabularies, and what word vectors know of words."""

from .bilm_perplexity import measure_bilm_perplexity
from .perplexity import Perplexity, log_probabilities, measure_perplexity, perplexity_of
from .word_analogy import WordAnalogy, answer_analogies, load_analogies, measure_word_analogy
from .word_similarity import WordSimilarity, load_similarities, measure_word_similarity, pair_similarities


__all__ = [
    "Perplexity",
    "WordAnalogy",
    "WordSimilarity",
    "answer_analogies",
    "load_analogies",
    "load_similarities",
    "log_probabilities",
    "measure_bilm_perplexity",
    "measure_perplexity",
    "measure_word_analogy",
    "measure_word_similarity",
    "pair_similarities",
    "perplexity_of",
]
