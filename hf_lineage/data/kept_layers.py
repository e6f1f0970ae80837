"""What a frozen model gives for each text, computed once and kept in an Arrow file, to train heads without it."""

import hashlib
import inspect
import json
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from hf_lineage.data.blocks import IGNORED
from hf_lineage.data.tagging import tags_of_tokens


# raise it when the layers of a text change, so that no stale file is used
_VERSION = 1
# what tokenizers give, whether a model reads it or not
_OF_TOKENIZERS = ("input_ids", "attention_mask", "token_type_ids", "char_ids")
# characters or words: up to this length padding costs little
_SHORT = 1_000


class KeptLayers(torch.utils.data.Dataset):
    """A data set whose texts have passed through a frozen ELMo once; ELMo's heads train on it directly.

    `tokenizer` reads `text_column`, a text or a list of words per row. `model` (an `ELMoModel`) computes the layers
    [T, N + 1, 2·P] of each row from empty states, and writes them to a file in `folder`. The file's name depends on
    the texts, the weights and the tokenizer, so that a second run with the same ones reads it.
    All other columns are kept. The columns in `tag_columns` have one number per word, which is given to the word's
    first token (`tags_of_tokens`). Other lists of whole numbers have one number per token, `<S>` and `</S>` included.
    Lists of floating-point numbers belong to the whole text.

    Gives input_ids [T], attention_mask [T], elmo_layers [T, N + 1, 2·P] and the rest; `collate` makes a batch.

    Raises:
        ValueError: a row's numbers of words and tags, or of tokens and numbers, differ; the error names the row.
    """

    def __init__(
        self,
        dataset: datasets.Dataset,
        model,
        tokenizer,
        folder: str | Path,
        *,
        text_column: str = "text",
        tag_columns: Sequence[str] = (),
        batch_size: int = 32,
    ):
        self.shape = (-1, model.config.num_hidden_layers + 1, model.config.output_size)
        self.pad_token_id = tokenizer.pad_token_id
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        of_tokens = _columns_of_tokens(dataset, text_column, tag_columns)
        fingerprint = _fingerprint(dataset, model, tokenizer, text_column, tag_columns)

        @torch.no_grad()
        def layers_of(batch, rows_of_batch):
            texts = list(batch[text_column])
            columns = {"input_ids": [None] * len(texts), "elmo_layers": [None] * len(texts)}
            words = [None] * len(texts)  # the word that each token belongs to, None for <S> and </S>
            for rows in _of_like_length(texts):
                chosen = [texts[row] for row in rows]
                is_split = not isinstance(chosen[0], str)
                encoded = tokenizer(chosen, is_split_into_words=is_split, padding=True, return_tensors="pt")
                was_training = model.training
                states = model.eval()(**encoded.to(model.device)).hidden_states
                model.train(was_training)
                layers = torch.stack(states, dim=2).float().cpu()  # [B, T, N + 1, 2·P]
                masks, ids = encoded["attention_mask"].bool().cpu(), encoded["input_ids"].cpu()
                for place, row in enumerate(rows):
                    columns["input_ids"][row] = ids[place, masks[place]].tolist()
                    columns["elmo_layers"][row] = layers[place, masks[place]].flatten().numpy()
                    words[row] = [
                        word for word, is_token in zip(encoded.word_ids(place), masks[place], strict=True) if is_token
                    ]
            for column in of_tokens:
                _check_counts(rows_of_batch, column, batch[column], words, "tokens with the marks")
            for column in tag_columns:
                _check_counts(rows_of_batch, column, batch[column], texts, f"words in {text_column}")
                columns[column] = [
                    tags_of_tokens(of_row, tags) for of_row, tags in zip(words, batch[column], strict=True)
                ]
            return columns

        features = {name: kind for name, kind in dataset.features.items() if name != text_column}
        features |= {
            "input_ids": datasets.List(datasets.Value("int64")),
            "elmo_layers": datasets.List(datasets.Value("float32")),
        }
        kept = dataset.map(
            layers_of,
            batched=True,
            with_indices=True,
            batch_size=batch_size,
            # rows are large: memory holds no more than one batch of them
            writer_batch_size=batch_size,
            remove_columns=[text_column],
            features=datasets.Features(features),
            new_fingerprint=fingerprint,
            cache_file_name=str(folder / f"elmo_layers_{fingerprint}.arrow"),
            desc="ELMo's layers",
        )
        self.rows = kept.with_format("numpy")

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, position: int) -> dict[str, torch.Tensor]:
        return self._example(self.rows[position])

    def __getitems__(self, positions: list[int]) -> list[dict[str, torch.Tensor]]:
        """Reads a DataLoader's batch at once: reading it row by row costs as much as a small network."""
        columns = self.rows[positions]
        return [self._example(dict(zip(columns, row, strict=True))) for row in zip(*columns.values(), strict=True)]

    def _example(self, row: dict) -> dict[str, torch.Tensor]:
        example = {name: torch.from_numpy(np.array(value)) for name, value in row.items()}
        # datasets reads a column of numbers as float32, but a single number as float64
        example = {name: value.float() if value.dtype == torch.float64 else value for name, value in example.items()}
        example["elmo_layers"] = example["elmo_layers"].view(self.shape)
        example["attention_mask"] = torch.ones_like(example["input_ids"])
        return example

    def collate(self, examples: list[dict]) -> dict[str, torch.Tensor]:
        """Pads examples on the right to one batch; pads numbers per token, such as labels, with −100."""
        filling = {"input_ids": self.pad_token_id, "attention_mask": 0, "elmo_layers": 0.0}
        batch = {}
        for name, first in examples[0].items():
            values = [example[name] for example in examples]
            is_per_token = name in filling or (first.dim() > 0 and not first.is_floating_point())
            batch[name] = (
                pad_sequence(values, batch_first=True, padding_value=filling.get(name, IGNORED))
                if is_per_token
                else torch.stack(values)
            )
        return batch


class KeptStates(torch.utils.data.Dataset):
    """Rows that have passed through a frozen model once; the heads of its family train on what it gave.

    `rows` are what a tokenizer gives, input_ids `[T]` or `[C][T]` (choices, both orders of a pair), labels; `collator`
    makes batches of them. `model` is the base model of a head, from word2vec to BERT, or of transformers. Its last
    hidden states [T, D] (of an ELMo all layers [T, N + 1, 2·P], and the ids) are written to a file in `folder`, named
    after the rows and the frozen weights. A second run with the same rows and weights reads the file. Weights in
    `learned`, such as those of a pooler, stand above these states and do not change them.

    Gives inputs_embeds `[T, D]` or `[C][T, D]` (an ELMo: elmo_layers and input_ids), the labels and other columns.
    `collate` makes a batch, padded on the right. Heads other than ELMo's read it after `Transfer.keep_states`, which
    lets their base model pass inputs_embeds on.
    """

    def __init__(
        self,
        rows: datasets.Dataset,
        model,
        collator: Callable,
        folder: str | Path,
        *,
        learned: Collection[str] = (),
        batch_size: int = 32,
    ):
        config = model.config
        self.is_elmo = config.model_type == "lineage_elmo"
        self.name = "elmo_layers" if self.is_elmo else "inputs_embeds"
        self.nested = isinstance(rows[0]["input_ids"][0], list)
        self.pad_token_id = getattr(config, "pad_token_id", None) or 0
        inputs = [name for name in inspect.signature(model.forward).parameters if name != "kwargs"]
        others = [name for name in rows.column_names if name not in (*inputs, *_OF_TOKENIZERS)]

        @torch.no_grad()
        def states_of(*columns):
            names = rows.column_names
            batch = collator([dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)])
            batch = {name: value.to(model.device) for name, value in batch.items() if name in inputs}
            if self.nested:
                batch = {name: value.flatten(0, 1) for name, value in batch.items()}
            outputs = model(**batch)
            states = torch.stack(outputs.hidden_states, dim=2) if self.is_elmo else outputs.last_hidden_state
            masks = batch["attention_mask"].bool().cpu().split(len(batch["attention_mask"]) // len(columns[0]))
            parts = states.float().cpu().split(len(masks[0]))
            kept = {
                self.name: [part[mask].flatten().numpy() for part, mask in zip(parts, masks, strict=True)],
                "lengths": [mask.sum(1).tolist() for mask in masks],
            }
            if self.is_elmo:
                ids = batch["input_ids"].cpu().split(len(masks[0]))
                kept["input_ids"] = [part[mask].tolist() for part, mask in zip(ids, masks, strict=True)]
            return kept

        features = {name: kind for name, kind in rows.features.items() if name in others}
        features |= {self.name: datasets.List(datasets.Value("float32"))}
        whole = datasets.List(datasets.Value("int64"))
        features |= {"lengths": whole, **({"input_ids": whole} if self.is_elmo else {})}
        Path(folder).mkdir(parents=True, exist_ok=True)
        fingerprint = _fingerprint_of_rows(rows, model, learned)
        was_training = model.training
        model.eval()
        kept = rows.map(
            states_of,
            input_columns=rows.column_names,
            batched=True,
            batch_size=batch_size,
            # rows are large: memory holds no more than one batch of them
            writer_batch_size=batch_size,
            remove_columns=[name for name in rows.column_names if name not in others],
            features=datasets.Features(features),
            new_fingerprint=fingerprint,
            cache_file_name=str(Path(folder) / f"states_{fingerprint}.arrow"),
            desc="Layers",
        )
        model.train(was_training)
        sample = kept[0]
        size = len(sample[self.name]) // max(sum(sample["lengths"]), 1)
        self.shape = (-1, config.num_hidden_layers + 1, config.output_size) if self.is_elmo else (-1, size)
        self.rows = kept.with_format("numpy")

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, position: int) -> dict:
        return self._example(self.rows[position])

    def __getitems__(self, positions: list[int]) -> list[dict]:
        """Reads a batch at once."""
        columns = self.rows[positions]
        return [self._example(dict(zip(columns, row, strict=True))) for row in zip(*columns.values(), strict=True)]

    def _example(self, row: dict) -> dict:
        lengths = row.pop("lengths").tolist()
        example: dict[str, Any] = {name: torch.from_numpy(np.array(value)) for name, value in row.items()}
        example = {name: value.float() if value.dtype == torch.float64 else value for name, value in example.items()}
        example[self.name] = example[self.name].view(self.shape)
        for name in (self.name, "input_ids"):
            if name in example:
                example[name] = list(example[name].split(lengths)) if self.nested else example[name]
        return example

    def collate(self, examples: list[dict]) -> dict[str, torch.Tensor]:
        """Pads examples on the right to one batch; pads numbers per token, such as tags, with −100."""
        batch = {}
        for name, first in examples[0].items():
            values = [example[name] for example in examples]
            if name in (self.name, "input_ids"):
                parts = [part for value in values for part in value] if self.nested else values
                filling = self.pad_token_id if name == "input_ids" else 0.0
                padded = pad_sequence(parts, batch_first=True, padding_value=filling)
                batch[name] = padded.unflatten(0, (len(values), -1)) if self.nested else padded
                if name == self.name:
                    sizes = torch.tensor([len(part) for part in parts])
                    mask = (torch.arange(padded.shape[1]) < sizes[:, None]).long()
                    batch["attention_mask"] = mask.unflatten(0, (len(values), -1)) if self.nested else mask
            elif first.dim() > 0 and not first.is_floating_point():
                batch[name] = pad_sequence(values, batch_first=True, padding_value=IGNORED)
            else:
                batch[name] = torch.stack(values)
        return batch


def _of_like_length(texts):
    """Groups of text numbers that need little padding: the longest is at most twice the shortest, or short itself."""
    order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
    group = []
    for row in order:
        if group and len(texts[row]) > max(_SHORT, 2 * len(texts[group[0]])):
            yield group
            group = []
        group.append(row)
    if group:
        yield group


def _columns_of_tokens(dataset, text_column, tag_columns) -> list[str]:
    """Columns with lists of whole numbers, one number per token."""
    if tag_columns and isinstance(dataset.features[text_column], datasets.Value):
        raise ValueError(f"tag_columns is {tag_columns}, but {text_column} has texts, not lists of words")
    kinds = {name: getattr(kind, "feature", None) for name, kind in dataset.features.items()}
    lists = [name for name, kind in kinds.items() if getattr(kind, "dtype", "").startswith(("int", "uint"))]
    return [name for name in lists if name not in (text_column, *tag_columns)]


def _check_counts(rows, column, lists, units, name):
    for row, numbers, of_row in zip(rows, lists, units, strict=True):
        if len(numbers) != len(of_row):
            raise ValueError(f"row {row}: there are {len(of_row)} {name}, but {column} has {len(numbers)} numbers")


def _fingerprint(dataset, model, tokenizer, text_column, tag_columns) -> str:
    """A fingerprint of everything that the layers depend on."""
    digest = hashlib.blake2b(digest_size=16)
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    # the tokenizer keeps the settings of its last call
    backend |= {"padding": None, "truncation": None}
    for text in (str(_VERSION), text_column, *tag_columns, json.dumps(backend)):
        digest.update(text.encode())
    _add_rows(digest, dataset)
    digest.update(str(tokenizer.max_characters_per_token).encode())
    digest.update(model.config.to_json_string().encode())
    # the task learns the mixes from the layers
    _add_weights(digest, {name: value for name, value in model.state_dict().items() if not name.startswith("mixes.")})
    return digest.hexdigest()


def _fingerprint_of_rows(rows, model, learned) -> str:
    """A fingerprint of everything that the states of `KeptStates` depend on."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(f"{_VERSION} {type(model).__name__} {rows.column_names}".encode())
    _add_rows(digest, rows)
    digest.update(model.config.to_json_string().encode())
    _add_weights(digest, {name: value for name, value in model.state_dict().items() if name not in learned})
    return digest.hexdigest()


def _add_rows(digest, rows):
    # the rows themselves: the data set's own fingerprint may differ from run to run
    for batch in rows.with_format(None).iter(1_000):
        digest.update(repr(batch).encode("utf-8", "surrogatepass"))


def _add_weights(digest, weights):
    for name, tensor in weights.items():
        digest.update(name.encode() + tensor.detach().float().cpu().contiguous().numpy().tobytes())
