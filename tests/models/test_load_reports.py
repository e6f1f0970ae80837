"""A class that opens another head's checkpoint says nothing of the parts it leaves off, and names all else."""

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from hf_lineage.models import saved_models
from tests.models.stations import STATIONS, TABLES


PRETRAINING = ("AutoModelForPreTraining", "AutoModelForCausalLM", "AutoModelForSeq2SeqLM")


def saved(station, folder):
    """The head that is pre-trained."""
    table = TABLES[station]
    head = next(head for head in table.heads if head in PRETRAINING)
    table.changed_model(head).save_pretrained(folder)
    return head


@pytest.mark.parametrize("station", STATIONS)
def test_what_a_class_leaves_off_is_no_news(station, tmp_path, load_reports):
    head = saved(station, tmp_path)
    opened = {}
    for other in (head, *TABLES[station].heads):
        if other in TABLES[station].apart:
            continue
        load_reports.clear()
        _, info = getattr(transformers, other).from_pretrained(tmp_path, output_loading_info=True)
        [opened[other]] = load_reports
        # a head that is new is still said
        assert (opened[other] is None) == (not info["missing_keys"]), opened[other]
        assert "UNEXPECTED" not in (opened[other] or "")
    assert opened[head] is None
    assert opened["AutoModel"] is None
    assert opened.get("AutoModelForMaskedLM") is None
    new = {"AutoModelForSequenceClassification", "AutoModelForTokenClassification"} & {*opened}
    assert all("MISSING" in opened[other] for other in new)


@pytest.mark.parametrize("station", STATIONS)
@pytest.mark.parametrize("name", ["further.weight", "lm_headed.weight", "model.further.weight"])
def test_a_foreign_tensor_is_named(station, name, tmp_path, load_reports):
    saved(station, tmp_path)
    path = tmp_path / "model.safetensors"
    save_file(load_file(path) | {name: torch.zeros(2)}, path, metadata={"format": "pt"})
    (tmp_path / saved_models.MANIFEST).write_text(saved_models.manifest_of(tmp_path))
    transformers.AutoModel.from_pretrained(tmp_path)
    [report] = load_reports
    assert name.removeprefix("model.") in report
    assert report.count("UNEXPECTED") == 2
