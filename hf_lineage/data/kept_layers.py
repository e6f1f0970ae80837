"""ELMo's layers of each text, computed once and kept in an Arrow file, to train without the language model."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import datasets
import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from hf_lineage.data.blocks import IGNORED
from hf_lineage.data.tagging import tags_of_tokens


# raise it when the layers of a text change, so that no stale file is used
_VERSION = 1
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
    # hash the rows themselves: the data set's own fingerprint may differ from run to run
    for rows in dataset.with_format(None).iter(1_000):
        digest.update(repr(rows).encode("utf-8", "surrogatepass"))
    digest.update(str(tokenizer.max_characters_per_token).encode())
    digest.update(model.config.to_json_string().encode())
    for name, tensor in model.state_dict().items():
        # the task learns the mixes from the layers
        if not name.startswith("mixes."):
            digest.update(name.encode() + tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
