"""`python -m hf_lineage push FOLDER REPOSITORY`: checks a model's folder, and sends it to the Hub in one commit."""

import glob
import json
import re
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from huggingface_hub import HfApi, ModelCard
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

import hf_lineage
from hf_lineage.files import write_text
from hf_lineage.hub.model_card import DRAFT, card_of_saved, renamed
from hf_lineage.models.replaced_files import MANIFEST, digest
from hf_lineage.models.saved_models import LineagePreTrainedModel, manifest_of, naming, read_manifest


# a pickle, which nobody should have to open, or what only this run needs
NOT_SENT = re.compile(r"\..*|.*\.(bin|pt|pth|pkl|pickle|lock|log|tmp)|seal\.json")
ADVISED = {"license": " (give --license)", "language": " (give --language)", "datasets": ""}


@dataclass
class Parcel:
    """What would go to the Hub: the files with their sizes in bytes, what stays, and what the card lacks.

    `written` holds the texts of files that are written before.
    """

    files: dict[str, int]
    written: dict[str, str] = field(default_factory=dict)
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
    with naming(config):
        [name, *_] = json.loads(config.read_text(encoding="utf-8")).get("architectures") or [""]
        model_class = getattr(hf_lineage, name, None)
    if not (isinstance(model_class, type) and issubclass(model_class, LineagePreTrainedModel)):
        raise ValueError(f"{config} names the class {name!r}, which is none of hf_lineage's models")
    return model_class.from_pretrained(folder, verify=True)


def card_in(text: str, place: Path) -> ModelCard:
    """The card with this text.

    Raises:
        ValueError: its head is not YAML.
    """
    try:
        return ModelCard(text)
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"the head of {place} is not valid: {error}") from error


def check_card(card: ModelCard, place: Path) -> list[str]:
    """Notes on what the card lacks.

    Raises:
        ValueError: the Hub refuses it.
    """
    head = card.data.to_dict()
    notes = [f"the card says no {name}{remedy}" for name, remedy in ADVISED.items() if not head.get(name)]
    if DRAFT in card.text:
        notes.append("the card is transformers' draft")
    try:
        card.validate(repo_type="model")
    except ValueError as error:
        raise ValueError(f"the Hub refuses the head of {place}: {error}") from error
    except Exception as error:
        # without a network the Hub's client raises its own transport's errors
        notes.append(f"the Hub did not check the card ({type(error).__name__})")
    return notes


def pack(folder: Path, repository: str, language: list[str] | None = None, license: str | None = None) -> Parcel:
    """Checks the folder, completes its card, with `language` and `license` if given, and its list of digests.

    The folder stays as it is.

    Raises:
        ValueError: the repository's name is none, or as in `open_folder`, `card_in` and `check_card`.
        OSError: as `open_folder`.
    """
    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise ValueError(f"REPOSITORY is {repository!r}, which no repository is called: {error}") from error
    model = open_folder(folder)
    names = sorted(path.name for path in folder.iterdir() if path.is_file() and not NOT_SENT.fullmatch(path.name))
    notes = []
    listed = read_manifest(folder / MANIFEST) if (folder / MANIFEST).is_file() else {}
    for name in names:
        if name in listed and digest(folder / name) != listed[name]:
            notes.append(f"{name} was edited after it was saved")
    place = folder / "README.md"
    text = None
    if place.is_file():
        with naming(place):
            text = place.read_bytes().decode()
        # what people have written into the head, or a push before
        head = card_in(text, place).data
        language, license = language or head.get("language"), license or head.get("license")
    text = card_of_saved(model, repository, None) if text is None or DRAFT in text else renamed(text, repository)
    card = card_in(text, place)
    given = {name: value for name, value in {"language": language, "license": license}.items() if value}
    if any(card.data.get(name) != value for name, value in given.items()):
        for name, value in given.items():
            card.data[name] = value
        text = str(card)
    notes += check_card(card, place)
    tokenizers = ("tokenizer.json", "tokenizer_config.json", "vocab.txt")
    if not any((folder / name).is_file() for name in tokenizers):
        notes.append("there is no tokenizer: save one into the folder, or nobody can give the model a text")
    written = {place.name: text, MANIFEST: manifest_of(folder)}
    sizes = {name: (folder / name).stat().st_size for name in names}
    sizes |= {name: len(text.encode()) for name, text in written.items()}
    others = [f"{path.name}/" if path.is_dir() else path.name for path in folder.iterdir() if path.name not in sizes]
    return Parcel(dict(sorted(sizes.items())), written, sorted(others), notes)


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

    With `dry_run` nothing is sent or written: the text says what would go. `language` and `license` go into the model
    card.

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
    for name, text in parcel.written.items():
        write_text(folder / name, text)
    api, sent = HfApi(), [glob.escape(name) for name in parcel.files]
    try:
        name = api.create_repo(repository, private=private, exist_ok=True).repo_id
        commit = api.upload_folder(
            repo_id=name, folder_path=folder, allow_patterns=sent, commit_message="Upload model"
        )
    except Exception as error:
        # the client's errors have no common class; one commit holds all files, so none is half there
        raise OSError(f"nothing was sent to {repository} ({type(error).__name__}: {error}); try again") from error
    return f"{parcel}\nsent to {name}, commit {commit.oid}"
