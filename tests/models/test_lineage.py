"""The registration of the stations."""

import inspect
import re

import pytest
import transformers
from transformers import AutoConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

import hf_lineage
from hf_lineage import LINEAGE


@pytest.mark.parametrize("config_class", LINEAGE, ids=lambda config_class: config_class.model_type)
def test_every_head_is_registered_and_public(config_class):
    config = AutoConfig.for_model(config_class.model_type)
    assert type(config) is config_class
    for auto_name, reference in config_class.auto_classes.items():
        model_class = getattr(hf_lineage, reference.split(".")[1])
        assert getattr(transformers, auto_name)._model_mapping[config_class] is model_class
        assert model_class.__name__ in hf_lineage.__all__
        assert config.auto_map[auto_name] == reference
    assert config_class.__name__ in hf_lineage.__all__


def test_transformers_own_models_are_untouched():
    assert all(config_class.model_type not in CONFIG_MAPPING_NAMES for config_class in LINEAGE)
    assert all(config_class.model_type.startswith("lineage_") for config_class in LINEAGE)
    public = {name for name in hf_lineage.__all__ if name not in ("LINEAGE", "__version__")}
    assert not {name for name in public if getattr(transformers, name, None)}


@pytest.mark.parametrize("config_class", LINEAGE, ids=lambda config_class: config_class.model_type)
def test_configurations_say_their_paper_and_idea(config_class):
    name, _, idea = inspect.getdoc(config_class).splitlines()[:3]
    assert re.search(r"\(.*(19|20)\d\d.*\)\.$", name)
    assert re.fullmatch(r"New: .*\.", idea)


@pytest.mark.parametrize("model_type", ["gpt2", "bert", "openai-gpt"])
def test_transformers_own_names_still_mean_its_models(model_type):
    config = AutoConfig.for_model(model_type)
    assert type(config).__module__.startswith("transformers.models.")
    model_class = transformers.AutoModel._model_mapping[type(config)]
    assert model_class.__module__.startswith("transformers.models.")
