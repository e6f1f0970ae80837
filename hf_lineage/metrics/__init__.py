"""Metrics: perplexities that compare across vocabularies, and what word vectors know of words."""

from .bert_pretraining import BERTPretraining, measure_bert_pretraining
from .classification import score_classification
from .perplexity import Perplexity, measure_perplexity
from .word_analogy import WordAnalogy, answer_analogies, load_analogies, measure_word_analogy
from .word_similarity import WordSimilarity, load_similarities, measure_word_similarity, pair_similarities


__all__ = [
    "BERTPretraining",
    "Perplexity",
    "WordAnalogy",
    "WordSimilarity",
    "answer_analogies",
    "load_analogies",
    "load_similarities",
    "measure_bert_pretraining",
    "measure_perplexity",
    "measure_word_analogy",
    "measure_word_similarity",
    "pair_similarities",
    "score_classification",
]
