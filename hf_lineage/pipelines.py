"""Pipelines for word vectors (the input embeddings of any model whose tokens are words), translation and answers.

Importing this file registers for `transformers.pipeline`: "word-analogy", "word-similarity", "multiple-choice",
"next-sentence-prediction", "lineage-translation" and "lineage-question-answering"; and "translation" and
"question-answering", which transformers 5 has removed. Of each text the first 100,000 characters are read, with a
warning.

A saved model carries the pipeline of its head to the Hub, and `pipeline.save_pretrained` that of words too: with
`trust_remote_code=True` they answer without this package, except for the option `replace_unknown`.
"""

from hf_lineage.models.pipeline_inputs import LONGEST_TEXT
from hf_lineage.models.pipeline_multiple_choice import MultipleChoicePipeline
from hf_lineage.models.pipeline_next_sentence import NextSentencePipeline
from hf_lineage.models.pipeline_question_answering import QuestionAnsweringPipeline
from hf_lineage.models.pipeline_translation import TranslationPipeline
from hf_lineage.models.pipeline_word_vectors import WordAnalogyPipeline, WordSimilarityPipeline


__all__ = [
    "LONGEST_TEXT",
    "MultipleChoicePipeline",
    "NextSentencePipeline",
    "QuestionAnsweringPipeline",
    "TranslationPipeline",
    "WordAnalogyPipeline",
    "WordSimilarityPipeline",
]
