"""Metrics: perplexities that compare across vocabularies, likelihoods and what they answer, what word vectors know."""

from .bert_pretraining import BERTPretraining, measure_bert_pretraining
from .classification import score_classification
from .likelihood import continuation_log_probabilities, pseudo_log_probabilities
from .minimal_pairs import MinimalPairs, measure_minimal_pairs
from .perplexity import Perplexity, measure_perplexity
from .word_analogy import WordAnalogy, answer_analogies, load_analogies, measure_word_analogy
from .word_similarity import WordSimilarity, load_similarities, measure_word_similarity, pair_similarities


__all__ = [
    "BERTPretraining",
    "MinimalPairs",
    "Perplexity",
    "WordAnalogy",
    "WordSimilarity",
    "answer_analogies",
    "continuation_log_probabilities",
    "load_analogies",
    "load_similarities",
    "measure_bert_pretraining",
    "measure_minimal_pairs",
    "measure_perplexity",
    "measure_word_analogy",
    "measure_word_similarity",
    "pair_similarities",
    "pseudo_log_probabilities",
    "score_classification",
]
