"""What every station does with its files: it saves them with a list of digests, and loads only what is whole.

`save_pretrained` writes SHA256SUMS, a list that `sha256sum --check` reads. `from_pretrained` compares the weights with
it, in a folder and in the Hub's cache. It refuses damaged files, NaN, tensors that are missing, too many or of another
shape, and paths that leave the folder; sizes and paths before it asks for memory, digests and NaN while the tensors
load. It warns of a config.json that has changed, since people edit it, and does not look at the files of tokenizers,
which other classes read. Without the list the digests are not compared. A file that has not been touched since it was
found whole is not read again. `verify=False`, or `HF_LINEAGE_VERIFY=0` in the environment, turns all of this off.
"""

import hashlib
import json
import logging
import os
import re
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from contextvars import ContextVar
from pathlib import Path

import torch
from huggingface_hub import _CACHED_NO_EXIST, constants, is_offline_mode, try_to_load_from_cache
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils import cached_file

from .inputs import ID_TYPES
from .replaced_files import INDEX, MANIFEST, digest, name_shards_by_content, replaced_together


CARD = "README.md"
SWITCH = "HF_LINEAGE_VERIFY"
# what save_pretrained of a model writes
LISTED = re.compile(r"(generation_)?config\.json|.+\.(safetensors|safetensors\.index(\..+)?\.json|py)")
# seconds within which two changes of a file may have the same time stamp
CLOCK_TICK = 2.0
LONGEST_HEADER = 100_000_000
# a model of this many layers or fewer is built faster than the headers of its files are read
FEW_LAYERS = 64
FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
# that read weights at once
MOST_THREADS = 4
UNFETCHED = f"{MANIFEST} of {{}} cannot be fetched, so its weights cannot be compared: try again, or pass verify=False"
logger = logging.getLogger(__name__)
# where the model that is being loaded comes from, if it is verified
verifying: ContextVar[tuple | None] = ContextVar("verifying", default=None)


class LineagePreTrainedModel(PreTrainedModel):
    """Base of all stations: transformers' PreTrainedModel, which verifies what it loads."""

    # the beginnings of tensors of the body that some heads do not have
    optional_parts = ()
    # parts of heads, which other heads of the family leave off without a word
    _keys_to_ignore_on_load_unexpected = [r"^(lm_head|classifier|scorer|qa_outputs|crf)\."]

    def __init__(self, config, *arguments, **options):
        check_layers(config)
        super().__init__(config, *arguments, **options)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *arguments, verify: bool | None = None, **options):
        """PreTrainedModel.from_pretrained of files that are whole; `verify` is True unless the environment says 0.

        Raises:
            OSError: a file is damaged, or differs from SHA256SUMS; the message names it. The Hub cannot be reached.
            ValueError: a tensor is missing, has another shape than the configuration asks for, or holds NaN; the index
                names a file outside the folder.
        """
        verify = os.environ.get(SWITCH) != "0" if verify is None else verify
        place = pretrained_model_name_or_path
        token = verifying.set((place, options) if verify and place is not None else None)
        try:
            if verify and place is not None and os.path.isdir(place):
                check_indexes(Path(place, options.get("subfolder") or ""))
            with cls.config_class.reaching(place):
                return super().from_pretrained(place, *arguments, **options)
        except (SafetensorError, json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
            # the error names no file
            for file in files_beside(place, options):
                with naming(file):
                    header_of(file) if file.suffix == ".safetensors" else index_of(file)
            raise OSError(f"a file of {place} is damaged ({error}); fetch it again") from error
        finally:
            verifying.reset(token)

    @staticmethod
    def _load_pretrained_model(model, state_dict, checkpoint_files, load_config, expected_keys=None):
        # transformers has built the model without memory, and has read no weight yet
        is_checked = verifying.get() is not None and isinstance(model, LineagePreTrainedModel)
        files = [Path(file) for file in checkpoint_files or [] if str(file).endswith(".safetensors")]
        with checking(files, load_config, model) if is_checked and files else nullcontext():
            info, offloaded = PreTrainedModel._load_pretrained_model(
                model, state_dict, checkpoint_files, load_config, expected_keys
            )
        # an adapter, which names its own tensors, is PEFT's
        if is_checked and expected_keys is None and not load_config.is_quantized:
            model.check_tensors(info, load_config)
        return info, offloaded

    def check_tensors(self, info, load_config):
        """Refuses tensors that are missing in the file, but for those of a new head, too many or of another shape.

        Raises:
            ValueError: the message names the first such tensor.
        """
        place = load_config.pretrained_model_name_or_path
        if info.mismatched_keys and not load_config.ignore_mismatched_sizes:
            name, found, expected = min(info.mismatched_keys)
            raise ValueError(
                f"{name} has shape {list(found)} in the weights of {place}, but the configuration asks for "
                f"{list(expected)}: config.json belongs to other weights, or pass ignore_mismatched_sizes=True to "
                "start this tensor anew"
            )
        missing = sorted(name for name in self.lacking(info.missing_keys) if self.is_needed(name))
        if missing:
            raise ValueError(
                f"{missing[0]} is missing in the weights of {place}"
                + (f", and {len(missing) - 1} more tensors" if missing[1:] else "")
                + f": they do not fit {type(self).__name__} with this configuration; fetch them again, or pass "
                "verify=False to start these tensors anew"
            )
        if info.unexpected_keys and type(self).__name__ in (getattr(self.config, "architectures", None) or ()):
            raise ValueError(
                f"{min(info.unexpected_keys)} is in the weights of {place}, but the configuration has no place for "
                "it: config.json belongs to other weights, or pass verify=False to leave it out"
            )

    def lacking(self, missing: set[str]) -> set[str]:
        """Of the tensors missing in a file those that no tensor tied to them replaces."""
        tied: dict[str, set[str]] = {}
        for one, other in self.all_tied_weights_keys.items():
            group = tied.get(one, {one}) | tied.get(other, {other})
            tied.update(dict.fromkeys(group, group))
        return {name for name in missing if tied.get(name, {name}) <= missing}

    def is_needed(self, name: str) -> bool:
        """Whether a file without this tensor is damaged: one saved by this class, or for a tensor of the body."""
        architectures = getattr(self.config, "architectures", None) or ()
        # BertForMaskedLM of transformers saves what BERTForMaskedLM reads
        if type(self).__name__.lower() in (each.lower() for each in architectures):
            return True
        prefix = f"{self.base_model_prefix}."
        within = name.removeprefix(prefix)
        is_body = within != name or self.base_model is self
        return is_body and not within.startswith(self.optional_parts)

    def save_pretrained(self, save_directory: str | os.PathLike, *arguments, **options):
        """PreTrainedModel.save_pretrained, all files at once, with SHA256SUMS and, if there is none, a model card."""
        is_writer = arguments[0] if arguments else options.get("is_main_process", True)
        if not is_writer or options.get("distributed_checkpoint") or os.path.isfile(save_directory):
            super().save_pretrained(save_directory, *arguments, **options)
            return
        folder = Path(save_directory)
        if options.get("push_to_hub"):
            options.setdefault("repo_id", folder.name)
        with replaced_together(folder) as temporary:
            if (folder / CARD).is_file():
                shutil.copyfile(folder / CARD, temporary / CARD)
            super().save_pretrained(temporary, *arguments, **options)
            name_shards_by_content(temporary)
            # Trainer gives a state dict, and writes a card of its own
            if "state_dict" not in options:
                self.write_card(temporary, str(save_directory))
            (temporary / MANIFEST).write_text(manifest_of(temporary), encoding="utf-8")

    def write_card(self, folder: Path, name: str):
        """Writes the model card in place of transformers' draft or of none; the package replaces this method."""

    def _upload_modified_files(self, working_dir, repo_id, *arguments, **options):
        # save_pretrained and push_to_hub send the folder with it, after they have written a draft of the card
        self.write_card(Path(working_dir), repo_id)
        Path(working_dir, MANIFEST).write_text(manifest_of(Path(working_dir)), encoding="utf-8")
        return super()._upload_modified_files(working_dir, repo_id, *arguments, **options)


@contextmanager
def naming(file: Path):
    """Raises OSError with the name of `file` for SafetensorError, errors of json, and those of another structure."""
    try:
        yield
    except (SafetensorError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise OSError(f"{file} is damaged ({error}); fetch it again") from error


def manifest_of(folder: Path) -> str:
    """SHA256SUMS of the files in `folder` that belong to a model."""
    names = sorted(path.name for path in folder.iterdir() if path.is_file() and LISTED.fullmatch(path.name))
    return "".join(f"{digest(folder / name)}  {name}\n" for name in names)


def read_manifest(file: Path) -> dict[str, str]:
    """SHA256SUMS -> digest of each file.

    Raises:
        OSError: a line has another form.
    """
    digests = {}
    for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        found = re.fullmatch(r"([0-9a-f]{64}) [ *](.+)", line)
        if found is None:
            raise OSError(
                f"{file}, line {number} is not a digest and a name, but {line!r:.60}: fetch the file again; without "
                "it the weights load, but are not compared"
            )
        digests[found[2]] = found[1]
    return digests


def check_indexes(folder: Path):
    """Refuses an index of shards in `folder` that names files elsewhere.

    Raises:
        OSError: it is not an index.
        ValueError: it names such a file.
    """
    for file in sorted(folder.glob("*.safetensors.index*.json")):
        with naming(file):
            names = index_of(file)
        for name in names:
            if Path(name).name != name or "\0" in name:
                raise ValueError(f"{file} names {name!r} as a file of weights; it must lie in the same folder")


def index_of(file: Path) -> list[str]:
    """The names of the shards in an index.

    Raises:
        ValueError: it is not an index.
    """
    content = json.loads(file.read_text(encoding="utf-8"))
    shards = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(shards, dict) or not shards or not all(isinstance(name, str) for name in shards.values()):
        raise ValueError("its weight_map does not name a file for each tensor")
    if not isinstance(content.get("metadata"), dict):
        raise ValueError("it has no metadata")
    return sorted(set(shards.values()))


def header_of(file: Path) -> dict:
    """The header of a safetensors file: name -> dtype, shape and place of each tensor.

    Raises:
        ValueError: the header is none, or says that the file has another size.
    """
    size = file.stat().st_size
    with open(file, "rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if length > min(size - 8, LONGEST_HEADER):
            raise ValueError(f"its header should have {length} bytes, but the file has {size}")
        header = json.loads(stream.read(length))
    tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
    end = 8 + length + max((entry["data_offsets"][1] for entry in tensors.values()), default=0)
    if end != size:
        raise ValueError(f"by its header it should have {end} bytes, but it has {size}")
    return tensors


def check_layers(config):
    """Refuses more layers than the files of the model that is being loaded have tensors, before they are built.

    Raises:
        OSError: a file is damaged.
        ValueError: there are more layers.
    """
    layers = max(getattr(config, name, None) or 0 for name in ("num_hidden_layers", "decoder_layers"))
    loaded = verifying.get()
    if layers <= FEW_LAYERS or loaded is None:
        return
    number = 0
    for file in files_beside(*loaded):
        if file.suffix == ".safetensors":
            with naming(file):
                number += len(header_of(file))
    if 0 < number < layers:
        raise ValueError(
            f"the configuration asks for {layers} layers, but the weights of {loaded[0]} have {number} tensors: "
            "config.json belongs to other weights"
        )


def files_beside(place, options: dict) -> list[Path]:
    """The files of weights of a model in a folder, or in the Hub's cache."""
    if os.path.exists(place):
        folder = Path(place, options.get("subfolder") or "") if os.path.isdir(place) else Path(place).parent
    else:
        config = in_cache(place, "config.json", options)
        if not isinstance(config, str):
            return []
        folder = Path(config).parent
    return sorted(path for path in folder.iterdir() if path.suffix == ".safetensors" or INDEX.fullmatch(path.name))


def in_cache(place, name: str, options: dict):
    """What the Hub's cache has of a file: its path, that there is none (`_CACHED_NO_EXIST`), or None."""
    chosen = {key: options[key] for key in ("cache_dir", "revision") if options.get(key)}
    return try_to_load_from_cache(str(place), name, **chosen)


def manifest_on_hub(place, options: dict) -> Path | None:
    """SHA256SUMS of a model on the Hub; None if it has none, or none is cached and the Hub must not be asked.

    Raises:
        OSError: it cannot be fetched.
    """
    name = "/".join(part for part in (options.get("subfolder"), MANIFEST) if part)
    if in_cache(place, name, options) is _CACHED_NO_EXIST:
        return None
    try:
        found = cached_file(place, MANIFEST, **options, _raise_exceptions_for_missing_entries=False)
    except Exception as error:
        # the client's errors have no common class
        raise OSError(f"{UNFETCHED.format(place)} ({type(error).__name__}: {error})") from error
    is_missing = in_cache(place, name, options) is _CACHED_NO_EXIST
    if found is None and not (is_missing or is_offline_mode() or options.get("local_files_only")):
        raise OSError(UNFETCHED.format(place))
    return None if found is None else Path(found)


@contextmanager
def checking(files: list[Path], load_config, model) -> Iterator[None]:
    """Refuses files of weights that are damaged, that differ from SHA256SUMS beside them, or as in `check_weights`.

    Headers are read before the block; threads read the rest while it runs, and its end waits for them.

    Raises:
        OSError, ValueError: as `check_weights`.
    """
    place, options = load_config.pretrained_model_name_or_path, load_config.download_kwargs or {}
    manifest = files[0].parent / MANIFEST if os.path.exists(place) else manifest_on_hub(place, options)
    digests = read_manifest(manifest) if manifest is not None and manifest.is_file() else {}
    config = files[0].with_name("config.json")
    if config.name in digests and config.is_file() and digest(config) != digests[config.name]:
        logger.warning("%s has changed since it was saved: if nobody has edited it, fetch it again", config)
    unknown = [file for file in files if not mark_of(file, digests.get(file.name)).exists()]
    for file in unknown:
        with naming(file):
            header_of(file)
    # others name tensors otherwise, but for the last part; quantised ones have a kind of their own
    parts = {} if load_config.is_quantized else model.state_dict()
    floats = {name.rpartition(".")[2]: tensor.is_floating_point() for name, tensor in parts.items()}
    with ThreadPoolExecutor(MOST_THREADS) as threads:
        checks = [threads.submit(check_weights, file, digests.get(file.name), floats) for file in unknown]
        try:
            yield
        finally:
            for check in checks:
                check.result()


def check_weights(file: Path, expected: str | None, floats: dict[str, bool]):
    """Refuses a file of weights whose SHA-256 is not the expected one, or that holds numbers as in `flaw_of`.

    `floats` says, by the last part of a tensor's name, whether the model has floating-point numbers there.

    Raises:
        OSError: it is damaged, or differs.
        ValueError: a tensor holds such numbers.
    """
    if expected is not None and digest(file) != expected:
        raise OSError(
            f"{file} has changed since it was saved (its SHA-256 is not the one in {MANIFEST}): fetch it again, "
            "from the Hub with force_download=True. If you changed it on purpose, delete "
            f"{MANIFEST}, or pass verify=False"
        )
    with naming(file), safe_open(file, framework="pt") as tensors:
        flaws = {key: flaw_of(tensors.get_tensor(key), floats.get(key.rpartition(".")[2])) for key in tensors.keys()}
    if spoilt := [f"{name} in {file} holds {flaw}" for name, flaw in flaws.items() if flaw]:
        raise ValueError(f"{spoilt[0]}: no model can answer; take another file, or pass verify=False to look at it")
    if floats:
        remember(file, expected)


def flaw_of(tensor: Tensor, is_float: bool | None) -> str | None:
    """NaN, or a dtype of another kind than the model's, which has floating-point numbers, others or none (None)."""
    if is_float is not None and tensor.dtype not in (FLOATS if is_float else ID_TYPES):
        return f"{tensor.dtype} in the place of {'floating-point' if is_float else 'whole'} numbers"
    if not tensor.is_floating_point():
        return None
    # a sum is faster than a test of each number, and finite numbers rarely add up to infinity
    total = tensor.float().sum() if tensor.dtype.itemsize < 4 else tensor.sum()
    return "NaN" if not total.isfinite() and tensor.isnan().any() else None


def mark_of(file: Path, expected: str | None) -> Path:
    """The empty file that says: this file, untouched since, had this digest and no NaN."""
    status = file.stat()
    state = (str(file.resolve()), status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns, expected)
    return Path(constants.HF_HOME, "hf_lineage", "verified", hashlib.sha256(repr(state).encode()).hexdigest())


def remember(file: Path, expected: str | None):
    """Marks a file as whole, unless it is so new that a further change could keep its time stamp."""
    status = file.stat()
    if time.time() - max(status.st_mtime, status.st_ctime) > CLOCK_TICK:
        # a folder that cannot be written costs time, nothing else
        with suppress(OSError):
            mark = mark_of(file, expected)
            mark.parent.mkdir(parents=True, exist_ok=True)
            mark.touch()
