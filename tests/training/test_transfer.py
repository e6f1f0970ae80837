"""A body under a new head: only what the task adds may have another size than the saved one."""

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification

import hf_lineage
from hf_lineage.training import with_new_head


SIZES = {
    "BERT": {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32},
    "GPT": {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32},
    "LSTM": {"hidden_size": 16, "num_hidden_layers": 1},
    "Word2Vec": {"hidden_size": 16},
    "ELMo": {
        "character_size": 4,
        "cnn_filters": [[1, 8]],
        "hidden_size": 8,
        "projection_size": 4,
        "task_size": 4,
        "word_vector_size": 3,
    },
}


@pytest.mark.parametrize("station", SIZES)
def test_three_classes_become_two(tmp_path, station):
    config = getattr(hf_lineage, f"{station}Config")(vocab_size=20, num_labels=3, **SIZES[station])
    saved = getattr(hf_lineage, f"{station}ForSequenceClassification")(config)
    saved.save_pretrained(tmp_path)
    labels = {"id2label": {0: "no", 1: "yes"}, "label2id": {"no": 0, "yes": 1}}
    model, new = with_new_head(AutoModelForSequenceClassification, tmp_path, **labels)
    assert model.config.id2label == labels["id2label"]
    before, after = saved.state_dict(), model.state_dict()
    other = {name for name, tensor in after.items() if tensor.shape != before[name].shape}
    assert other == set(new) != set()
    # what begins anew is drawn, not empty
    assert all(after[name].isfinite().all() and after[name].abs().max() < 10 for name in new)
    assert all(torch.equal(after[name], before[name]) for name in before if name not in new)
    # with an equal size, the saved head stays
    assert with_new_head(AutoModelForSequenceClassification, tmp_path, id2label={0: "a", 1: "b", 2: "c"})[1] == []


def test_a_head_that_is_not_saved_is_named(tmp_path):
    hf_lineage.LSTMModel(hf_lineage.LSTMConfig(vocab_size=20, **SIZES["LSTM"])).save_pretrained(tmp_path)
    model, new = with_new_head(AutoModelForTokenClassification, tmp_path)
    assert set(new) == {name for name in model.state_dict() if not name.startswith("model.")}


def test_a_body_of_another_size_is_refused(tmp_path):
    hf_lineage.LSTMModel(hf_lineage.LSTMConfig(vocab_size=20, **SIZES["LSTM"])).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"model\.layers\.0\.cell\.bias is \[64\] in .* and \[32\] here"):
        with_new_head(AutoModelForSequenceClassification, tmp_path, hidden_size=8)
