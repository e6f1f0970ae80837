"""What every station's configuration shares: the family's `auto_map`, its pipelines, and limits on sizes."""

import json
import os
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import ClassVar

import torch
from huggingface_hub.dataclasses import strict
from huggingface_hub.errors import StrictDataclassClassValidationError
from transformers import PreTrainedConfig
from transformers.activations import ACT2FN

from .inputs import attention_in_use
from .replaced_files import replaced_together


# a downloaded config is untrusted input: larger sizes would exhaust the machine before any weight is read
SIZE_LIMITS = {
    "vocab_size": 10_000_000,
    # before the sizes that are equal to it by default
    "hidden_size": 65_536,
    "embedding_size": 65_536,
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
# of checkpoints; raise it when older code would read new ones wrongly: a new field that changes what a model computes,
# or tensors with other names or meanings
FORMAT = 1
# task -> our pipeline, module.Class
PIPELINES = {
    "translation": "pipeline_translation.TranslationPipeline",
    "token-classification": "pipeline_token_classification.ChainPipeline",
    "question-answering": "pipeline_question_answering.QuestionAnsweringPipeline",
    "multiple-choice": "pipeline_multiple_choice.MultipleChoicePipeline",
    "next-sentence-prediction": "pipeline_next_sentence.NextSentencePipeline",
    "word-analogy": "pipeline_word_vectors.WordAnalogyPipeline",
    "word-similarity": "pipeline_word_vectors.WordSimilarityPipeline",
}
# ending of a class -> the task for which it needs a pipeline of ours, a tagger only with a chain, and the Auto class
TASKS = {
    "ForConditionalGeneration": ("translation", "AutoModelForSeq2SeqLM"),
    "ForTokenClassification": ("token-classification", "AutoModelForTokenClassification"),
    "ForQuestionAnswering": ("question-answering", "AutoModelForQuestionAnswering"),
    "ForMultipleChoice": ("multiple-choice", "AutoModelForMultipleChoice"),
    "ForNextSentencePrediction": ("next-sentence-prediction", "AutoModelForNextSentencePrediction"),
}


@strict
class LineageConfig(PreTrainedConfig):
    """Base of all station configurations.

    A station lists its model classes once, in `auto_classes`. Registration with the Auto classes and the `auto_map`
    of every checkpoint follow from this list, so that any head loads from any checkpoint of the family.

    Raises:
        huggingface_hub.errors.StrictDataclassError: a field has the wrong type, a size is below 1 or above its limit,
            or a dropout lies outside [0, 1); the message names the field and the value.
    """

    # class attributes without annotation are not fields and stay out of config.json
    auto_classes = {}
    # the station's own tokenizer class, module.Class
    auto_tokenizer = None
    keys_to_ignore_at_inference = ["cache", "past_key_values"]
    # sizes that may be 0
    sizes_from_zero = ()
    # further types of config.json that this class can read
    foreign_types = ()
    # set by the package, which has the pipelines, and names the model in errors of the network
    package_version: ClassVar[str | None] = None
    reaching: ClassVar[Callable] = nullcontext

    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None

    def __post_init__(self, **kwargs):
        # each label gets an entry in a table before anything is validated
        labels = kwargs.get("num_labels")
        if labels is not None and not (isinstance(labels, int) and 0 <= labels <= MOST_LABELS):
            raise ValueError(f"num_labels is {labels!r}; it must be a number between 0 and {MOST_LABELS}")
        if not isinstance(self.id2label, Mapping | None) or not all(str(i).isdecimal() for i in self.id2label or ()):
            raise ValueError(f"id2label is {self.id2label!r:.60}; it must be a mapping of numbers to labels")
        # before anything has as many parts as they say
        self.validate_sizes()
        super().__post_init__(**kwargs)
        module = type(self).__module__.rpartition(".")[2]
        self.auto_map = {"AutoConfig": f"{module}.{type(self).__name__}", **self.auto_classes}

    @classmethod
    def get_config_dict(cls, pretrained_model_name_or_path, **kwargs):
        """The fields of the file.

        Raises:
            OSError: it is not a JSON object.
            ValueError: it is the configuration of another type of model, or torch has no such dtype.
        """
        place, fields = pretrained_model_name_or_path, None
        try:
            with cls.reaching(place):
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

    @classmethod
    def from_dict(cls, config_dict, **kwargs):
        """The configuration of these fields.

        Raises:
            ValueError: a later version has saved them, in a format that this one does not know.
        """
        fields = dict(config_dict)
        found = fields.pop("lineage_format", FORMAT)
        if not isinstance(found, int) or found > FORMAT:
            raise ValueError(
                f"lineage_format is {found!r}, but this hf_lineage reads formats up to {FORMAT}: hf_lineage "
                f"{fields.get('hf_lineage_version', 'of a later version')} has saved the model; install that one "
                "(pip install --upgrade hf_lineage)"
            )
        pipelines = fields.get("custom_pipelines") or {}
        if not isinstance(pipelines, Mapping) or not all(isinstance(each, Mapping) for each in pipelines.values()):
            raise ValueError(f"custom_pipelines is {pipelines!r:.60}; it must give each task a mapping")
        if cls.package_version is not None:
            fields.pop("hf_lineage_version", None)
            # the package has them: transformers would refuse to take those of the repository without trust
            fields.pop("custom_pipelines", None)
            others = {task: entry for task, entry in pipelines.items() if entry.get("impl") != PIPELINES.get(task)}
            fields |= {"custom_pipelines": others} if others else {}
        return super().from_dict(fields, **kwargs)

    def to_json_file(self, json_file_path: str | os.PathLike, use_diff: bool = True):
        """Writes config.json: the fields, the pipeline of the head, the format, and the version for information."""
        fields = json.loads(self.to_json_string(use_diff)) | {"lineage_format": FORMAT}
        if self.package_version is not None:
            fields["hf_lineage_version"] = self.package_version
        pipelines = {
            task: entry
            for task, entry in fields.pop("custom_pipelines", {}).items()
            # the configuration may come from another head
            if task not in [of_head for of_head, _ in TASKS.values()]
        }
        for name in self.architectures or ():
            for ending, (task, auto) in TASKS.items():
                if name.endswith(ending) and (task != "token-classification" or getattr(self, "use_crf", False)):
                    pipelines[task] = {"impl": PIPELINES[task], "pt": [auto], "type": "text"}
        fields |= {"custom_pipelines": pipelines} if pipelines else {}
        Path(json_file_path).write_text(json.dumps(fields, indent=2, sort_keys=True) + "\n", encoding="utf-8")

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
                error = ValueError(f"{name} is {size}; it must lie between {least} and {limit}")
                raise StrictDataclassClassValidationError("validate_sizes", error)

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
