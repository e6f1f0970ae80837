"""`classifier_pooling`: what a classifier of texts reads, compared with the vectors of each text read alone."""

import datasets
import pytest
import torch
from transformers import AutoModelForSequenceClassification

import hf_lineage
from hf_lineage.data import TaskCollator
from hf_lineage.models.modeling_word2vec import mean_of_words
from hf_lineage.models.pooling import largest_and_mean
from hf_lineage.training import Transfer


SIZES = {
    "RNN": {"hidden_size": 6, "num_hidden_layers": 1},
    "LSTM": {"hidden_size": 6, "num_hidden_layers": 2, "bidirectional": True},
    "GRU": {"hidden_size": 6, "num_hidden_layers": 1},
    "GPT": {"hidden_size": 6, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 8},
    "BERT": {"hidden_size": 6, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 8},
}
TEXTS = [[5, 6, 7, 8, 9], [4, 3], [7]]
POOLINGS = ["mean", "concat"]


def make(station: str, head: str, **fields):
    torch.manual_seed(0)
    config = getattr(hf_lineage, f"{station}Config")(vocab_size=20, pad_token_id=0, **SIZES[station], **fields)
    return getattr(hf_lineage, f"{station}{head}")(config).eval()


def padded(texts: list[list[int]], side: str) -> dict[str, torch.Tensor]:
    length = max(map(len, texts))
    rows, masks = [], []
    for ids in texts:
        gap = [0] * (length - len(ids))
        rows.append(gap + ids if side == "left" else ids + gap)
        masks.append(gap + [1] * len(ids) if side == "left" else [1] * len(ids) + gap)
    return {"input_ids": torch.tensor(rows), "attention_mask": torch.tensor(masks)}


def vector_by_hand(model, ids: list[int], pooling: str) -> torch.Tensor:
    """[D] or [3·D], of one text without padding."""
    outputs = model.base_model(torch.tensor([ids]))
    vectors = outputs.last_hidden_state[0]
    mean = sum(vectors) / len(vectors)
    if pooling == "mean":
        return mean
    if "pooler_output" in outputs:
        whole = outputs.pooler_output[0]
    elif getattr(model.config, "bidirectional", False):
        half = vectors.shape[1] // 2
        whole = torch.cat([vectors[-1, :half], vectors[0, half:]])
    else:
        whole = vectors[-1]
    largest = torch.stack([max(column) for column in vectors.T])
    return torch.cat([whole, largest, mean])


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("station", SIZES)
class TestClassifierPooling:
    def test_a_text_has_its_vector_whatever_the_padding(self, station, pooling, side):
        model = make(station, "ForSequenceClassification", classifier_pooling=pooling, num_labels=3)
        with torch.no_grad():
            logits = model(**padded(TEXTS, side)).logits
            expected = torch.stack([model.classifier(vector_by_hand(model, ids, pooling)) for ids in TEXTS])
        torch.testing.assert_close(logits, expected, rtol=0, atol=1e-6)

    def test_a_choice_has_its_vector(self, station, pooling, side):
        model = make(station, "ForMultipleChoice", classifier_pooling=pooling)
        scorer = model.classifier if station == "BERT" else model.scorer
        inputs = {name: value[None] for name, value in padded(TEXTS, side).items()}
        with torch.no_grad():
            logits = model(**inputs).logits
            expected = torch.cat([scorer(vector_by_hand(model, ids, pooling)) for ids in TEXTS])[None]
        torch.testing.assert_close(logits, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("station", SIZES)
class TestTrainingWithPooling:
    def test_every_weight_has_a_gradient(self, station, pooling):
        """Or several processes would wait for the one that is missing."""
        model = make(station, "ForSequenceClassification", classifier_pooling=pooling)
        model(**padded(TEXTS, "right"), labels=torch.tensor([0, 1, 1])).loss.backward()
        assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []

    def test_a_saved_model_answers_alike(self, station, pooling, tmp_path):
        model = make(station, "ForSequenceClassification", classifier_pooling=pooling)
        model.save_pretrained(tmp_path)
        again, found = type(model).from_pretrained(tmp_path, output_loading_info=True)
        assert not found["missing_keys"]
        assert not found["unexpected_keys"]
        inputs = padded(TEXTS, "right")
        with torch.no_grad():
            assert torch.equal(again.eval()(**inputs).logits, model(**inputs).logits)

    def test_features_are_pooled_as_the_frozen_body_is(self, station, pooling, tmp_path):
        fields = {"lm_loss_weight": 0} if station == "GPT" else {}
        model = make(station, "ForSequenceClassification", classifier_pooling=pooling, **fields)
        inputs, labels = padded(TEXTS, "right"), torch.tensor([0, 1, 1])
        with torch.no_grad():
            expected = model(**inputs, labels=labels)
        rows = datasets.Dataset.from_dict(
            {"input_ids": TEXTS, "attention_mask": [[1] * len(ids) for ids in TEXTS], "labels": labels.tolist()}
        )
        [kept] = (
            Transfer(model, [], "features").keep_states({"train": rows}, TaskCollator(model.config), tmp_path).values()
        )
        with torch.no_grad():
            found = model(**kept.collate([kept[place] for place in range(len(TEXTS))]))
        torch.testing.assert_close(found.logits, expected.logits, rtol=0, atol=1e-6)
        torch.testing.assert_close(found.loss, expected.loss, rtol=0, atol=1e-6)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_packed_texts_have_their_vectors(pooling):
    model = make("BERT", "ForSequenceClassification", classifier_pooling=pooling)
    row = torch.tensor([[id for ids in TEXTS for id in ids]])
    bounds = torch.tensor([0, *torch.tensor([len(ids) for ids in TEXTS]).cumsum(0)], dtype=torch.int32)
    with torch.no_grad():
        packed = model(row, cu_seq_lens_q=bounds).logits
        expected = model(**padded(TEXTS, "right")).logits
    torch.testing.assert_close(packed, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_long_texts_have_their_mean_in_low_precision(dtype):
    """A sum of 500 ones in bfloat16 ends at 256; one of 1,000 hundreds is infinite in float16."""
    vectors = torch.full((1, 2_000, 1), 100.0, dtype=dtype)
    bounds = torch.tensor([0, 1_000, 2_000], dtype=torch.int32)
    for inputs in ((None, bounds), (torch.ones(1, 2_000), None), (None, None)):
        for found in largest_and_mean(vectors, *inputs):
            assert found.dtype is dtype
            assert found.unique().tolist() == [100]
    assert mean_of_words(vectors, torch.ones(1, 2_000)).tolist() == [[100]]


def test_a_pooler_that_was_not_saved_is_named(tmp_path):
    make("BERT", "ForSequenceClassification", classifier_pooling="mean").save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="classifier_pooling is 'cls': a model saved with 'mean' has no pooler; keep"):
        AutoModelForSequenceClassification.from_pretrained(tmp_path, classifier_pooling="cls")


def test_gpt_adds_the_vectors_of_both_orders():
    model = make("GPT", "ForSequenceClassification", classifier_pooling="concat")
    inputs = {name: value[None] for name, value in padded(TEXTS[:2], "right").items()}
    with torch.no_grad():
        expected = model.classifier(sum(vector_by_hand(model, ids, "concat") for ids in TEXTS[:2]))
        torch.testing.assert_close(model(**inputs).logits[0], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("station", SIZES)
def test_an_unknown_pooling_is_refused(station):
    with pytest.raises(Exception, match="classifier_pooling"):
        make(station, "Model", classifier_pooling="sum")
