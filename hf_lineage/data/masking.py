"""BERT's masked words: which tokens of a text are hidden, and what replaces them."""

from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedTokenizerBase

from hf_lineage.data.packing import IGNORED
from hf_lineage.data.word_starts import WordStarts, word_starts


@dataclass(frozen=True, eq=False)
class Masking:
    """Hides tokens as the authors' create_pretraining_data does (Devlin et al., 2019, section 3.1 and appendix A.1).

    In a text of n tokens, special tokens counted, it chooses round(n · `probability`) tokens: at least one, at most
    `max_predictions` (None: no limit), and never `special_ids`. A chosen token becomes the mask with probability
    `mask_share` and a random token of the vocabulary (possibly itself or a special one) with `random_share`; otherwise
    it stays. With `word_starts`, which finds the tokens that begin a word, it chooses whole words and skips a word
    that would exceed the number of tokens. No word reaches across a special token.

    `Masking.of(tokenizer)` takes the ids from a tokenizer.

    Raises:
        ValueError: a share or the probability lies outside [0, 1], or max_predictions is below 1.
    """

    mask_token_id: int
    vocab_size: int
    special_ids: tuple[int, ...]
    probability: float = 0.15
    mask_share: float = 0.8
    random_share: float = 0.1
    max_predictions: int | None = 20
    word_starts: WordStarts | None = None

    def __post_init__(self):
        for name in ("probability", "mask_share", "random_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must lie in [0, 1]")
        if self.mask_share + self.random_share > 1:
            raise ValueError(
                f"mask_share {self.mask_share} and random_share {self.random_share} are together more than 1"
            )
        if self.max_predictions is not None and self.max_predictions < 1:
            raise ValueError(f"max_predictions is {self.max_predictions}; it must be at least 1, or None")

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, whole_words: bool = False, **settings) -> "Masking":
        """Masking with a tokenizer's ids; [CLS], [SEP] and padding are never chosen.

        Raises:
            ValueError: the tokenizer has no mask, cls or sep token, or `whole_words` is set and its pieces do not show
                where words begin.
        """
        missing = [role for role in ("mask_token", "cls_token", "sep_token") if getattr(tokenizer, role) is None]
        if missing:
            raise ValueError(f"masked words need a tokenizer with {', '.join(missing)}: BERT's, from train_wordpiece")
        special = {tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id} - {None}
        if whole_words:
            settings["word_starts"] = word_starts(tokenizer)
        return cls(tokenizer.mask_token_id, len(tokenizer), tuple(sorted(special)), **settings)

    def __call__(self, ids: np.ndarray, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """ids [T] -> inputs [T] and labels [T]: the original token at chosen places, −100 elsewhere."""
        number = max(1, round(len(ids) * self.probability))
        if self.max_predictions is not None:
            number = min(number, self.max_predictions)
        candidates = np.flatnonzero(~np.isin(ids, self.special_ids))
        if self.word_starts is None:
            chosen = generator.permutation(candidates)[:number]
        else:
            chosen = self._whole_words(ids, candidates, number, generator)

        masked, labels = ids.copy(), np.full_like(ids, IGNORED)
        # --8<-- [start:fate]
        labels[chosen] = ids[chosen]
        fate = generator.random(len(chosen))
        masked[chosen[fate < self.mask_share]] = self.mask_token_id
        swapped = chosen[(fate >= self.mask_share) & (fate < self.mask_share + self.random_share)]
        masked[swapped] = generator.integers(self.vocab_size, size=len(swapped))
        # --8<-- [end:fate]
        return masked, labels

    def _whole_words(self, ids, candidates, number, generator):
        spans = np.split(candidates, np.flatnonzero(np.diff(candidates) > 1) + 1)
        words = [
            word for span in spans for word in np.split(span, np.flatnonzero(self.word_starts(ids[span]))) if len(word)
        ]
        chosen, room = [], number
        for word in generator.permutation(len(words)):
            if len(words[word]) <= room:
                chosen.append(words[word])
                room -= len(words[word])
        return np.concatenate(chosen) if chosen else candidates[:0]
