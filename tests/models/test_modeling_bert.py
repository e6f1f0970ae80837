"""BERT: the common tests, and the objectives of pre-training."""

from pathlib import Path

import pytest
import torch
import transformers
import yaml
from huggingface_hub.errors import StrictDataclassError
from torch.nn.functional import cross_entropy
from torch.testing import assert_close

from hf_lineage import BERTConfig, BERTForPreTraining, BERTModel
from tests.models.common import Distribution, ModelTests, constant, gradients, main_output


CONFIGS = Path(__file__).resolve().parents[2] / "recipes" / "configs"
PRETRAINING, MASKED, NEXT, CHOICE, ANSWER = (
    f"AutoModelFor{task}"
    for task in ("PreTraining", "MaskedLM", "NextSentencePrediction", "MultipleChoice", "QuestionAnswering")
)


class TestBERT(ModelTests):
    config_class = BERTConfig
    tiny = {
        "vocab_size": 60,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": 32,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "initializer_range": 0.1,
        "num_labels": 3,
    }
    # heads that look at single tokens have no pooler
    optional_parts = ("pooler.",)
    # one score per choice, by a layer that has the name of that for classes, as in transformers
    apart = (CHOICE,)
    without_effect = {"k_proj.bias": "softmax does not change when all scores of a query rise alike"}

    def initialization(self, name, config):
        if name.endswith("bias"):
            return constant(0.0)
        if "norm" in name.lower():
            return constant(1.0)
        # a normal distribution cut at two standard deviations has 0.8796 of its spread
        return Distribution(0.0, 0.8796 * config.initializer_range, 2 * config.initializer_range)

    def dropouts(self, probability):
        return {"hidden_dropout_prob": probability, "attention_probs_dropout_prob": probability}

    def inputs(self, head, batch=4, length=7):
        ids = super().inputs(head, batch, length)["input_ids"]
        segments = (torch.arange(length) > length // 2).long().expand(ids.shape)
        return {"input_ids": ids, "token_type_ids": segments}

    def labels(self, head, inputs):
        ids = inputs["input_ids"]
        rows = torch.arange(ids.shape[0])
        return {
            PRETRAINING: lambda: {"labels": ids.clone(), "next_sentence_label": rows % 2},
            MASKED: lambda: {"labels": ids.clone()},
            NEXT: lambda: {"labels": rows % 2},
        }.get(head, lambda: super(TestBERT, self).labels(head, inputs))()

    def expected_shape(self, head, config, batch, length):
        shapes = {
            PRETRAINING: (batch, length, config.vocab_size),
            MASKED: (batch, length, config.vocab_size),
            NEXT: (batch, 2),
        }
        return shapes[head] if head in shapes else super().expected_shape(head, config, batch, length)

    def objective(self, model, head, inputs):
        loss = super().objective(model, head, inputs)
        return loss + model(**inputs).pooler_output[:, 0].sum() if head == "AutoModel" else loss

    def alone(self, inputs, row, positions):
        return {name: inputs[name][row, None, ..., positions] for name in ("input_ids", "token_type_ids")}

    def test_accumulated_gradients_are_those_of_the_whole_batch(self, trained_head, tmp_path):
        if trained_head != PRETRAINING:
            super().test_accumulated_gradients_are_those_of_the_whole_batch(trained_head, tmp_path)
            return
        inputs = self.inputs(PRETRAINING, batch=16)
        labels = self.labels(PRETRAINING, inputs)
        few = labels["labels"].masked_fill(torch.arange(7) > torch.arange(16)[:, None] % 7, -100)
        self.check_accumulation(lambda: self.model(PRETRAINING), {**inputs, "labels": few}, tmp_path / "words")
        # next sentences count by their batch's share of the masked words, here equal
        labels["labels"] = labels["labels"].masked_fill(torch.arange(7) > 2, -100)
        self.check_accumulation(lambda: self.model(PRETRAINING), {**inputs, **labels}, tmp_path / "both")

    @pytest.mark.parametrize("as_vectors", [False, True])
    def test_more_tokens_than_positions(self, head, as_vectors):
        model, inputs = self.model(head), self.inputs(head, length=33)
        if as_vectors:
            inputs = {"inputs_embeds": model.get_input_embeddings()(inputs["input_ids"])}
        with pytest.raises(
            ValueError, match=r"33 tokens.*32 positions.*max_position_embeddings.*truncation=True, max_length=32"
        ):
            model(**inputs)

    def test_padding_takes_no_position(self, head):
        model = self.model(head)
        inputs, _ = self.padded(self.inputs(head, length=33), [32, 5, 2, 1], "left")
        assert main_output(model(**inputs)).shape[0] == 4

    def test_both_sides_are_seen(self):
        model, inputs = self.model("AutoModel"), self.inputs("AutoModel", batch=1)
        vectors = model.get_input_embeddings()(inputs["input_ids"]).detach().requires_grad_()
        for position in (0, 3, 6):
            # one unit: the sum of all is that of the last LayerNorm's bias
            (seen,) = torch.autograd.grad(model(inputs_embeds=vectors)[0][0, position, 0], vectors)
            assert (seen[0].abs().sum(1) > 0).all()

    def test_segments_matter_and_are_checked(self, head):
        model, inputs = self.model(head), self.inputs(head)
        first = main_output(model(inputs["input_ids"], token_type_ids=torch.zeros_like(inputs["input_ids"])))
        torch.testing.assert_close(main_output(model(inputs["input_ids"])), first, rtol=0, atol=0)
        assert not torch.allclose(main_output(model(**inputs)), first)
        with pytest.raises(ValueError, match=r"token_type_ids has 7;.*between 0 and 1 \(type_vocab_size 2\)"):
            model(inputs["input_ids"], token_type_ids=torch.full_like(inputs["input_ids"], 7))

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"hidden_size": 65}, "hidden_size 65.*num_attention_heads 2"),
            ({"is_decoder": True}, "is_decoder is True"),
            ({"position_embedding_type": "relative_key"}, "position_embedding_type is 'relative_key'"),
            ({"hidden_dropout_prob": 1.5}, r"hidden_dropout_prob is 1\.5"),
            ({"type_vocab_size": 0}, "type_vocab_size is 0"),
        ],
    )
    def test_configurations_that_are_not_bert_are_refused(self, changes, message):
        with pytest.raises(StrictDataclassError, match=message):
            self.config(**changes)


def tiny_model(head: str, **changes):
    transformers.set_seed(0)
    return getattr(transformers, head).from_config(BERTConfig(**{**TestBERT.tiny, **changes})).eval()


def pairs(batch: int = 5, length: int = 9) -> dict[str, torch.Tensor]:
    """A padded batch of pairs with labels for about a third of the words."""
    ids = torch.randint(5, 60, (batch, length))
    lengths = torch.randint(3, length + 1, (batch, 1))
    mask = (torch.arange(length) < lengths).long()
    labels = torch.where((torch.rand(batch, length) < 0.4) & mask.bool(), ids, -100)
    labels[:, 1] = ids[:, 1]
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "token_type_ids": (torch.arange(length) > lengths // 2).long() * mask,
        "labels": labels,
        "next_sentence_label": torch.arange(batch) % 2,
    }


@pytest.mark.reliability("C13")
def test_either_objective_alone_gives_its_loss():
    model, batch = tiny_model(PRETRAINING), pairs()
    next_labels, labels = batch.pop("next_sentence_label"), batch.pop("labels")
    words = model(**batch, labels=labels)
    sentences = model(**batch, next_sentence_label=next_labels)
    both = model(**batch, labels=labels, next_sentence_label=next_labels)
    assert_close(words.loss, cross_entropy(words.prediction_logits.flatten(0, 1), labels.flatten()))
    assert_close(sentences.loss, cross_entropy(sentences.seq_relationship_logits, next_labels))
    assert_close(both.loss, words.loss + sentences.loss)
    assert model(**batch).loss is None


@pytest.mark.parametrize("head", [PRETRAINING, MASKED])
def test_output_layer_runs_on_scored_positions_in_training(head):
    model, batch = tiny_model(head), pairs()
    if head == MASKED:
        batch.pop("next_sentence_label")
    results = []
    for training in (False, True):
        model.train(training)
        model.zero_grad()
        outputs = model(**batch)
        outputs.loss.backward()
        results.append({"loss": outputs.loss.detach(), **gradients(model)})
        logits = main_output(outputs)
        if not training:
            everywhere = logits
    assert_close(logits, everywhere[batch["labels"] != -100])
    assert_close(results[1], results[0], atol=1e-6, rtol=1e-6)


def test_batch_without_labels_has_no_loss_and_no_gradient():
    model, batch = tiny_model(MASKED).train(), pairs()
    loss = model(batch["input_ids"], labels=torch.full_like(batch["labels"], -100)).loss
    loss.backward()
    assert loss == 0
    assert all(gradient.abs().max() == 0 for gradient in gradients(model).values())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": torch.full((5, 9), 99_999)}, r"labels has 99999;.*0 and 59 \(vocab_size 60\).*-100"),
        ({"next_sentence_label": torch.full((5,), 5)}, "next_sentence_label has 5;.*0 and 1"),
    ],
)
def test_labels_out_of_range_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        tiny_model(PRETRAINING)(**{**pairs(), **changes})


def test_choices_are_read_one_by_one(tmp_path):
    model = tiny_model(CHOICE)
    ids = torch.randint(60, (3, 4, 7))
    segments = (torch.arange(7) > 3).long().expand(3, 4, 7)
    mask = (torch.arange(7) < torch.tensor([[7], [4], [5], [6]])).long().expand(3, 4, 7)
    labels = torch.tensor([0, 3, 1])
    outputs = model(ids, mask, segments, labels=labels)
    assert_close(outputs.loss, cross_entropy(outputs.logits, labels))
    for choice in range(4):
        alone = model.bert(ids[:, choice], mask[:, choice], segments[:, choice]).pooler_output
        assert_close(outputs.logits[:, choice], model.classifier(alone)[:, 0])
    model.save_pretrained(tmp_path)
    loaded = transformers.AutoModelForMultipleChoice.from_pretrained(tmp_path)
    assert_close(loaded(ids, mask, segments).logits, outputs.logits, rtol=0, atol=0)
    with pytest.raises(ValueError, match=r"input_ids.*\[batch, choices, time\].*\[4, 7\]"):
        model(ids[0])


def test_released_sizes():
    large = yaml.safe_load((CONFIGS / "bert_large.yaml").read_text(encoding="utf-8"))["config_overrides"]
    with torch.device("meta"):
        assert BERTModel(BERTConfig()).num_parameters() == 109_482_240
        assert BERTForPreTraining(BERTConfig()).num_parameters() == 110_106_428
        assert BERTModel(BERTConfig(**large)).num_parameters() == 335_141_888
