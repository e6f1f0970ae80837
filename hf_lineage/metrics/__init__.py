"""Metrics: translations and alignments, perplexities across vocabularies, tests of word vectors."""

from hf_lineage.metrics.adaptive import dynamic_log_probabilities, neural_cache_log_probabilities
from hf_lineage.metrics.alignment_error_rate import AlignmentErrorRate, parse_links
from hf_lineage.metrics.answers import best_null_threshold, find_answers, score_answers
from hf_lineage.metrics.bert_pretraining import measure_bert_pretraining
from hf_lineage.metrics.bilm_perplexity import measure_bilm_perplexity
from hf_lineage.metrics.bleu import BLEU, bleu_of_generated, bleu_tokenizer, generated_texts, is_lowercasing
from hf_lineage.metrics.class_scores import score_classification
from hf_lineage.metrics.floors import choice_floors, classification_floors
from hf_lineage.metrics.likelihood import (
    continuation_log_probabilities,
    directional_log_probabilities,
    pseudo_log_probabilities,
)
from hf_lineage.metrics.minimal_pairs import judge_minimal_pairs, measure_minimal_pairs
from hf_lineage.metrics.perplexity import log_probabilities, measure_perplexity, perplexities, perplexity_of
from hf_lineage.metrics.score_table import score_table
from hf_lineage.metrics.tag_scores import majority_tags, score_tags
from hf_lineage.metrics.word_analogy import WordAnalogy, measure_word_analogy
from hf_lineage.metrics.word_similarity import WordSimilarity, measure_word_similarity
from hf_lineage.word_vectors import answer_analogies, load_analogies, load_similarities, pair_similarities


__all__ = [
    "BLEU",
    "AlignmentErrorRate",
    "WordAnalogy",
    "WordSimilarity",
    "answer_analogies",
    "best_null_threshold",
    "bleu_of_generated",
    "bleu_tokenizer",
    "choice_floors",
    "classification_floors",
    "continuation_log_probabilities",
    "directional_log_probabilities",
    "dynamic_log_probabilities",
    "find_answers",
    "generated_texts",
    "is_lowercasing",
    "judge_minimal_pairs",
    "load_analogies",
    "load_similarities",
    "log_probabilities",
    "majority_tags",
    "measure_bert_pretraining",
    "measure_bilm_perplexity",
    "measure_minimal_pairs",
    "measure_perplexity",
    "measure_word_analogy",
    "measure_word_similarity",
    "neural_cache_log_probabilities",
    "pair_similarities",
    "parse_links",
    "perplexities",
    "perplexity_of",
    "pseudo_log_probabilities",
    "score_answers",
    "score_classification",
    "score_table",
    "score_tags",
]
