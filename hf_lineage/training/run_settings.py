"""What decides the result of a training run, by name: a run that continues must have the same."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from itertools import islice
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow
import torch
from transformers import PreTrainedConfig, PreTrainedTokenizerBase, SchedulerType, TrainingArguments

from hf_lineage.models.replaced_files import digest


# fields of TrainingArguments that do not change what is trained; each may differ when a run continues
FREE_ARGUMENTS = frozenset(
    {
        # what is chosen by `precision` stands under bf16
        *("output_dir", "overwrite_output_dir", "ignore_changed", "precision", "do_train", "do_eval", "do_predict"),
        *("resume_from_checkpoint", "restore_callback_states_from_checkpoint", "enable_jit_checkpoint", "debug"),
        *("logging_strategy", "logging_steps", "logging_first_step", "logging_nan_inf_filter", "log_on_each_node"),
        *("log_level", "log_level_replica", "disable_tqdm", "report_to", "run_name", "project", "trackio_space_id"),
        *("trackio_bucket_id", "trackio_static_space_id", "include_num_input_tokens_seen", "skip_memory_metrics"),
        *("save_strategy", "save_steps", "save_total_limit", "save_on_each_node", "save_only_model"),
        *("push_to_hub", "hub_token", "hub_private_repo", "hub_model_id", "hub_strategy", "hub_always_push"),
        *("hub_revision", "model_language", "model_license", "local_rank", "ddp_timeout", "torch_empty_cache_steps"),
        *("dataloader_num_workers", "dataloader_pin_memory", "dataloader_prefetch_factor"),
        *("dataloader_multiprocessing_context", "per_device_eval_batch_size", "eval_accumulation_steps"),
        *("eval_do_concat_batches", "eval_use_gather_object", "include_for_metrics", "batch_eval_metrics"),
        *("prediction_loss_only", "predict_with_generate", "generation_max_length", "generation_num_beams"),
        *("generation_config", "gnmt_length_penalty", "bf16_full_eval", "fp16_full_eval"),
    }
)
# but where a score in training, or the saved checkpoints, decide which weights the run ends with, these count too
OF_SAVING = ("save_strategy", "save_steps", "save_total_limit")
OF_SCORING = (
    *("prediction_loss_only", "predict_with_generate", "generation_max_length", "generation_num_beams"),
    *("gnmt_length_penalty", "bf16_full_eval", "fp16_full_eval"),
)
# fields of a configuration that say where it comes from, or that training sets itself
FREE_FIELDS = frozenset(
    {
        *("transformers_version", "architectures", "auto_map", "dtype", "use_cache", "label2id"),
        *("pad_token_id", "bos_token_id", "eos_token_id"),
    }
)
# texts of a stream, which has no known end, that are compared
STREAMED_ROWS = 100


def scores_decide(args: TrainingArguments) -> bool:
    """Whether scores in training decide which weights the run ends with, or its learning rates."""
    of_rate = args.lr_scheduler_type == SchedulerType.REDUCE_ON_PLATEAU
    return args.load_best_model_at_end or getattr(args, "average_after", None) is not None or of_rate


def settings_of_arguments(args: TrainingArguments) -> dict[str, Any]:
    """The arguments that decide what is trained; see FREE_ARGUMENTS for the others."""
    values, free = args.to_dict(), set(FREE_ARGUMENTS)
    if args.load_best_model_at_end or getattr(args, "average_checkpoints", None):
        free -= {*OF_SAVING}
    if scores_decide(args):
        free -= {*OF_SCORING}
    names = [item.name for item in dataclasses.fields(args) if item.name not in free]
    return {name: plain(values.get(name)) for name in names}


def settings_of_config(config: PreTrainedConfig) -> dict[str, Any]:
    """The fields of a model's configuration, and the saved model that it comes from."""
    fields = {name: value for name, value in config.to_dict().items() if name not in FREE_FIELDS}
    return {f"config.{name}": plain(value) for name, value in fields.items()} | {"base_model": config.name_or_path}


def settings_of_data(data, name: str = "data") -> dict[str, Any]:
    """The class of a data set, its plain values, and digests of what it holds; private attributes do not count.

    Of a streamed corpus the first STREAMED_ROWS texts are compared.
    """
    found: dict[str, Any] = {name: getattr(data, "__qualname__", type(data).__qualname__)}
    if isinstance(data, list | tuple | Mapping | datasets.Dataset | datasets.IterableDataset):
        return found | {f"{name}.content": digest_of(data)}
    for attribute, value in _attributes(data).items():
        if isinstance(value, Path):
            # where a file is does not matter; what it holds is another attribute
            continue
        value = value.item() if isinstance(value, np.generic) else value
        is_plain = value is None or isinstance(value, bool | int | float | str)
        found[f"{name}.{attribute}"] = value if is_plain else digest_of(value)
    return found


def plain(value) -> Any:
    """A value as JSON reads it back."""
    return json.loads(json.dumps(value, default=str))


def digest_of(value) -> str:
    """A digest of an object's content, the same in every process."""
    digest = hashlib.blake2b(digest_size=16)
    _update(digest.update, value, set())
    return digest.hexdigest()


def digest_of_files(places: Iterable[str], patterns: Sequence[str] = ("[!.]*",)) -> str | None:
    """A digest of files, or of those that lie in a folder and match a pattern; None for names on the Hub."""
    found = []
    for place in map(Path, places):
        found += [path for pattern in patterns for path in place.glob(pattern)] if place.is_dir() else [place]
    files = sorted({path for path in found if path.is_file()})
    return digest_of([digest(path) for path in files]) if files else None


def _attributes(value) -> dict[str, Any]:
    return {name: held for name, held in getattr(value, "__dict__", {}).items() if not name.startswith("_")}


def _update(update: Callable[[bytes], object], value, above: set[int]):
    """Feeds a value to a digest, with marks between the parts, so that no two values feed the same bytes."""
    if value is None or isinstance(value, bool | int | float | str | bytes | Enum):
        update(f"{type(value).__name__} {value!r};".encode("utf-8", "surrogatepass"))
    elif isinstance(value, np.memmap) and value.filename is not None:
        update(f"array {value.dtype.str} {value.shape};".encode())
        # not through the map, which would keep in memory all that was read
        with open(value.filename, "rb") as file:
            file.seek(value.offset)
            while chunk := file.read(1 << 20):
                update(chunk)
    elif isinstance(value, np.ndarray | np.generic):
        update(f"array {value.dtype.str} {value.shape};".encode())
        update(np.ascontiguousarray(value).tobytes() if value.dtype != object else repr(value.tolist()).encode())
    elif isinstance(value, torch.Tensor):
        _update(update, value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy(), above)
    elif isinstance(value, datasets.Dataset):
        update(f"rows {len(value)} {value.column_names};".encode())
        for rows in value.with_format("arrow").iter(1_000):
            _update_with_rows(update, rows)
    elif isinstance(value, datasets.IterableDataset):
        for row in islice(value, STREAMED_ROWS):
            update(repr(row).encode("utf-8", "surrogatepass"))
    elif isinstance(value, PreTrainedTokenizerBase):
        _update(update, tokenizer_content(value), above)
    elif isinstance(value, Mapping):
        update(b"mapping;")
        for key in sorted(value, key=repr):
            _update(update, key, above)
            _update(update, value[key], above)
    elif isinstance(value, list | tuple | set | frozenset):
        update(f"sequence {len(value)};".encode())
        if value and all(type(item) in (int, float) for item in value):
            # as fast as one number is
            update(repr(sorted(value) if isinstance(value, set | frozenset) else [*value]).encode())
            return
        for item in sorted(value, key=repr) if isinstance(value, set | frozenset) else value:
            _update(update, item, above)
    elif isinstance(value, Path):
        return
    elif type(value).__module__.startswith("hf_lineage") and not isinstance(value, type) and id(value) not in above:
        update(f"object {type(value).__qualname__};".encode())
        _update(update, _attributes(value), above | {id(value)})
    else:
        # of a function or an object of another library the name has to do
        update(f"name {getattr(value, '__qualname__', type(value).__qualname__)};".encode())


def _update_with_rows(update, rows):
    # in one piece and without the metadata: the bytes are then those of the values alone
    rows = rows.combine_chunks().replace_schema_metadata(None)
    sink = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows)
    update(sink.getvalue())


def tokenizer_content(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """Everything that decides the ids of a text."""
    content = {"class": type(tokenizer).__name__, "special tokens": plain(tokenizer.special_tokens_map)}
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return content | {"vocabulary": tokenizer.get_vocab()}
    # the tokenizer keeps the settings of its last call
    return content | {"backend": json.loads(backend.to_str()) | {"padding": None, "truncation": None}}
