"""The recurrent encoder-decoders together: presets, and weights that lie elsewhere between their modules' calls."""

import dataclasses
from pathlib import Path

import pytest
import torch
import yaml
from accelerate import cpu_offload, disk_offload
from transformers import AutoConfig, AutoModelForSeq2SeqLM

from hf_lineage import LuongConfig, RNNSearchConfig, Seq2SeqConfig
from tests.models.test_cells_of_seq2seq import STATIONS, new_model


CONFIGS = Path(__file__).resolve().parents[2] / "recipes" / "configs"


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        ("sutskever2014", Seq2SeqConfig.sutskever(decoder_vocab_size=160_000)),
        ("cho2014", Seq2SeqConfig.cho()),
        ("bahdanau2015", RNNSearchConfig()),
        ("luong2015", LuongConfig()),
    ],
)
def test_presets_are_the_papers(preset, expected):
    """The recipe's one vocabulary aside, which serves both languages."""
    settings = yaml.safe_load((CONFIGS / f"{preset}.yaml").read_text(encoding="utf-8"))
    sizes = {"vocab_size": settings["vocab_size"], **settings["config_overrides"]}
    assert AutoConfig.for_model(settings["model_type"], **sizes).to_dict() == expected.to_dict()


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_presets_of_recurrent_encoder_decoders_fit(path):
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    if settings.get("model_type") not in {config.model_type for _, config, _ in STATIONS.values()}:
        pytest.skip("another station's")
    config = AutoConfig.for_model(settings["model_type"], vocab_size=50, **settings["config_overrides"])
    with torch.device("meta"):
        model = AutoModelForSeq2SeqLM.from_config(config)
    # misspelt fields would only become attributes
    assert set(settings["config_overrides"]) <= {field.name for field in dataclasses.fields(config)}
    assert model.config.is_encoder_decoder


@pytest.mark.parametrize("place", ["cpu", "disk"])
@pytest.mark.parametrize("station", STATIONS)
def test_offloaded_weights_answer_alike(station, place, tmp_path):
    """Weights are there during their module's call only, as under FSDP."""
    model = new_model(station)
    ids, target = torch.randint(4, 60, (3, 6)), torch.randint(4, 60, (3, 5))
    mask = (torch.arange(6) >= torch.tensor([[0], [3], [5]])).long()

    @torch.no_grad()
    def answers():
        logits = model(ids, mask, decoder_input_ids=target).logits
        return logits, model.generate(ids, attention_mask=mask, num_beams=2, max_new_tokens=5, eos_token_id=None)

    logits, generated = answers()
    if place == "cpu":
        cpu_offload(model, execution_device="cpu", offload_buffers=True)
    else:
        disk_offload(model, tmp_path, execution_device="cpu", offload_buffers=True)
    assert all(parameter.device.type == "meta" for parameter in model.parameters())
    found_logits, found_generated = answers()
    torch.testing.assert_close(found_logits, logits)
    assert torch.equal(found_generated, generated)


# peft asks transformers by an old name
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
@pytest.mark.parametrize("station", STATIONS)
def test_adapters_of_the_cells_act_in_every_step(station):
    """LoRA on weights (`target_parameters`) is there during the cell's call only; merged, it is plain weights."""
    peft = pytest.importorskip("peft")
    model = new_model(station)
    ids, target = torch.randint(4, 60, (3, 6)), torch.randint(4, 60, (3, 5))
    expected = model(ids, decoder_input_ids=target).logits
    names = ["cell.weight_ih", "cell.weight_hh"]
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=[], target_parameters=names))
    torch.testing.assert_close(adapted(input_ids=ids, decoder_input_ids=target).logits, expected)
    matrices = [parameter for name, parameter in adapted.named_parameters() if "lora_B" in name]
    with torch.no_grad():
        for matrix in matrices:
            matrix.normal_()
    adapted.train()
    loss = adapted(input_ids=ids, labels=target).loss
    loss.backward()
    assert all(matrix.grad.any() for matrix in matrices)
    found = adapted.eval()(input_ids=ids, decoder_input_ids=target).logits.detach()
    assert (found - expected).abs().max() > 1e-2
    merged = adapted.merge_and_unload()
    torch.testing.assert_close(merged(ids, decoder_input_ids=target).logits, found, rtol=1e-4, atol=1e-4)
