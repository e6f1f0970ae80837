"""Sentences end to end, read forwards and backwards at once: the training data of a bidirectional language model."""

from array import array
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from tqdm.auto import tqdm
from transformers import default_data_collator

from hf_lineage.data import randomness
from hf_lineage.data.streams import ParallelStreams
from hf_lineage.data.text_files import CorpusError
from hf_lineage.text_parts import Part, encodable_parts


# rows, or parts of long rows, per call of the tokenizer
_BATCH = 100


@dataclass(frozen=True, eq=False)
class BiLMStream:
    """A corpus of sentences, each `<S> w1 … wn </S>`, in which each distinct word has a number.

    Both directions predict n + 1 words per sentence, so that the k-th prediction of both belongs to one sentence:
    forwards `<S>` w1 … wn predict w1 … wn `</S>`, backwards `</S>` wn … w1 predict wn … w1 `<S>`. A word outside the
    vocabulary is predicted as the unknown word, but keeps its letters.

    tokens: int32 [N], numbers of the words; sentence_starts: int64 [S], each sentence's first prediction;
    word_ids: int64 [W], vocabulary id of each distinct word; characters: int16 [W, C], its letters;
    num_unknown: words of the text that are not in the vocabulary.
    """

    tokens: np.ndarray
    sentence_starts: np.ndarray
    word_ids: np.ndarray
    characters: np.ndarray
    num_unknown: int

    @property
    def num_predictions(self) -> int:
        """Number of predictions per direction."""
        return len(self.tokens) - len(self.sentence_starts)

    def window(self, start: int, end: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Predictions `start` to `end` (excluded): inputs and labels forwards, then inputs and labels backwards."""
        k = np.arange(start, end)
        sentence = np.searchsorted(self.sentence_starts, k, side="right") - 1
        ends = np.append(self.sentence_starts[1:], self.num_predictions)
        # a sentence of n + 1 predictions has n + 2 tokens
        first, last = self.sentence_starts[sentence] + sentence, ends[sentence] + sentence
        forwards, backwards = k + sentence, last - (k + sentence - first)
        tokens = self.tokens
        return tokens[forwards], tokens[forwards + 1], tokens[backwards], tokens[backwards - 1]


def encode_bilm_corpus(corpus, tokenizer, *, show_progress: bool = True) -> BiLMStream:
    """Encodes the column "text" of `corpus`, one sentence per row, with an `ELMoTokenizer`; skips empty rows.

    Raises:
        CorpusError: there is no sentence, or a row is not text.
    """
    marks = [tokenizer.bos_token, tokenizer.eos_token]
    numbers = {mark: number for number, mark in enumerate(marks)}
    word_ids = [tokenizer.bos_token_id, tokenizer.eos_token_id]
    tokens, lengths = [], []

    def encode(texts):
        return tokenizer.backend_tokenizer.encode_batch(texts, add_special_tokens=False)

    rows = tqdm(corpus, desc="Encoding", unit=" sentences", disable=not show_progress)
    parts = encodable_parts(_texts(rows), lambda texts: [encoding.ids for encoding in encode(texts)])
    # four bytes per word: a text may be one long sentence
    sentence = array("i", [0])
    while batch := list(islice(parts, _BATCH)):
        for text, encoding in zip(batch, encode(batch), strict=True):
            for index, (start, end) in zip(encoding.ids, encoding.offsets, strict=True):
                # by spelling, not by id: words with one id (unknown, or normalized) may be spelled differently
                word = text[start:end]
                number = numbers.setdefault(word, len(numbers))
                if number == len(word_ids):
                    word_ids.append(index)
                sentence.append(number)
            if isinstance(text, Part):
                continue
            if len(sentence) > 1:
                lengths.append(len(sentence))
                tokens.append(np.append(np.array(sentence, dtype=np.int32), np.int32(1)))
            sentence = array("i", [0])
    if not tokens:
        raise CorpusError("the corpus has no sentence")
    tokens, word_ids = np.concatenate(tokens), np.array(word_ids)
    return BiLMStream(
        tokens=tokens,
        sentence_starts=np.cumsum([0, *lengths[:-1]], dtype=np.int64),
        word_ids=word_ids,
        characters=np.array([tokenizer.characters_of(word) for word in numbers], dtype=np.int16),
        num_unknown=int(np.count_nonzero(word_ids[tokens] == tokenizer.unk_token_id)),
    )


def _texts(rows):
    for row in rows:
        text = row["text"]
        if not isinstance(text, str):
            raise CorpusError(f"a row of the corpus is {text!r:.60} ({type(text).__name__}), not text")
        yield Part(text) if row.get("continues") else text


class BidirectionalStreams(ParallelStreams, randomness.EpochDataset):
    """`ParallelStreams` of sentences, read forwards and backwards at once, as in the program of Peters et al., 2018.

    Gives input_ids, shift_labels and, with `characters`, char_ids. Each has a backward_ twin, which keeps the order of
    the sentences and reverses each sentence, so that both LSTMs can carry their states. `labels` equal shift_labels;
    Trainer counts them. With `num_negatives`, negative_ids [K] are drawn from the log-uniform distribution over
    `vocab_size` words, as a function of (seed, epoch, step), and are the same for all streams.

    A share `restart_share` of the blocks, chosen by (seed, epoch, block), has `restarts` true: `TruncatedBPTTTrainer`
    starts them from an empty state. A model whose states are always carried sees an empty state only once per stream,
    so it may predict poorly from one.

    An epoch predicts each word once in each direction, except the last `num_dropped`.

    Raises ValueError and CorpusError as `ParallelStreams` does, and ValueError for a bad setting.
    """

    def __init__(
        self,
        stream: BiLMStream,
        num_streams: int,
        block_size: int,
        *,
        characters: bool = True,
        num_negatives: int = 0,
        vocab_size: int | None = None,
        restart_share: float = 0.0,
        seed: int = 0,
    ):
        randomness.EpochDataset.__init__(self, seed, shuffle=False)
        ParallelStreams.__init__(self, stream, num_streams, block_size)
        if num_negatives < 0 or (num_negatives and vocab_size is None):
            raise ValueError(
                f"num_negatives is {num_negatives} and vocab_size {vocab_size}: give the number of words to draw "
                "(0 for none), and the size of the vocabulary to draw from"
            )
        if not 0 <= restart_share <= 1:
            raise ValueError(f"restart_share is {restart_share}; it must lie in [0, 1]")
        self.stream = stream
        self.characters = characters
        self.num_negatives = num_negatives
        self.vocab_size = vocab_size or 0
        self.restart_share = restart_share

    def __getitem__(self, position: int) -> dict:
        if not 0 <= position < len(self):
            raise IndexError(f"position {position} is outside a dataset of {len(self)} examples")
        step, stream = divmod(int(position), self.num_streams)
        start = stream * self.stream_length + step * self.block_size
        example: dict = bilm_inputs(self.stream, start, start + self.block_size, self.characters)
        example |= {"labels": example["shift_labels"].clone(), "stream": stream, "stream_step": step}
        if self.restart_share:
            draws = randomness.generator(self.seed, self.epoch, int(position), "restart")
            example["restarts"] = torch.tensor(draws.random() < self.restart_share)
        if self.num_negatives:
            draws = randomness.generator(self.seed, self.epoch, step, type(self).__name__)
            negatives = randomness.log_uniform(draws, self.num_negatives, self.vocab_size)
            example["negative_ids"] = torch.from_numpy(negatives)
        return example

    @staticmethod
    def collate(examples: list[dict]) -> dict[str, torch.Tensor]:
        """A batch: stacks everything except the negatives, which all examples share."""
        batch = default_data_collator([{k: v for k, v in e.items() if k != "negative_ids"} for e in examples])
        if "negative_ids" in examples[0]:
            batch["negative_ids"] = examples[0]["negative_ids"]
        return batch


def bilm_inputs(stream: BiLMStream, start: int, end: int, characters: bool) -> dict[str, torch.Tensor]:
    """Predictions `start` to `end` as inputs of `ELMoForPreTraining`: int64 [T], characters [T, C]."""
    windows = stream.window(start, end)
    names = ("input_ids", "shift_labels", "backward_input_ids", "backward_shift_labels")
    inputs = {name: torch.from_numpy(stream.word_ids[window]) for name, window in zip(names, windows, strict=True)}
    if characters:
        for name, window in (("char_ids", windows[0]), ("backward_char_ids", windows[2])):
            inputs[name] = torch.from_numpy(stream.characters[window].astype(np.int64))
    return inputs
