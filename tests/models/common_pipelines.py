"""Common tests: the pipelines of transformers."""

import pytest
import torch
import transformers

from hf_lineage.tokenization import causal_tokenizer
from tests.models.common_table import StationTable


def in_batches(pipe, texts: list[str], *args, **options):
    """Each text and its answer: from a list in batches of one and of two, and from a generator; one is shorter."""
    for size in (1, 2):
        yield from zip(texts, pipe(texts, *args, batch_size=size, **options), strict=True)
    yield from zip(texts, pipe((text for text in texts), *args, batch_size=2, **options), strict=True)


class PipelineTests(StationTable):
    """A head answers in the pipeline of its task."""

    def test_pipeline(self, head, tiny_tokenizer):
        checks = {
            "AutoModel": ("feature-extraction", self.check_feature_extraction),
            "AutoModelForCausalLM": ("text-generation", self.check_text_generation),
            "AutoModelForSequenceClassification": ("text-classification", self.check_text_classification),
            "AutoModelForTokenClassification": ("token-classification", self.check_token_classification),
            "AutoModelForMaskedLM": ("fill-mask", self.check_fill_mask),
            "AutoModelForQuestionAnswering": ("question-answering", self.check_question_answering),
            "AutoModelForMultipleChoice": ("multiple-choice", self.check_multiple_choice),
            "AutoModelForNextSentencePrediction": ("next-sentence-prediction", self.check_next_sentence),
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

    def check_question_answering(self, pipe, texts: list[str]):
        contexts = [f"{texts[1]} {text}" for text in texts]
        questions = [{"question": text, "context": context} for text, context in zip(texts, contexts, strict=True)]
        alone = [pipe(question) for question in questions]
        for context, answer, batched in zip(contexts, alone, pipe((q for q in questions), batch_size=2), strict=True):
            assert answer["answer"] == context[answer["start"] : answer["end"]] != ""
            assert batched == answer | {"score": pytest.approx(answer["score"], abs=1e-5)}
        assert pipe([]) == []

    def check_multiple_choice(self, pipe, texts: list[str]):
        questions = [{"text": "The dog", "choices": texts}, {"text": "Vera", "choices": texts[:2]}]
        for question, answers in zip(questions, pipe((q for q in questions), batch_size=4), strict=True):
            choices = question["choices"]
            encoded = pipe.tokenizer([question["text"]] * len(choices), choices, padding=True, return_tensors="pt")
            shares = pipe.model(**{name: x[None] for name, x in encoded.items()}).logits[0].softmax(0)
            assert [answer["index"] for answer in answers] == shares.argsort(descending=True).tolist()
            for answer in answers:
                assert answer["choice"] == choices[answer["index"]]
                assert answer["score"] == pytest.approx(shares[answer["index"]].item(), abs=1e-5)
        assert pipe([]) == []

    def check_next_sentence(self, pipe, texts: list[str]):
        pairs = [{"text": text, "text_pair": texts[1]} for text in texts]
        for pair, answer in zip(pairs, pipe((p for p in pairs), batch_size=2), strict=True):
            shares = pipe.model(**pipe.tokenizer(**pair, return_tensors="pt")).logits[0].softmax(0)
            assert answer["label"] == ("next", "random")[shares.argmax()]
            assert answer["score"] == pytest.approx(shares.max().item(), abs=1e-5)
        assert pipe([]) == []

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
