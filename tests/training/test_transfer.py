"""A body under a new head: only what the task adds may have another size than the saved one."""

import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    TrainerCallback,
)

import hf_lineage
from hf_lineage.training import LineageTrainer, LineageTrainingArguments, Transfer, with_new_head


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


# which weights learn

TWO = {
    "BERT": {**SIZES["BERT"], "num_hidden_layers": 2},
    "GPT": {**SIZES["GPT"], "num_hidden_layers": 2, "lm_loss_weight": 0},
    "GRU": {"hidden_size": 16, "num_hidden_layers": 2},
    # as many highways and mixes as layers
    "ELMo": {**SIZES["ELMo"], "num_hidden_layers": 2, "num_highway_layers": 2, "num_mixes": 2},
    "Word2Vec": {"hidden_size": 16},
}
# of each station, what stands at the depths 0, 1, … of the body, by how the names begin; the rest is the task's
PARTS = {
    "BERT": (["bert.embeddings"], ["bert.encoder.layer.0"], ["bert.encoder.layer.1"], ["bert.pooler"]),
    "GPT": (["model.embed_"], ["model.blocks.0"], ["model.blocks.1"]),
    "GRU": (["model.embed_tokens"], ["model.layers.0"], ["model.layers.1"]),
    "ELMo": (
        ["model.token_layer"],
        ["model.forward_layers.0", "model.backward_layers.0"],
        ["model.forward_layers.1", "model.backward_layers.1"],
    ),
    "Word2Vec": (["model.embed_tokens"],),
}


def classifier(station: str):
    config = getattr(hf_lineage, f"{station}Config")(vocab_size=20, num_labels=3, **TWO[station])
    return getattr(hf_lineage, f"{station}ForSequenceClassification")(config)


def depth_of(name: str, station: str) -> int | None:
    return next((depth for depth, parts in enumerate(PARTS[station]) if name.startswith(tuple(parts))), None)


@pytest.mark.parametrize("station", TWO)
@pytest.mark.parametrize(("mode", "layers", "frozen_to"), [("full", None, -1), ("frozen", None, 9), ("partial", 1, 1)])
def test_frozen_weights_are_those_below(station, mode, layers, frozen_to):
    if station == "Word2Vec" and layers:
        pytest.skip("word2vec has no layers")
    model = classifier(station)
    transfer = Transfer(model, [], mode, layers)
    for name, parameter in model.named_parameters():
        depth = depth_of(name, station)
        assert parameter.requires_grad is (depth is None or depth > frozen_to), name
    learning = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    assert transfer.counts() == {
        "loaded": model.num_parameters(),
        "new": 0,
        "frozen": model.num_parameters() - learning,
        "learning": learning,
    }


def test_new_weights_of_the_body_always_learn(tmp_path):
    """A BERT of masked words has no pooler: the classifier's is new."""
    config = hf_lineage.BERTConfig(vocab_size=20, **TWO["BERT"])
    hf_lineage.BERTForMaskedLM(config).save_pretrained(tmp_path)
    model, new = with_new_head(AutoModelForSequenceClassification, tmp_path)
    transfer = Transfer(model, new, "frozen")
    assert {name.split(".")[-2] for name, p in model.named_parameters() if p.requires_grad} == {"dense", "classifier"}
    assert transfer.counts()["new"] == transfer.counts()["learning"] == 16 * 16 + 16 + 2 * 16 + 2
    assert "bert.pooler.dense.weight" in transfer.report()
    assert "306 new" in transfer.report()


@pytest.mark.parametrize("station", TWO)
def test_each_layer_has_its_rate(station, tmp_path):
    model, top = classifier(station), len(PARTS[station]) - (station == "BERT")
    arguments = LineageTrainingArguments(tmp_path, learning_rate=0.8, weight_decay=0.1)
    transfer = Transfer(model, [], layer_rate_factor=0.5)
    optimizer = LineageTrainer(model, arguments, transfer=transfer).create_optimizer()
    plain = LineageTrainer(model, arguments).create_optimizer()
    settings, expected = (
        {id(p): (group["lr"], group["weight_decay"]) for group in each.param_groups for p in group["params"]}
        for each in (optimizer, plain)
    )
    for name, parameter in model.named_parameters():
        depth = depth_of(name, station)
        above = 0 if depth is None else top - depth
        rate, decay = settings[id(parameter)]
        assert rate == pytest.approx(0.8 * 0.5**above), name
        assert decay == expected[id(parameter)][1], name


def test_transformers_own_layers_are_found():
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 20}
    bert = Transfer(BertForSequenceClassification(BertConfig(num_hidden_layers=2, **sizes)), [], layer_rate_factor=0.5)
    assert bert.rate_factor("bert.encoder.layer.0.attention.self.query.weight") == 0.25
    assert bert.rate_factor("bert.embeddings.LayerNorm.weight") == 0.125
    gpt = GPT2ForSequenceClassification(GPT2Config(vocab_size=20, n_embd=16, n_layer=2, n_head=2))
    assert Transfer(gpt, [], layer_rate_factor=0.5).rate_factor("transformer.h.1.ln_1.weight") == 0.5


class Watch(TrainerCallback):
    """Notes at each step which weights learn, and which have changed after it."""

    def __init__(self, model):
        self.model, self.learning, self.changed = model, [], []

    def on_step_begin(self, args, state, control, **kwargs):
        self.learning.append({name for name, p in self.model.named_parameters() if p.requires_grad})
        self.before = {name: p.detach().clone() for name, p in self.model.named_parameters()}

    def on_step_end(self, args, state, control, **kwargs):
        self.changed.append({n for n, p in self.model.named_parameters() if not torch.equal(p, self.before[n])})


def test_gradual_unfreezing_adds_a_layer_per_epoch_in_a_resumed_run_too(tmp_path):
    rows = [{"input_ids": torch.tensor([n % 20, 3, 5]), "labels": n % 3} for n in range(8)]
    names = dict(classifier("GRU").named_parameters())
    for steps, checkpoint in ((2, None), (4, str(tmp_path / "checkpoint-2"))):
        model = classifier("GRU")
        arguments = LineageTrainingArguments(
            tmp_path,
            max_steps=steps,
            ignore_changed=["max_steps"],
            per_device_train_batch_size=8,
            learning_rate=0.1,
            lr_scheduler_type="constant",
            save_steps=2,
            report_to="none",
            disable_tqdm=True,
        )
        watch, transfer = Watch(model), Transfer(model, [], "gradual")
        assert transfer.counts()["learning"] == 16 * 3 + 3
        trainer = LineageTrainer(model, arguments, train_dataset=rows, transfer=transfer, callbacks=[watch])
        trainer.train(checkpoint)
        for epoch, learning, changed in zip(range(steps - 2, steps), watch.learning, watch.changed, strict=True):
            expected = {name for name in names if (depth := depth_of(name, "GRU")) is None or depth > 2 - epoch}
            assert learning == expected
            assert changed == expected


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mode": "partial"}, "transfer is 'partial' and frozen_layers None"),
        ({"frozen_layers": 1}, "transfer is 'full' and frozen_layers 1"),
        ({"mode": "partial", "frozen_layers": 3}, "frozen_layers is 3;.*0.*2.*lineage_gru"),
        ({"layer_rate_factor": 0.0}, "layer_learning_rate_factor is 0.0"),
        ({"layer_rate_factor": 1.5}, "layer_learning_rate_factor is 1.5"),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        Transfer(classifier("GRU"), [], **settings)
