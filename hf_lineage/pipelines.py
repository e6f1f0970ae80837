"""Pipelines for word vectors (the input embeddings of any model whose tokens are words), translation and answers.

Importing this file registers for `transformers.pipeline`: "word-analogy", "word-similarity", "multiple-choice",
"next-sentence-prediction", "lineage-translation" and "lineage-question-answering"; and "translation" and
"question-answering", which transformers 5 has removed. Of each text the first 100,000 characters are read, with a
warning; of one to translate the first 10,000, of one to continue the last 100,000. transformers' own tasks follow this
rule for models of the lineage, and are as ever for all others.

A saved model carries the pipeline of its head to the Hub, and `pipeline.save_pretrained` that of words too: with
`trust_remote_code=True` they answer without this package, except for the option `replace_unknown`. transformers' own
tasks then read texts of any length.
"""

from collections.abc import Mapping

import transformers
from transformers.pipelines import PIPELINE_REGISTRY
from transformers.pipelines.base import Pipeline
from transformers.utils.chat_template_utils import Chat

from hf_lineage.models import station_of
from hf_lineage.models.pipeline_inputs import LONGEST_SOURCE, LONGEST_TEXT, TakesEmptyLists, part_read, words_read
from hf_lineage.models.pipeline_multiple_choice import MultipleChoicePipeline
from hf_lineage.models.pipeline_next_sentence import NextSentencePipeline
from hf_lineage.models.pipeline_question_answering import QuestionAnsweringPipeline
from hf_lineage.models.pipeline_translation import TranslationPipeline
from hf_lineage.models.pipeline_word_vectors import WordAnalogyPipeline, WordSimilarityPipeline


__all__ = [
    "LONGEST_SOURCE",
    "LONGEST_TEXT",
    "FeatureExtractionPipeline",
    "FillMaskPipeline",
    "MultipleChoicePipeline",
    "NextSentencePipeline",
    "QuestionAnsweringPipeline",
    "TextClassificationPipeline",
    "TextGenerationPipeline",
    "TokenClassificationPipeline",
    "TranslationPipeline",
    "WordAnalogyPipeline",
    "WordSimilarityPipeline",
    "ZeroShotClassificationPipeline",
]


class ChecksTexts(TakesEmptyLists, Pipeline):
    """What a task of transformers lacks: it names an input that is no text, and reads long ones in part.

    Raises:
        ValueError: an input holds something else than texts, or half a character.
    """

    # whether the last part of a text counts, not the first
    end = False

    def __new__(cls, model=None, *arguments, **options):
        """A pipeline of this class, but transformers' own for models of others."""
        if model is None or station_of(getattr(model.config, "model_type", "")):
            return super().__new__(cls)
        _, of_transformers = cls.__bases__
        return of_transformers(*arguments, model=model, **options)

    def preprocess(self, inputs, *arguments, **options):
        return super().preprocess(self.checked(inputs), *arguments, **options)

    def checked(self, inputs):
        """The same texts, pairs or words of a text, each of them cut where it is too long."""
        if isinstance(inputs, str):
            return part_read("the text", inputs, end=self.end)
        if isinstance(inputs, Mapping):
            # a pair may lack its second text
            given = {name: text for name, text in inputs.items() if text is not None or name == "text"}
            return {name: self.checked(text) for name, text in given.items()}
        if isinstance(inputs, list | tuple):
            return type(inputs)(self.checked(each) for each in inputs)
        raise ValueError(f"the input is {inputs!r:.60}; it must be a text")


class FeatureExtractionPipeline(ChecksTexts, transformers.FeatureExtractionPipeline):
    """transformers' FeatureExtractionPipeline, which checks its texts."""


class FillMaskPipeline(ChecksTexts, transformers.FillMaskPipeline):
    """transformers' FillMaskPipeline, which checks its texts."""


class TextClassificationPipeline(ChecksTexts, transformers.TextClassificationPipeline):
    """transformers' TextClassificationPipeline, which checks its texts."""


class TextGenerationPipeline(ChecksTexts, transformers.TextGenerationPipeline):
    """transformers' TextGenerationPipeline, which checks its texts."""

    end = True

    def checked(self, inputs):
        return inputs if isinstance(inputs, Chat) else super().checked(inputs)


class TokenClassificationPipeline(ChecksTexts, transformers.TokenClassificationPipeline):
    """transformers' TokenClassificationPipeline, which checks its texts."""

    def checked(self, inputs):
        # a text may come as its words
        return words_read(super().checked(inputs)) if isinstance(inputs, list) else super().checked(inputs)


class ZeroShotClassificationPipeline(ChecksTexts, transformers.ZeroShotClassificationPipeline):
    """transformers' ZeroShotClassificationPipeline, which checks its texts."""


for task, pipeline_class in {
    "feature-extraction": FeatureExtractionPipeline,
    "fill-mask": FillMaskPipeline,
    "text-classification": TextClassificationPipeline,
    "text-generation": TextGenerationPipeline,
    "token-classification": TokenClassificationPipeline,
    "zero-shot-classification": ZeroShotClassificationPipeline,
}.items():
    # not by register_pipeline: a pipeline that is saved would take its class along
    PIPELINE_REGISTRY.supported_tasks[task]["impl"] = pipeline_class
