"""`python -m hf_lineage push FOLDER REPOSITORY`: checks a model's folder, and sends it to the Hub in one commit."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from huggingface_hub import HfApi, ModelCard

import hf_lineage
from hf_lineage.files import write_text
from hf_lineage.model_card import DRAFT, NOT_RECORDED, card_of_saved
from hf_lineage.models.replaced_files import MANIFEST, digest
from hf_lineage.models.saved_models import LineagePreTrainedModel, manifest_of, read_manifest


# a pickle, which nobody should have to open, or what only this run needs
NOT_SENT = re.compile(r"\..*|.*\.(bin|pt|pth|pkl|pickle|lock|log|tmp)|seal\.json")
ADVISED = {"license": " (give --license)", "language": " (give --language)", "datasets": ""}


@dataclass
class Parcel:
    """What would go to the Hub: the files with their sizes in bytes, what stays, and what the card lacks."""

    files: dict[str, int]
    left_out: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"{size:>15,} {name}" for name, size in self.files.items()]
        lines.append(f"{sum(self.files.values()):>15,} bytes in {len(self.files)} files")
        if self.left_out:
            lines.append(f"not sent: {', '.join(self.left_out)}")
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


def open_folder(folder: Path) -> LineagePreTrainedModel:
    """The model in the folder, by the class that saved it; opening verifies the weights.

    Raises:
        ValueError: the folder holds none of this package's models, or weights that do not fit.
        OSError: a file is missing or damaged.
    """
    config = folder / "config.json"
    if not config.is_file():
        raise ValueError(f"{folder} has no config.json: give the folder of a saved model")
    settings = json.loads(config.read_text(encoding="utf-8"))
    [name, *_] = settings.get("architectures") or [""]
    model_class = getattr(hf_lineage, name, None)
    if not (isinstance(model_class, type) and issubclass(model_class, LineagePreTrainedModel)):
        raise ValueError(f"{config} names the class {name!r}, which is none of hf_lineage's models")
    return model_class.from_pretrained(folder, verify=True)


def read_card(card: Path) -> ModelCard:
    """The card in a file.

    Raises:
        ValueError: its head is not YAML.
    """
    try:
        return ModelCard.load(card)
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"the head of {card} is not valid: {error}") from error


def check_card(card: Path) -> list[str]:
    """Notes on what the card lacks.

    Raises:
        ValueError: its head is not YAML, or the Hub refuses it.
    """
    text = read_card(card)
    head = text.data.to_dict()
    notes = [f"the card says no {name}{remedy}" for name, remedy in ADVISED.items() if not head.get(name)]
    if DRAFT in text.text:
        notes.append("the card is transformers' draft")
    try:
        text.validate(repo_type="model")
    except ValueError as error:
        raise ValueError(f"the Hub refuses the head of {card}: {error}") from error
    except Exception as error:
        # without a network the Hub's client raises its own transport's errors
        notes.append(f"the Hub did not check the card ({type(error).__name__})")
    return notes


def pack(folder: Path, repository: str, language: list[str] | None = None, license: str | None = None) -> Parcel:
    """Checks the folder and completes its card, with `language` and `license` if given, and its list of digests.

    Raises:
        ValueError: as `open_folder` and `check_card`.
        OSError: as `open_folder`.
    """
    model = open_folder(folder)
    names = sorted(path.name for path in folder.iterdir() if path.is_file() and not NOT_SENT.fullmatch(path.name))
    notes = []
    listed = read_manifest(folder / MANIFEST) if (folder / MANIFEST).is_file() else {}
    for name in names:
        if name in listed and digest(folder / name) != listed[name]:
            notes.append(f"{name} was edited after it was saved")
    card = folder / "README.md"
    before = card.read_text(encoding="utf-8") if card.is_file() else None
    if before is not None:
        # what people have written into the head, or a push before
        head = read_card(card).data
        language, license = language or head.get("language"), license or head.get("license")
    if before is None or DRAFT in before or NOT_RECORDED in before:
        # the name of the repository in place of the folder's
        write_text(card, card_of_saved(model, repository, None))
    text = read_card(card)
    given = {name: value for name, value in {"language": language, "license": license}.items() if value}
    if any(text.data.get(name) != value for name, value in given.items()):
        for name, value in given.items():
            text.data[name] = value
        write_text(card, str(text))
    notes += check_card(card)
    tokenizers = ("tokenizer.json", "tokenizer_config.json", "vocab.txt")
    if not any((folder / name).is_file() for name in tokenizers):
        notes.append("there is no tokenizer: save one into the folder, or nobody can give the model a text")
    write_text(folder / MANIFEST, manifest_of(folder))
    names = sorted({*names, card.name, MANIFEST})
    others = [f"{path.name}/" if path.is_dir() else path.name for path in folder.iterdir() if path.name not in names]
    return Parcel({name: (folder / name).stat().st_size for name in names}, sorted(others), notes)


def push(
    folder: str | Path,
    repository: str,
    *,
    dry_run: bool = False,
    private: bool | None = None,
    language: list[str] | None = None,
    license: str | None = None,
) -> str:
    """Sends the files of a model's folder in one commit; returns what it did, for people.

    With `dry_run` nothing is sent: the text says what would go. `language` and `license` go into the model card.

    Raises:
        ValueError: the folder does not hold a whole model, or the card is not valid.
        OSError: a file is damaged, or the Hub cannot be reached.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder")
    parcel = pack(folder, repository, language, license)
    if dry_run:
        return f"{parcel}\nnothing was sent to {repository} (--dry_run)"
    api = HfApi()
    try:
        name = api.create_repo(repository, private=private, exist_ok=True).repo_id
        commit = api.upload_folder(
            repo_id=name, folder_path=folder, allow_patterns=list(parcel.files), commit_message="Upload model"
        )
    except Exception as error:
        # the client's errors have no common class; one commit holds all files, so none is half there
        raise OSError(f"nothing was sent to {repository} ({type(error).__name__}: {error}); try again") from error
    return f"{parcel}\nsent to {name}, commit {commit.oid}"
