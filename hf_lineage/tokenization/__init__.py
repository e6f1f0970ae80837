"""Tokenizers of the lineage, trained reproducibly.

The same words with the same counts give the same bytes of tokenizer.json, on every run and with any number of threads.
"""

from hf_lineage.tokenization.byte_pairs import byte_pairs_rules, train_byte_pairs
from hf_lineage.tokenization.characters import train_characters
from hf_lineage.tokenization.elmo import elmo_tokenizer
from hf_lineage.tokenization.opening import DamagedTokenizerError, open_tokenizer
from hf_lineage.tokenization.pruned_counts import PrunedCounts
from hf_lineage.tokenization.roles import BERT_SPECIAL_TOKENS, causal_tokenizer, translation_tokenizer
from hf_lineage.tokenization.word_level import (
    extend_word_level,
    is_word_level,
    refuse_texts_without_blanks,
    train_word_level,
    word_level_rules,
    word_normalizer,
)
from hf_lineage.tokenization.wordpiece import train_wordpiece, wordpiece_rules


# by their names in recipes
TRAINERS = {
    "wordpiece": train_wordpiece,
    "byte_pairs": train_byte_pairs,
    "word_level": train_word_level,
    "character": train_characters,
}

# how the trainers of words cut a text: settings -> normalizer, pre-tokenizer
RULES = {"wordpiece": wordpiece_rules, "byte_pairs": byte_pairs_rules, "word_level": word_level_rules}

__all__ = [
    "BERT_SPECIAL_TOKENS",
    "RULES",
    "TRAINERS",
    "DamagedTokenizerError",
    "PrunedCounts",
    "causal_tokenizer",
    "elmo_tokenizer",
    "extend_word_level",
    "is_word_level",
    "open_tokenizer",
    "refuse_texts_without_blanks",
    "train_byte_pairs",
    "train_characters",
    "train_word_level",
    "train_wordpiece",
    "translation_tokenizer",
    "word_normalizer",
]
