"""What every station's configuration shares: the family's `auto_map`, and limits on sizes."""

import os
from pathlib import Path

import torch
from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig
from transformers.activations import ACT2FN

from .inputs import attention_in_use
from .replaced_files import replaced_together


# a downloaded config is untrusted input: larger sizes would exhaust the machine before any weight is read
SIZE_LIMITS = {
    "vocab_size": 10_000_000,
    "embedding_size": 65_536,
    "hidden_size": 65_536,
    "context_size": 1_000,
    "last_hidden_size": 65_536,
    "intermediate_size": 1_048_576,
    "num_hidden_layers": 1_000,
    "decoder_layers": 1_000,
    "num_attention_heads": 1_024,
    "max_position_embeddings": 10_000_000,
    "type_vocab_size": 65_536,
}
MOST_LABELS = 1_000_000


@strict
class LineageConfig(PreTrainedConfig):
    """Base of all station configurations.

    A station lists its model classes once, in `auto_classes`. Registration with the Auto classes and the `auto_map`
    of every checkpoint follow from this list, so that any head loads from any checkpoint of the family.

    Raises:
        huggingface_hub.errors.StrictDataclassError: a field has the wrong type, a size is below 1 or above its limit,
            or a dropout lies outside [0, 1); the message names the field and the value.
    """

    # class attributes without annotation are no fields and stay out of config.json
    auto_classes = {}
    # the station's own tokenizer class, module.Class
    auto_tokenizer = None
    keys_to_ignore_at_inference = ["cache", "past_key_values"]
    # sizes that may be 0
    sizes_from_zero = ()
    # further types of config.json that this class can read
    foreign_types = ()

    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None

    def __post_init__(self, **kwargs):
        # each label gets an entry in a table before anything is validated
        labels = kwargs.get("num_labels")
        if labels is not None and not (isinstance(labels, int) and 0 <= labels <= MOST_LABELS):
            raise ValueError(f"num_labels is {labels!r}; it must be a number between 0 and {MOST_LABELS}")
        super().__post_init__(**kwargs)
        module = type(self).__module__.rpartition(".")[2]
        self.auto_map = {"AutoConfig": f"{module}.{type(self).__name__}", **self.auto_classes}

    @classmethod
    def get_config_dict(cls, pretrained_model_name_or_path, **kwargs):
        """The fields of the file.

        Raises:
            OSError: it is no JSON object.
            ValueError: it is the configuration of another type of model, or torch has no such dtype.
        """
        place, fields = pretrained_model_name_or_path, None
        try:
            fields, kwargs = super().get_config_dict(place, **kwargs)
        except (TypeError, AttributeError, RecursionError):
            # transformers asks a list or a number for its fields
            pass
        if not isinstance(fields, dict):
            raise OSError(f"config.json of {place} is damaged: it holds no JSON object; fetch it again")
        found = fields.get("model_type", cls.model_type)
        if cls.model_type and found not in (cls.model_type, *cls.foreign_types):
            types = " or ".join(repr(each) for each in (cls.model_type, *cls.foreign_types))
            raise ValueError(f"{place} holds a model of type {found!r}, not {types}: open it with AutoModel")
        for name in ("dtype", "torch_dtype"):
            dtype = fields.get(name)
            if dtype is not None and not isinstance(getattr(torch, str(dtype), None), torch.dtype):
                raise ValueError(f"config.json of {place} has {name} {dtype!r}; it must be a dtype of torch")
        return fields, kwargs

    _attn_implementation = PreTrainedConfig._attn_implementation.getter(attention_in_use)

    def save_pretrained(self, save_directory: str | os.PathLike, push_to_hub: bool = False, **kwargs):
        """PreTrainedConfig.save_pretrained, which leaves the older files as they were if it fails."""
        kwargs |= {"repo_id": kwargs.get("repo_id", Path(save_directory).name)} if push_to_hub else {}
        with replaced_together(save_directory) as temporary:
            super().save_pretrained(str(temporary), push_to_hub, **kwargs)

    def validate_sizes(self):
        """Refuses sizes below the least or above the limit."""
        for name, limit in SIZE_LIMITS.items():
            size = getattr(self, name, None)
            least = 0 if name in self.sizes_from_zero else 1
            if size is not None and not least <= size <= limit:
                raise ValueError(f"{name} is {size}; it must lie between {least} and {limit}")

    def validate_activation(self):
        """Refuses an activation that transformers does not have."""
        name = getattr(self, "hidden_act", None)
        if name is not None and name not in ACT2FN:
            raise ValueError(f"hidden_act is {name!r}; it must be one of {', '.join(sorted(ACT2FN))}")

    def validate_dropouts(self):
        """Refuses dropout probabilities outside [0, 1)."""
        for name, probability in vars(self).items():
            if name.endswith(("dropout", "dropout_prob")) and probability is not None and not 0 <= probability < 1:
                raise ValueError(f"{name} is {probability}; a dropout probability lies in [0, 1)")
