"""Muon for the hidden matrices, AdamW for the rest: as torch's two optimizers, in one."""

import copy

import pytest
import torch
from torch.testing import assert_close
from transformers import default_data_collator

from hf_lineage import BERTConfig, BERTForPreTraining, GPTConfig, GPTForCausalLM, LSTMConfig, LSTMForCausalLM
from hf_lineage.data import ContiguousBlocks
from hf_lineage.training import BertAdam, LineageTrainer
from hf_lineage.training.muon import MuonWithAdamW, hidden_matrices, muon_groups
from tests.training.test_trainers import BLOCK, arguments, lstm, stream


pytestmark = pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch < 2.9 has no Muon")
SMALL = {"vocab_size": 30, "hidden_size": 8, "num_hidden_layers": 1}
HEADS = {"num_attention_heads": 2, "intermediate_size": 16, "max_position_embeddings": 16}
MODELS = {
    "gpt": lambda: GPTForCausalLM(GPTConfig(**SMALL, **HEADS)),
    "bert": lambda: BERTForPreTraining(BERTConfig(**SMALL, **HEADS)),
    "lstm": lambda: LSTMForCausalLM(LSTMConfig(**SMALL)),
}


@pytest.mark.parametrize("name", MODELS)
def test_hidden_matrices_are_neither_tables_nor_output(name):
    model = MODELS[name]()
    found = hidden_matrices(model)
    assert all(parameter.ndim == 2 for parameter in found.values())
    assert not any("embed" in key or "lm_head" in key or "decoder" in key for key in found), [*found]
    # all matrices that map hidden states to hidden states
    layers = [key for key, parameter in model.named_parameters() if ".0." in key and parameter.ndim == 2]
    assert layers
    assert {*layers} <= {*found}


def test_a_step_is_that_of_torchs_two_optimizers():
    torch.manual_seed(0)
    ours = GPTForCausalLM(GPTConfig(**SMALL, **HEADS))
    theirs = copy.deepcopy(ours)
    decaying = [name for name, parameter in ours.named_parameters() if parameter.ndim == 2]
    optimizer = MuonWithAdamW(muon_groups(ours, decaying, 0.02, 0.1), lr=0.003, betas=(0.9, 0.98))
    matrices = hidden_matrices(theirs)
    others = [(name, p) for name, p in theirs.named_parameters() if name not in matrices]
    muon = torch.optim.Muon([*matrices.values()], lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    adamw = torch.optim.AdamW(
        [
            {"params": [p for name, p in others if name in decaying], "weight_decay": 0.1},
            {"params": [p for name, p in others if name not in decaying], "weight_decay": 0.0},
        ],
        lr=0.003,
        betas=(0.9, 0.98),
    )
    for _ in range(3):
        for mine, reference in zip(ours.parameters(), theirs.parameters(), strict=True):
            mine.grad = torch.randn_like(mine)
            reference.grad = mine.grad.clone()
        optimizer.step()
        muon.step()
        adamw.step()
    for mine, reference in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert_close(mine, reference)


def train(folder, resume=None, **settings):
    data = ContiguousBlocks(stream(), BLOCK)
    settings = {"optim": "adamw_torch", "learning_rate": 0.01, "muon_learning_rate": 0.02, "max_steps": 8, **settings}
    args = arguments(folder, save_strategy="steps", save_steps=4, **{"lr_scheduler_type": "linear"} | settings)
    trainer = LineageTrainer(lstm(), args, train_dataset=data, data_collator=default_data_collator)
    trainer.train(resume)
    return trainer


def test_a_resumed_run_ends_in_the_same_weights(tmp_path):
    whole = train(tmp_path)
    assert isinstance(whole.optimizer.optimizer, MuonWithAdamW)
    rates = {group["lr"] for group in whole.optimizer.param_groups}
    assert rates == {0.0}
    resumed = train(tmp_path, resume=str(tmp_path / "checkpoint-4"))
    for mine, reference in zip(resumed.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(mine, reference)
    plain = train(tmp_path / "plain", muon_learning_rate=None)
    assert not torch.equal(plain.model.model.layers[0].cell.weight_hh, whole.model.model.layers[0].cell.weight_hh)


def test_the_rate_is_part_of_the_run(tmp_path):
    train(tmp_path, max_steps=4)
    with pytest.raises(ValueError, match="muon_learning_rate=0.02, this run has 0.03"):
        train(tmp_path, resume=True, muon_learning_rate=0.03, max_steps=4)


def test_an_accepted_rate_is_that_of_the_matrices(tmp_path):
    train(tmp_path, max_steps=4, lr_scheduler_type="constant")
    settings = {"max_steps": 5, "lr_scheduler_type": "constant", "ignore_changed": ["muon_learning_rate", "max_steps"]}
    trainer = train(tmp_path, resume=True, muon_learning_rate=0.001, **settings)
    rates = {group["muon"]: group["lr"] for group in trainer.optimizer.param_groups}
    assert rates == {True: 0.001, False: 0.01}


def test_bad_settings_are_named(tmp_path):
    with pytest.raises(ValueError, match="muon_learning_rate is -1"):
        arguments(tmp_path, muon_learning_rate=-1)
    options = {"train_dataset": ContiguousBlocks(stream(), BLOCK), "optimizer_cls_and_kwargs": (BertAdam, {"lr": 1.0})}
    with pytest.raises(ValueError, match="muon_learning_rate is set, but this run has an optimizer"):
        LineageTrainer(lstm(), arguments(tmp_path, muon_learning_rate=0.1, optim="adamw_torch"), **options)
    with pytest.raises(ValueError, match="muon_learning_rate is 0.1, but optim is sgd"):
        arguments(tmp_path, muon_learning_rate=0.1, optim="sgd")
