"""Pipelines for word vectors (the input embeddings of any model whose tokens are words), translation and answers.

Importing this file registers for `transformers.pipeline`: "word-analogy", "word-similarity", "multiple-choice",
"next-sentence-prediction", "lineage-translation" and "lineage-question-answering"; and "translation" and
"question-answering", which transformers 5 has removed. Of each text the first 100,000 characters are read, with a
warning; of one to translate the first 10,000, of one to continue the last 100,000. A text of more tokens than a model
has positions is cut, too. transformers' own tasks follow these rules for models of the lineage, and are as ever for
all others.

A saved model carries the pipeline of its head to the Hub, and `pipeline.save_pretrained` that of words too: with
`trust_remote_code=True` they answer without this package, except for the option `replace_unknown`. transformers' own
tasks then cut no text.
"""

from collections.abc import Mapping
from functools import partial

import transformers
from transformers.pipelines import PIPELINE_REGISTRY
from transformers.pipelines.base import Pipeline
from transformers.utils.chat_template_utils import Chat

from hf_lineage.models import station_of
from hf_lineage.models.pipeline_inputs import (
    LONGEST_SOURCE,
    LONGEST_TEXT,
    ReadsWhatFits,
    TakesEmptyLists,
    part_read,
    words_read,
)
from hf_lineage.models.pipeline_multiple_choice import MultipleChoicePipeline
from hf_lineage.models.pipeline_next_sentence import NextSentencePipeline
from hf_lineage.models.pipeline_question_answering import QuestionAnsweringPipeline
from hf_lineage.models.pipeline_token_classification import ChainPipeline
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
        of_transformers = next(each for each in cls.__mro__ if each.__module__.startswith("transformers."))
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


class CutsTexts(ReadsWhatFits):
    """Of a task of transformers whose options go to the tokenizer: a text longer than the model reads is cut."""

    def preprocess(self, inputs, **options):
        options, encode = self.limited(options), super().preprocess
        encoded = encode(inputs, **options)
        if options.get("truncation"):
            whole = {name: one for name, one in options.items() if name not in ("truncation", "max_length", "padding")}
            self.warn_if_cut(
                self.tokens_in(encoded),
                lambda: self.tokens_in(encode(inputs, verbose=False, **whole)),
                options.get("max_length"),
            )
        return encoded


class CutsMaskedTexts(ReadsWhatFits):
    """Of transformers' FillMaskPipeline: a text longer than the model reads is cut."""

    def preprocess(self, inputs, return_tensors=None, tokenizer_kwargs=None, **options):
        limited = self.limited(tokenizer_kwargs or {})
        if limited.get("truncation") and isinstance(inputs, str):
            # before: the base class refuses a text that has lost its mask
            whole = len(self.tokenizer(inputs, verbose=False)["input_ids"])
            read = min(whole, limited.get("max_length") or self.tokenizer.model_max_length)
            self.warn_if_cut(read, lambda: whole, read)
        return super().preprocess(inputs, return_tensors, limited, **options)


class CutsPremises(ReadsWhatFits):
    """Of transformers' ZeroShotClassificationPipeline: of a text longer than the model reads the text alone is cut."""

    def preprocess(self, inputs, candidate_labels=None, hypothesis_template="This example is {}."):
        pairs, _ = self._args_parser(inputs, candidate_labels, hypothesis_template)
        is_said = False
        for pair, encoded in zip(
            pairs, super().preprocess(inputs, candidate_labels, hypothesis_template), strict=True
        ):
            is_said = is_said or self.warn_if_cut(self.tokens_in(encoded), partial(self.tokens_of_pair, pair))
            yield encoded

    def tokens_of_pair(self, pair: list[str]) -> int:
        return len(self.tokenizer(*pair, verbose=False)["input_ids"])


class FeatureExtractionPipeline(ChecksTexts, CutsTexts, transformers.FeatureExtractionPipeline):
    """transformers' FeatureExtractionPipeline, which checks its texts and cuts what the model cannot read."""


class FillMaskPipeline(ChecksTexts, CutsMaskedTexts, transformers.FillMaskPipeline):
    """transformers' FillMaskPipeline, which checks its texts and cuts what the model cannot read."""


class TextClassificationPipeline(ChecksTexts, CutsTexts, transformers.TextClassificationPipeline):
    """transformers' TextClassificationPipeline, which checks its texts and cuts what the model cannot read."""


class TextGenerationPipeline(ChecksTexts, transformers.TextGenerationPipeline):
    """transformers' TextGenerationPipeline, which checks its texts."""

    end = True

    def checked(self, inputs):
        return inputs if isinstance(inputs, Chat) else super().checked(inputs)


class TokenClassificationPipeline(ChecksTexts, ChainPipeline):
    """transformers' TokenClassificationPipeline, which checks its texts, and decodes with a chain where there is one.

    A text longer than the model reads is cut, or, with `stride`, read in windows.
    """

    def checked(self, inputs):
        # a text may come as its words
        return words_read(super().checked(inputs)) if isinstance(inputs, list) else super().checked(inputs)


class ZeroShotClassificationPipeline(ChecksTexts, CutsPremises, transformers.ZeroShotClassificationPipeline):
    """transformers' ZeroShotClassificationPipeline, which checks its texts and cuts what the model cannot read."""


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
