"""Common tests: the pipelines of transformers."""

import pytest
import torch
import transformers

from hf_lineage.tokenization import causal_tokenizer
from tests.models.common_table import StationTable


def in_batches(pipe, texts: list[str], *args, **options):
    """Each text and its answer, in batches of one and of two, of which one text is shorter."""
    for size in (1, 2):
        yield from zip(texts, pipe(texts, *args, batch_size=size, **options), strict=True)


class PipelineTests(StationTable):
    """A head answers in the pipeline of its task."""

    def test_pipeline(self, head, tiny_tokenizer):
        checks = {
            "AutoModel": ("feature-extraction", self.check_feature_extraction),
            "AutoModelForCausalLM": ("text-generation", self.check_text_generation),
            "AutoModelForSequenceClassification": ("text-classification", self.check_text_classification),
            "AutoModelForTokenClassification": ("token-classification", self.check_token_classification),
            "AutoModelForMaskedLM": ("fill-mask", self.check_fill_mask),
        }
        if head not in checks:
            pytest.skip(f"no pipeline of transformers is meant for {head}")
        task, check = checks[head]
        tokenizer = causal_tokenizer(tiny_tokenizer) if head == "AutoModelForCausalLM" else tiny_tokenizer
        model = self.model(head, vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id)
        pipe = transformers.pipeline(task, model=model, tokenizer=tokenizer, device="cpu")
        check(pipe, ["The dog", "Ada watches the quiet river near the harbour.", "Vera paints"])

    def test_zero_shot_pipeline(self, tiny_tokenizer):
        head = "AutoModelForSequenceClassification"
        if head not in self.heads:
            pytest.skip("the station does not classify texts")
        classes = {"id2label": dict(enumerate(["entailment", "neutral", "contradiction"]))}
        classes["label2id"] = {name: index for index, name in classes["id2label"].items()}
        sizes = {"vocab_size": len(tiny_tokenizer), "pad_token_id": tiny_tokenizer.pad_token_id}
        model = self.model(head, **classes, **sizes)
        pipe = transformers.pipeline("zero-shot-classification", model=model, tokenizer=tiny_tokenizer, device="cpu")
        texts, labels = ["The dog", "Ada watches the quiet river.", "Vera"], ["a river", "the old brave dog"]
        for text, answer in in_batches(pipe, texts, labels):
            alone = pipe(text, labels)
            assert answer["labels"] == alone["labels"]
            assert answer["scores"] == pytest.approx(alone["scores"], abs=1e-5)

    def check_feature_extraction(self, pipe, texts: list[str]):
        for text, batched in in_batches(pipe, texts):
            vectors = torch.tensor(pipe(text))
            # behind them stands padding
            at_tokens = torch.tensor(batched)[:, : vectors.shape[1]]
            torch.testing.assert_close(at_tokens, vectors, rtol=1e-5, atol=1e-5)
            expected = pipe.model(**pipe.tokenizer(text, return_tensors="pt")).last_hidden_state
            torch.testing.assert_close(vectors, expected, rtol=1e-5, atol=1e-5)

    def check_fill_mask(self, pipe, texts: list[str]):
        masked = [f"[MASK] {text}" for text in texts]
        for text, answer in in_batches(pipe, masked):
            alone = pipe(text)
            assert [guess["token"] for guess in answer] == [guess["token"] for guess in alone]
            assert [guess["score"] for guess in answer] == pytest.approx([guess["score"] for guess in alone], abs=1e-5)

    def check_text_generation(self, pipe, texts: list[str]):
        options = {"max_new_tokens": 4, "do_sample": False}
        for text, [answer] in in_batches(pipe, texts, **options):
            assert pipe(text, **options) == [answer]
            assert answer["generated_text"].startswith(text)
            assert len(answer["generated_text"]) > len(text)

    def check_text_classification(self, pipe, texts: list[str]):
        names = set(pipe.model.config.id2label.values())
        for text, answer in in_batches(pipe, texts):
            assert answer["label"] in names
            assert pipe(text) == [{"label": answer["label"], "score": pytest.approx(answer["score"], abs=1e-5)}]

    def check_token_classification(self, pipe, texts: list[str]):
        for text, entities in in_batches(pipe, texts):
            for entity in entities:
                assert text[entity["start"] : entity["end"]].lower() == entity["word"].removeprefix("##")
            scores = [pytest.approx(entity["score"], abs=1e-5) for entity in entities]
            assert [entity["score"] for entity in pipe(text)] == scores
            assert len(entities) == len(pipe.tokenizer.tokenize(text))
