"""The pipeline of translation, which transformers 5 has removed."""

from collections.abc import Mapping

import torch
from transformers import AutoModelForSeq2SeqLM, Pipeline, StoppingCriteria

from .pipeline_inputs import TakesEmptyLists, register, source_of


class LengthLimits(StoppingCriteria):
    """Ends the answers of each sentence at its own length, `limits` [B], the start token included."""

    def __init__(self, limits: torch.Tensor):
        self.limits = limits

    def __call__(self, input_ids, scores, **kwargs):
        return self.limits.repeat_interleave(len(input_ids) // len(self.limits)) <= input_ids.shape[1]


class TranslationPipeline(TakesEmptyLists, Pipeline):
    """Translates a text, or a list of texts, with an encoder-decoder: [{"translation_text": …}] per text.

    It takes the options of generate(): `num_beams`, `max_new_tokens`, `num_return_sequences` (the n best, best first),
    …; their defaults are in the model's generation_config. Without a limit, a translation has at most 50 tokens more
    than its source (Vaswani et al., 2017, section 6.1). `return_tensors` gives {"translation_token_ids": …} instead;
    `clean_up_tokenization_spaces` is as in the tokenizer.

    A translation leaves unknown words out. With `replace_unknown` each becomes the source word aligned with it (Luong
    et al., 2015b): True copies the source word, a mapping translates the words it contains.

    Raises:
        ValueError: an input is not a text, or is empty; `replace_unknown` is given, but the model has no attention to
            the source, or the tokenizer no unknown word.
        ImportError: `replace_unknown` is given, but hf_lineage is not installed.
    """

    _load_tokenizer = True
    _load_processor = _load_image_processor = _load_feature_extractor = _load_video_processor = False

    def _sanitize_parameters(
        self,
        return_tensors=None,
        clean_up_tokenization_spaces=None,
        truncation=None,
        replace_unknown=None,
        generate_kwargs=None,
        **options,
    ):
        # an empty mapping copies all words, so only False turns this off
        keep_text = None if replace_unknown is None else replace_unknown is not False
        before = {"truncation": truncation, "keep_text": keep_text}
        after = {
            "return_tensors": return_tensors,
            "clean_up_tokenization_spaces": clean_up_tokenization_spaces,
            "replace_unknown": replace_unknown,
        }
        before, after = ({k: v for k, v in each.items() if v is not None} for each in (before, after))
        return before, options | (generate_kwargs or {}), after

    def preprocess(self, inputs, truncation=False, keep_text=False):
        inputs = source_of(inputs)
        encoded = self.tokenizer(inputs, return_tensors="pt", truncation=truncation)
        return {**encoded, "text": inputs} if keep_text else encoded

    def _forward(self, inputs, **options):
        inputs = dict(inputs)
        texts = inputs.pop("text", None)
        saved = options.get("generation_config") or self.model.generation_config
        if not any(options.get(name) or getattr(saved, name) for name in ("max_length", "max_new_tokens")):
            longest = inputs["input_ids"].shape[1]
            options["max_new_tokens"] = longest + 50
            if "attention_mask" in inputs:
                limits = LengthLimits(1 + inputs["attention_mask"].sum(1) + 50)
                options["stopping_criteria"] = [*options.get("stopping_criteria", ()), limits]
        if texts is None:
            return {"output_ids": self._by_source(self.model.generate(**inputs, **options), inputs)}
        alignments, eager_attention = self._alignments()
        options |= {"output_attentions": True, "return_dict_in_generate": True}
        # only the eager implementation returns its weights
        with eager_attention(self.model):
            outputs = self.model.generate(**inputs, **options)
        weights = alignments.generated_alignments(outputs)  # [B·n, T, S]
        return {
            "output_ids": self._by_source(outputs.sequences, inputs),
            "weights": self._by_source(weights, inputs),
            "text": texts,
        }

    @staticmethod
    def _by_source(answers: torch.Tensor, inputs: dict) -> torch.Tensor:
        """[B·n, …] -> [B, n, …]"""
        return answers.unflatten(0, (inputs["input_ids"].shape[0], -1))

    @staticmethod
    def _alignments():
        try:
            # in a try block: transformers requires all other imports of a file on the Hub to be installed
            from hf_lineage.inference import generated_alignment as alignments
            from hf_lineage.inference.given_alignment import eager_attention
        except ImportError as error:
            raise ImportError("replace_unknown needs the package hf_lineage: pip install hf_lineage") from error
        return alignments, eager_attention

    def postprocess(self, outputs, return_tensors=False, clean_up_tokenization_spaces=None, replace_unknown=None):
        answers = outputs["output_ids"][0]
        if return_tensors:
            return [{"translation_token_ids": answer} for answer in answers]
        if "weights" in outputs:
            alignments, _ = self._alignments()
            texts = alignments.replace_unknown_words(
                self.tokenizer,
                [outputs["text"]],
                answers,
                outputs["weights"][0],
                replace_unknown if isinstance(replace_unknown, Mapping) else None,
            )
            if clean_up_tokenization_spaces or (
                clean_up_tokenization_spaces is None and self.tokenizer.clean_up_tokenization_spaces
            ):
                texts = [self.tokenizer.clean_up_tokenization(text) for text in texts]
        else:
            texts = self.tokenizer.batch_decode(
                answers, skip_special_tokens=True, clean_up_tokenization_spaces=clean_up_tokenization_spaces
            )
        return [{"translation_text": text} for text in texts]


register("lineage-translation", TranslationPipeline, AutoModelForSeq2SeqLM)
register("translation", TranslationPipeline, AutoModelForSeq2SeqLM)
