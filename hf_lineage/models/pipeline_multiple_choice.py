"""The pipeline of multiple choice."""

import torch
from transformers import AutoModelForMultipleChoice
from transformers.pipelines.base import ChunkPipeline

from .pipeline_inputs import ReadsWhatFits, TakesEmptyLists, register, text_of, texts_of, tokenizer_options


class MultipleChoicePipeline(TakesEmptyLists, ReadsWhatFits, ChunkPipeline):
    """Chooses the best of several texts that go with a first one: [{"choice", "index", "score"}], the best first.

    The input is {"text": …, "choices": [text, …]}, or several of them; the scores are probabilities that add up to 1.
    `top_k` keeps only the best. What has more tokens than the model reads, or than `max_length`, the text and a choice
    together, is cut, with a warning; `truncation` is the tokenizer's.

    Raises:
        ValueError: a text is missing or empty, or there are fewer than two choices.
    """

    _load_tokenizer = True
    _load_processor = _load_image_processor = _load_feature_extractor = _load_video_processor = False

    def _sanitize_parameters(self, top_k=None, truncation=None, max_length=None):
        if top_k is not None and top_k < 1:
            raise ValueError(f"top_k is {top_k}; it must be at least 1")
        return tokenizer_options(truncation, max_length), {}, {} if top_k is None else {"top_k": top_k}

    def preprocess(self, inputs, **options):
        [text] = texts_of(inputs, "text")
        choices = inputs.get("choices")
        if not isinstance(choices, list) or len(choices) < 2:
            raise ValueError(f"choices is {choices!r:.60}; it must be a list of at least 2 texts")
        is_said = False
        for number, choice in enumerate(choices):
            choice = text_of(f"choices[{number}]", choice)
            encoded, is_cut = self.encoded_pair(text, choice, options, warn=not is_said)
            is_said = is_said or is_cut
            # each choice has a score of its own, so a batch may mix questions
            yield {**encoded, "choice": choice, "is_last": number == len(choices) - 1}

    def _forward(self, inputs):
        inputs = dict(inputs)
        choice, is_last = inputs.pop("choice"), inputs.pop("is_last")
        logits = self.model(**{name: tensor[:, None] for name, tensor in inputs.items()}).logits  # [B, 1]
        return {"logits": logits, "choice": choice, "is_last": is_last}

    def postprocess(self, outputs, top_k=None):
        scores = torch.cat([output["logits"].flatten() for output in outputs]).double().softmax(0).tolist()
        choices = [c[0] if isinstance(c, list) else c for c in (output["choice"] for output in outputs)]
        ranked = sorted(range(len(choices)), key=lambda index: -scores[index])
        return [{"choice": choices[i], "index": i, "score": scores[i]} for i in ranked[:top_k]]


register("multiple-choice", MultipleChoicePipeline, AutoModelForMultipleChoice)
