"""ELMo's layers of a text, computed once and kept in an Arrow file, for training without the language model."""

import hashlib
import json
from pathlib import Path

import datasets
import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from hf_lineage.data.blocks import IGNORED


# raise it when the same text gives other layers, so that no stale file is served
_VERSION = 1
# characters or words: up to here, padding costs little
_SHORT = 1_000


class KeptLayers(torch.utils.data.Dataset):
    """A data set whose texts have been run through a frozen ELMo once; the heads of ELMo train on it as it is.

    Each row of `dataset` is tokenized by `tokenizer`, from `text_column`, a text or a list of words. Its layers
    [T, N + 1, 2·P] are computed by `model` (an `ELMoModel`), each row from empty states, and written into `folder`, to
    a file whose name depends on the texts, the weights and the tokenizer: a second run with the same ones reads it.
    All columns but `text_column` go with their rows; lists among them hold a number a token, marks included.

    Gives input_ids [T], attention_mask [T], elmo_layers [T, N + 1, 2·P] and those columns; `collate` makes a batch.
    """

    def __init__(
        self,
        dataset: datasets.Dataset,
        model,
        tokenizer,
        folder: str | Path,
        *,
        text_column: str = "text",
        batch_size: int = 32,
    ):
        self.shape = (-1, model.config.num_hidden_layers + 1, model.config.output_size)
        self.pad_token_id = tokenizer.pad_token_id
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        fingerprint = _fingerprint(dataset, model, tokenizer, text_column)

        @torch.no_grad()
        def layers_of(batch):
            texts = list(batch[text_column])
            columns = {"input_ids": [None] * len(texts), "elmo_layers": [None] * len(texts)}
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
            return columns

        features = {name: kind for name, kind in dataset.features.items() if name != text_column}
        features |= {
            "input_ids": datasets.List(datasets.Value("int64")),
            "elmo_layers": datasets.List(datasets.Value("float32")),
        }
        kept = dataset.map(
            layers_of,
            batched=True,
            batch_size=batch_size,
            # rows are large: no more of them are held than are computed together
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
        """A DataLoader's batch, read from the file at once: row by row costs as much as a small task's network."""
        columns = self.rows[positions]
        return [self._example(dict(zip(columns, row, strict=True))) for row in zip(*columns.values(), strict=True)]

    def _example(self, row: dict) -> dict[str, torch.Tensor]:
        example = {name: torch.from_numpy(np.array(value)) for name, value in row.items()}
        # datasets reads a column of numbers as float32, and one of its numbers as float64
        example = {name: value.float() if value.dtype == torch.float64 else value for name, value in example.items()}
        example["elmo_layers"] = example["elmo_layers"].view(self.shape)
        example["attention_mask"] = torch.ones_like(example["input_ids"])
        return example

    def collate(self, examples: list[dict]) -> dict[str, torch.Tensor]:
        """Examples padded on the right to one batch; numbers a token, such as labels, with −100."""
        filling = {"input_ids": self.pad_token_id, "attention_mask": 0, "elmo_layers": 0.0}
        batch = {}
        for name, first in examples[0].items():
            values = [example[name] for example in examples]
            is_sequence = first.dim() > 0
            batch[name] = (
                pad_sequence(values, batch_first=True, padding_value=filling.get(name, IGNORED))
                if is_sequence
                else torch.stack(values)
            )
        return batch


def _of_like_length(texts):
    """Numbers of texts of which the longest is at most twice the shortest, or short itself: little padding."""
    order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
    group = []
    for row in order:
        if group and len(texts[row]) > max(_SHORT, 2 * len(texts[group[0]])):
            yield group
            group = []
        group.append(row)
    if group:
        yield group


def _fingerprint(dataset, model, tokenizer, text_column) -> str:
    """Of everything that the layers depend on."""
    digest = hashlib.blake2b(digest_size=16)
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    # settings of the call before
    backend |= {"padding": None, "truncation": None}
    for text in (str(_VERSION), text_column, json.dumps(backend)):
        digest.update(text.encode())
    # the rows themselves: how they came about, of which the data set keeps a record, may differ from run to run
    for rows in dataset.with_format(None).iter(1_000):
        digest.update(repr(rows).encode("utf-8", "surrogatepass"))
    digest.update(str(tokenizer.max_characters_per_token).encode())
    digest.update(model.config.to_json_string().encode())
    for name, tensor in model.state_dict().items():
        # the mixes are learned by the task, from the layers
        if not name.startswith("mixes."):
            digest.update(name.encode() + tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
