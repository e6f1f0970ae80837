"""Metrics: perplexities that compare across vocabularies, and what word vectors know of words."""

from .adaptive import dynamic_log_probabilities, neural_cache_log_probabilities
from .perplexity import Perplexity, measure_perplexity
from .word_analogy import WordAnalogy, answer_analogies, load_analogies, measure_word_analogy
from .word_similarity import WordSimilarity, load_similarities, measure_word_similarity, pair_similarities


__all__ = [
    "Perplexity",
    "WordAnalogy",
    "WordSimilarity",
    "answer_analogies",
    "dynamic_log_probabilities",
    "load_analogies",
    "load_similarities",
    "measure_perplexity",
    "measure_word_analogy",
    "measure_word_similarity",
    "neural_cache_log_probabilities",
    "pair_similarities",
]
