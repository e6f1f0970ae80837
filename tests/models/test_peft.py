"""Adapters of PEFT on every station: trained, saved, loaded and merged, they answer alike.

Linear layers are found by their class ("all-linear"), the recurrent cells' weights by `target_parameters`.
"""

import copy

import peft
import pytest
import torch
import transformers
from torch import nn

from tests.models.common import main_output
from tests.models.stations import STATIONS, TABLES


# PEFT still asks by the old name
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

CELL_WEIGHTS = ("weight_ih", "weight_hh")


HEADS = [
    (station, head) for station in STATIONS for head in dict.fromkeys(TABLES[station].heads[i] for i in (0, 1, -1))
]


def linear_layers(model) -> list[str]:
    """What "all-linear" finds: all but the output layer."""
    output = model.get_output_embeddings()
    return [name for name, module in model.named_modules() if isinstance(module, nn.Linear) and module is not output]


def cell_weights(model) -> list[str]:
    names = [name for name, _ in model.named_parameters() if name.endswith(CELL_WEIGHTS)]
    return sorted({".".join(name.rsplit(".", 2)[-2:]) for name in names})


def check(model, table, head: str, folder, adapter) -> None:
    """Training changes the answers; saved, loaded and merged, the adapter answers as it did after training."""
    inputs, fresh = table.inputs(head), copy.deepcopy(model)
    before = main_output(model(**inputs))
    adapted = peft.get_peft_model(model, adapter)
    learning = [parameter for parameter in adapted.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(learning, lr=0.1)
    # in the first step what is multiplied by zero has no gradient yet
    for _ in range(2):
        optimizer.zero_grad()
        table.objective(adapted, head, inputs).backward()
        optimizer.step()
    assert all(parameter.grad is not None for parameter in learning)
    adapted.eval()
    with torch.no_grad():
        expected = main_output(adapted(**inputs))
        assert not torch.equal(expected, before)
        adapted.save_pretrained(folder)
        loaded = peft.PeftModel.from_pretrained(fresh, folder).eval()
        torch.testing.assert_close(main_output(loaded(**inputs)), expected)
        merged = adapted.merge_and_unload()
        merged.save_pretrained(folder / "merged")
        opened = getattr(transformers, head).from_pretrained(folder / "merged")
        for model in (merged, opened):
            atol = 1e-5 * expected.abs().max().item()
            torch.testing.assert_close(main_output(model(**inputs)), expected, rtol=0, atol=atol)


@pytest.mark.parametrize(("station", "head"), HEADS)
def test_adapters_of_all_linear_layers(station, head, tmp_path):
    model = TABLES[station].changed_model(head)
    if not linear_layers(model):
        pytest.skip("there is no linear layer but the output layer")
    check(model, TABLES[station], head, tmp_path, peft.LoraConfig(r=2, target_modules="all-linear"))


@pytest.mark.parametrize(("station", "head"), HEADS)
def test_adapters_of_recurrent_cells(station, head, tmp_path):
    model = TABLES[station].changed_model(head)
    names = cell_weights(model)
    if not names:
        pytest.skip("the station has no recurrent cell")
    adapter = peft.LoraConfig(r=2, target_modules=[], target_parameters=names)
    check(model, TABLES[station], head, tmp_path, adapter)


@pytest.mark.parametrize("kind", ["LoRA", "tokens"])
@pytest.mark.parametrize(("station", "head"), HEADS)
def test_adapters_of_token_vectors(station, head, kind, tmp_path):
    # PEFT merges an adapter of a table into the output layer that is tied to it too (of Llama as well)
    model = TABLES[station].changed_model(head, tie_word_embeddings=False)
    table = model.get_input_embeddings()
    name = next(name for name, module in model.named_modules() if module is table)
    if kind == "LoRA":
        adapter = peft.LoraConfig(r=2, target_modules=[name])
    else:
        adapter = peft.TrainableTokensConfig(target_modules=[name], token_indices=list(range(table.num_embeddings)))
    check(model, TABLES[station], head, tmp_path, adapter)


def test_tokens_of_a_tied_table_learn_beside_adapters(tmp_path):
    model = TABLES["GPT"].changed_model("AutoModelForCausalLM")
    adapter = peft.LoraConfig(r=2, target_modules="all-linear", trainable_token_indices={"embed_tokens": [1, 2]})
    check(model, TABLES["GPT"], "AutoModelForCausalLM", tmp_path, adapter)


def test_sizes_are_checked_through_an_adapter():
    model = TABLES["GPT"].model("AutoModelForCausalLM")
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["embed_tokens"]))
    with pytest.raises(ValueError, match=r"input_ids\[0, 1\] is 60\b.*0 and 59"):
        adapted(input_ids=torch.tensor([[0, 60]]))
    with pytest.raises(ValueError, match=r"inputs_embeds.*16.*\[1, 2, 3\]"):
        adapted(inputs_embeds=torch.zeros(1, 2, 3))


@pytest.mark.parametrize("station", ["SampledSoftmax", "NCE", "ELMoWords"])
def test_sampled_objectives_refuse_an_adapted_output_layer(station):
    """They read its weight, which is not the adapted one."""
    table = TABLES[station]
    head = "AutoModelForPreTraining" if station == "ELMoWords" else "AutoModelForCausalLM"
    changes = {"output_layer": "sampled"} if station == "ELMoWords" else {}
    model = table.model(head, **changes)
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["lm_head"])).train()
    inputs = {"negative_ids": torch.arange(5), **table.inputs(head)}
    with pytest.raises(ValueError, match=r"lm_head.*negative_ids"):
        adapted(**inputs, labels=inputs["input_ids"])
