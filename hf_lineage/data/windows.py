"""word2vec's view of a text: subsampled blocks of words, each word with a window of neighbours and noise words.

The text is on disk as word ids (`WordFile`), so that it may be larger than memory.
"""

from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerBase

from hf_lineage.data.randomness import EpochDataset
from hf_lineage.data.text_files import CorpusError
from hf_lineage.files import replacing
from hf_lineage.text_parts import Part, encodable_parts


# stands between sentences in a WordFile
SENTENCE_END = -1


class WordFile:
    """Word ids on disk, int32, with SENTENCE_END after each sentence: `ids` maps the file; `counts` [V].

    `read` copies one stretch into memory, since the file may be larger than memory.
    """

    def __init__(self, path: str | Path, vocab_size: int):
        self.path = Path(path)
        self.ids = np.memmap(self.path, dtype=np.int32, mode="r")
        self.counts = np.zeros(vocab_size, dtype=np.int64)
        for start in range(0, len(self.ids), 2**17):
            # shifted by one, so that SENTENCE_END is 0
            counts = np.bincount(self.read(start, start + 2**17) + 1, minlength=vocab_size + 1)
            if len(counts) > vocab_size + 1:
                raise ValueError(f"{path} holds word {len(counts) - 2}, but the vocabulary has {vocab_size} words")
            self.counts += counts[1:]

    def read(self, start: int, stop: int) -> np.ndarray:
        """ids[start:stop], a copy."""
        # not through the map, which would keep in memory all that was read
        return np.fromfile(self.path, np.int32, max(min(stop, len(self.ids)) - start, 0), offset=4 * start)

    @property
    def num_words(self) -> int:
        """Words of the text that are in the vocabulary."""
        return int(self.counts.sum())

    @classmethod
    def write(
        cls, path: str | Path, texts: Iterable[str], tokenizer: PreTrainedTokenizerBase, *, show_progress: bool = True
    ) -> "WordFile":
        """Encodes `texts`, one sentence each, and leaves out special tokens and unknown words, as word2vec does.

        Long texts are encoded in parts, and may come as `Part`s, so that memory does not grow with their length.

        Raises:
            CorpusError: no word of the texts is in the vocabulary.
        """
        path, num_words = Path(path), 0
        special, end = np.array(tokenizer.all_special_ids, dtype=np.int32), np.int32(SENTENCE_END)

        def encode(batch):
            options = {"add_special_tokens": False, "return_attention_mask": False, "verbose": False}
            return [np.array(ids, dtype=np.int32) for ids in tokenizer(batch, **options).input_ids]

        texts = tqdm(texts, desc="Words to ids", unit=" texts", disable=not show_progress)
        parts = encodable_parts(texts, encode)
        with replacing(path) as temporary:
            with open(temporary, "wb") as file:
                while batch := list(islice(parts, 20)):
                    for part, ids in zip(batch, encode(batch), strict=True):
                        ids = ids[~np.isin(ids, special)]
                        num_words += len(ids)
                        file.write(ids.tobytes() if isinstance(part, Part) else np.append(ids, end).tobytes())
            if num_words == 0:
                raise CorpusError("no word of the corpus is in the tokenizer's vocabulary")
        return cls(path, len(tokenizer))


def keep_probabilities(counts: np.ndarray, threshold: float | None) -> np.ndarray:
    """Probability that an occurrence of each word survives subsampling, float32 [V]; 1 if `threshold` is None or 0.

    (√(f/t) + 1) · t/f for a word of frequency f and the threshold t, as in the authors' code. The paper drops a word
    with probability 1 − √(t/f) (Mikolov et al., 2013b, eq. 5), which keeps fewer words.
    """
    if not threshold:
        return np.ones(len(counts), dtype=np.float32)
    frequency = np.maximum(counts, 1) / counts.sum()
    return np.minimum(1, (np.sqrt(frequency / threshold) + 1) * threshold / frequency).astype(np.float32)


class AliasTable:
    """Draws from a fixed distribution in constant time (Walker, 1977): a random slot i gives i or its alias."""

    def __init__(self, probabilities: np.ndarray):
        size = len(probabilities)
        share, self.alias = probabilities / probabilities.sum() * size, np.arange(size, dtype=np.int32)
        small, large = np.flatnonzero(share < 1).tolist(), np.flatnonzero(share >= 1).tolist()
        while small and large:
            low, high = small.pop(), large[-1]
            self.alias[low] = high
            share[high] -= 1 - share[low]
            if share[high] < 1:
                small.append(large.pop())
        share[small + large] = 1  # what rounding left over
        self.share = share.astype(np.float32)

    def draw(self, generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """int32 of `shape`."""
        slots = generator.integers(len(self.share), size=shape, dtype=np.int32)
        return np.where(generator.random(shape, dtype=np.float32) < self.share[slots], slots, self.alias[slots])


class WordWindows(EpochDataset):
    """Blocks of `block_size` words of a `WordFile`, prepared for `Word2VecTrainer`.

    An example holds `ids` int32 [n], the n words that survive subsampling; `low` and `high` [n], where word i has the
    neighbours low[i] ... high[i] − 1 without i; and `negatives` int32 [⌈n / chunk⌉, negatives_per_chunk], drawn in
    proportion to count ** noise_exponent. As in the authors' code, the number of neighbours on each side is drawn from
    1 ... `window` for each word, after subsampling. All draws depend only on (seed, epoch, example).

    `noise_counts` [V] define the noise distribution, by default the counts of `words`. In continued training they are
    the model's `word_counts`, of all text that it has seen.

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(
        self,
        words: WordFile,
        *,
        window: int = 5,
        subsample: float | None = 1e-3,
        noise_exponent: float = 0.75,
        noise_counts: np.ndarray | None = None,
        chunk: int = 1,
        negatives_per_chunk: int = 5,
        block_size: int = 50_000,
        seed: int = 0,
        shuffle: bool = True,
    ):
        super().__init__(seed, shuffle)
        at_least_one = {"window": window, "chunk": chunk, "block_size": block_size}
        for name, value in at_least_one.items():
            if value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")
        if subsample is not None and not 0 <= subsample < 1:
            raise ValueError(
                f"subsample is {subsample}; it is a frequency in [0, 1), 0 for none (usual: 1e-3 to 1e-5)"
            )
        self.words, self.window, self.chunk, self.block_size = words, window, chunk, block_size
        self.negatives_per_chunk = negatives_per_chunk
        self.subsample = subsample
        self.keep = keep_probabilities(words.counts, subsample)
        noise_counts = words.counts if noise_counts is None else np.asarray(noise_counts)
        if noise_counts.shape != words.counts.shape:
            raise ValueError(f"noise_counts has {len(noise_counts)} words, but the text's vocabulary {len(self.keep)}")
        noise = noise_counts.astype(np.float64) ** noise_exponent * (noise_counts > 0)
        self.noise = AliasTable(noise) if negatives_per_chunk else None

    def __len__(self) -> int:
        return -(-len(self.words.ids) // self.block_size)

    def example(self, index: int, generator: np.random.Generator) -> dict:
        block = self.words.read(index * self.block_size, (index + 1) * self.block_size)
        is_word = block != SENTENCE_END
        sentence = np.cumsum(~is_word, dtype=np.int32)[is_word]
        ids = block[is_word]
        survives = generator.random(len(ids), dtype=np.float32) < self.keep[ids]
        ids, sentence = ids[survives], sentence[survives]

        ends = np.cumsum(np.bincount(sentence, minlength=1), dtype=np.int32)
        begins = np.append(np.int32(0), ends[:-1])
        position = np.arange(len(ids), dtype=np.int32)
        reach = generator.integers(1, self.window + 1, size=len(ids), dtype=np.int32)
        example = {
            "ids": ids,
            "low": np.maximum(position - reach, begins[sentence]),
            "high": np.minimum(position + reach + 1, ends[sentence]),
        }
        shape = (-(-len(ids) // self.chunk), self.negatives_per_chunk)
        example["negatives"] = self.noise.draw(generator, shape) if self.noise else np.empty(shape, np.int32)
        return example
