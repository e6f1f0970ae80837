"""The pipeline of next-sentence prediction."""

from transformers import AutoModelForNextSentencePrediction, Pipeline

from .pipeline_inputs import TakesEmptyLists, register, texts_of


class NextSentencePipeline(TakesEmptyLists, Pipeline):
    """Says whether a text follows another: {"label": "next" or "random", "score": its probability}.

    The input is {"text": …, "text_pair": …}, or several of them. Longer pairs are cut if `truncation` is True.

    Raises:
        ValueError: a text is missing or empty.
    """

    _load_tokenizer = True
    _load_processor = _load_image_processor = _load_feature_extractor = _load_video_processor = False

    def _sanitize_parameters(self, truncation=None):
        return {} if truncation is None else {"truncation": truncation}, {}, {}

    def preprocess(self, inputs, truncation=False):
        return self.tokenizer(*texts_of(inputs, "text", "text_pair"), truncation=truncation, return_tensors="pt")

    def _forward(self, inputs):
        return {"logits": self.model(**inputs).logits}

    def postprocess(self, outputs):
        # 0: the second follows
        scores = outputs["logits"][0].double().softmax(0)
        label = int(scores.argmax())
        return {"label": ("next", "random")[label], "score": scores[label].item()}


register("next-sentence-prediction", NextSentencePipeline, AutoModelForNextSentencePrediction)
