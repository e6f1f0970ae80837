"""Common tests: the pipelines of transformers."""

import pytest
import torch
import transformers

from hf_lineage.tokenization import causal_tokenizer
from tests.models.common_table import StationTable


class PipelineTests(StationTable):
    """A head answers in the pipeline of its task."""

    def test_pipeline(self, head, tiny_tokenizer):
        checks = {
            "AutoModel": ("feature-extraction", self.check_feature_extraction),
            "AutoModelForCausalLM": ("text-generation", self.check_text_generation),
            "AutoModelForSequenceClassification": ("text-classification", self.check_text_classification),
            "AutoModelForTokenClassification": ("token-classification", self.check_token_classification),
        }
        if head not in checks:
            pytest.skip(f"no pipeline of transformers is meant for {head}")
        task, check = checks[head]
        tokenizer = causal_tokenizer(tiny_tokenizer) if head == "AutoModelForCausalLM" else tiny_tokenizer
        model = self.model(head, vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id)
        pipe = transformers.pipeline(task, model=model, tokenizer=tokenizer, device="cpu")
        check(pipe, ["The dog", "Ada watches the quiet river near the harbour."])

    def check_feature_extraction(self, pipe, texts: list[str]):
        for text in texts:
            vectors = torch.tensor(pipe(text))
            expected = pipe.model(**pipe.tokenizer(text, return_tensors="pt")).last_hidden_state
            torch.testing.assert_close(vectors, expected, rtol=1e-5, atol=1e-5)

    def check_text_generation(self, pipe, texts: list[str]):
        options = {"max_new_tokens": 4, "do_sample": False}
        alone = [pipe(text, **options) for text in texts]
        assert pipe(texts, **options, batch_size=2) == alone
        for text, [answer] in zip(texts, alone, strict=True):
            assert answer["generated_text"].startswith(text)
            assert len(answer["generated_text"]) > len(text)

    def check_text_classification(self, pipe, texts: list[str]):
        names = set(pipe.model.config.id2label.values())
        for text, answer in zip(texts, pipe(texts, batch_size=2), strict=True):
            assert answer["label"] in names
            assert pipe(text) == [{"label": answer["label"], "score": pytest.approx(answer["score"], abs=1e-5)}]

    def check_token_classification(self, pipe, texts: list[str]):
        for text, entities in zip(texts, pipe(texts, batch_size=2), strict=True):
            for entity in entities:
                assert text[entity["start"] : entity["end"]].lower() == entity["word"].removeprefix("##")
            scores = [pytest.approx(entity["score"], abs=1e-5) for entity in entities]
            assert [entity["score"] for entity in pipe(text)] == scores
            assert len(entities) == len(pipe.tokenizer.tokenize(text))
