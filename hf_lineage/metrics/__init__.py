"""Metrics: translations and alignments, perplexities across vocabularies, and what word vectors know of words."""

from .adaptive import dynamic_log_probabilities, neural_cache_log_probabilities
from .alignment_error_rate import AlignmentErrorRate, parse_links
from .bert_pretraining import BERTPretraining, measure_bert_pretraining
from .bilm_perplexity import measure_bilm_perplexity
from .bleu import BLEU, bleu_of_generated, generated_texts
from .classification import score_classification
from .likelihood import continuation_log_probabilities, pseudo_log_probabilities
from .minimal_pairs import MinimalPairs, measure_minimal_pairs
from .perplexity import Perplexity, log_probabilities, measure_perplexity, perplexity_of
from .word_analogy import WordAnalogy, answer_analogies, load_analogies, measure_word_analogy
from .word_similarity import WordSimilarity, load_similarities, measure_word_similarity, pair_similarities


__all__ = [
    "BLEU",
    "AlignmentErrorRate",
    "BERTPretraining",
    "MinimalPairs",
    "Perplexity",
    "WordAnalogy",
    "WordSimilarity",
    "answer_analogies",
    "bleu_of_generated",
    "continuation_log_probabilities",
    "dynamic_log_probabilities",
    "generated_texts",
    "load_analogies",
    "load_similarities",
    "log_probabilities",
    "measure_bert_pretraining",
    "measure_bilm_perplexity",
    "measure_minimal_pairs",
    "measure_perplexity",
    "measure_word_analogy",
    "measure_word_similarity",
    "neural_cache_log_probabilities",
    "pair_similarities",
    "parse_links",
    "perplexity_of",
    "pseudo_log_probabilities",
    "score_classification",
]
