"""Common tests: the configuration, and the weights that it starts."""

import json

import pytest
import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig

from tests.models.common_table import StationTable, assert_same_state


class ConfigurationTests(StationTable):
    """What a configuration says holds, and a bad one is refused."""

    def test_configuration_survives_dictionaries_and_files(self, tmp_path):
        config = self.config(pad_token_id=3)
        assert self.config_class.from_dict(config.to_dict()).to_dict() == config.to_dict()
        by_name = AutoConfig.for_model(config.model_type, **self.tiny, pad_token_id=3)
        assert type(by_name) is self.config_class
        assert by_name.to_dict() == config.to_dict()
        config.save_pretrained(tmp_path)
        loaded = AutoConfig.from_pretrained(tmp_path)
        assert type(loaded) is self.config_class
        assert loaded.to_dict() == {**config.to_dict(), "_name_or_path": str(tmp_path)}
        saved = json.loads((tmp_path / "config.json").read_text())
        assert saved["model_type"] == self.config_class.model_type
        assert saved["auto_map"].items() >= self.config_class.auto_classes.items()

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("vocab_size", -5),
            ("vocab_size", 0),
            ("vocab_size", "thirty"),
            ("vocab_size", 10**11),
            ("hidden_size", 16.5),
            ("num_hidden_layers", 1_000_000),
            ("no_such_dropout", 1.5),
        ],
    )
    def test_bad_configuration_is_refused_at_once(self, field, value, tmp_path):
        if field == "no_such_dropout":
            field = next(iter(self.dropouts(0.0)))
        with pytest.raises(StrictDataclassError, match=f"{field}[\\s\\S]*{value}"):
            self.config(**{field: value})

        settings = {**self.config().to_dict(), field: value}
        (tmp_path / "config.json").write_text(json.dumps(settings))
        with pytest.raises(StrictDataclassError, match=f"{field}[\\s\\S]*{value}"):
            transformers.AutoModel.from_pretrained(tmp_path)

    def test_weights_start_as_configured(self, head, poisoned_memory):
        model = self.model(head)
        for name, parameter in model.named_parameters():
            self.initialization(name, model.config).check(name, parameter)

    def test_head_over_base_checkpoint_starts_as_configured(self, head, tmp_path, poisoned_memory):
        base = self.changed_model("AutoModel")
        base.save_pretrained(tmp_path)
        model = getattr(transformers, head).from_pretrained(tmp_path)
        assert_same_state(model.base_model, base, self.optional_parts)
        for name, parameter in model.named_parameters():
            if not name.startswith(f"{model.base_model_prefix}.") and model is not model.base_model:
                self.initialization(name, model.config).check(name, parameter)

    def test_seed_decides_initialization(self, head):
        model = self.model(head, seed=1)
        assert_same_state(self.model(head, seed=1), model)
        other = dict(self.model(head, seed=2).named_parameters())
        drawn = [name for name in other if self.initialization(name, model.config).std > 0]
        assert all(not torch.equal(other[name], model.get_parameter(name)) for name in drawn)
