"""The pipeline of next-sentence prediction."""

from transformers import AutoModelForNextSentencePrediction, Pipeline

from .pipeline_inputs import ReadsWhatFits, TakesEmptyLists, register, texts_of, tokenizer_options


class NextSentencePipeline(TakesEmptyLists, ReadsWhatFits, Pipeline):
    """Says whether a text follows another: {"label": "next" or "random", "score": its probability}.

    The input is {"text": …, "text_pair": …}, or several of them. A pair of more tokens than the model reads, or than
    `max_length`, is cut, with a warning; `truncation` is the tokenizer's.

    Raises:
        ValueError: a text is missing or empty.
    """

    _load_tokenizer = True
    _load_processor = _load_image_processor = _load_feature_extractor = _load_video_processor = False

    def _sanitize_parameters(self, truncation=None, max_length=None):
        return tokenizer_options(truncation, max_length), {}, {}

    def preprocess(self, inputs, **options):
        encoded, _ = self.encoded_pair(*texts_of(inputs, "text", "text_pair"), options)
        return encoded

    def _forward(self, inputs):
        return {"logits": self.model(**inputs).logits}

    def postprocess(self, outputs):
        # 0: the second follows
        scores = outputs["logits"][0].double().softmax(0)
        label = int(scores.argmax())
        return {"label": ("next", "random")[label], "score": scores[label].item()}


register("next-sentence-prediction", NextSentencePipeline, AutoModelForNextSentencePrediction)
