"""Word vectors without their model: neighbours, analogies and odd ones out, by cosine similarity.

Memory holds only the vectors and their lengths, no normalised copy.
"""

from collections.abc import Sequence
from difflib import get_close_matches
from functools import cached_property
from itertools import islice

import numpy as np

from hf_lineage.models.analogy_scores import analogy_scores
from hf_lineage.word_vectors.formats import read_vectors, write_vectors
from hf_lineage.word_vectors.spellings import Spellings


class WordVectors:
    """Words, most frequent first, and their vectors, float32 [V, D]. The array is shared with the caller, not copied.

    Raises:
        ValueError: the numbers of words and vectors differ, a word is empty or occurs twice, a number is not finite.
    """

    def __init__(self, words: Sequence[str], vectors: np.ndarray):
        self.words = list(words)
        with np.errstate(over="ignore"):  # numbers beyond float32 become inf, and are named below
            self.vectors = np.asarray(vectors, dtype=np.float32)
        if self.vectors.ndim != 2 or 0 in self.vectors.shape or len(self.words) != len(self.vectors):
            raise ValueError(
                f"{len(self.words)} words and vectors of shape {list(self.vectors.shape)}; give V words and vectors "
                "[V, D], with V and D at least 1"
            )
        self.index = {word: i for i, word in enumerate(self.words)}
        if len(self.index) < len(self.words) or not all(self.index):
            flawed = next(i for i, word in enumerate(self.words) if not word or self.index[word] != i)
            raise ValueError(f"word {flawed} (counted from 0), {self.words[flawed]!r}, is empty or occurs twice")
        # the extremes are nan if any number is, and need no memory
        if not np.isfinite([self.vectors.min(), self.vectors.max()]).all():
            flawed = next(i for i, vector in enumerate(self.vectors) if not np.isfinite(vector).all())
            raise ValueError(
                f"the vector of word {flawed} (counted from 0), {self.words[flawed]!r}, holds nan, inf or a number "
                "beyond float32"
            )

    @classmethod
    def from_model(cls, model, tokenizer) -> "WordVectors":
        """A copy of the input embeddings of a `PreTrainedModel`, for all tokens except special ones, by token id.

        Raises:
            ValueError: the token ids of the tokenizer are not exactly the rows of the embeddings.
        """
        weight = model.get_input_embeddings().weight.detach().float().cpu().numpy()
        vocabulary = tokenizer.get_vocab()
        if sorted(vocabulary.values()) != list(range(len(weight))):
            raise ValueError(
                f"the tokenizer has {len(vocabulary)} tokens, with ids up to {max(vocabulary.values())}, the model "
                f"{len(weight)} embeddings: take the tokenizer that the model was trained with"
            )
        ids = sorted(set(vocabulary.values()) - set(tokenizer.all_special_ids))
        return cls(tokenizer.convert_ids_to_tokens(ids), weight[ids])

    @classmethod
    def load(cls, path, **options) -> "WordVectors":
        """Reads a file of vectors; for options and errors see `read_vectors`."""
        words, vectors = read_vectors(path, **options)
        try:
            return cls(words, vectors)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    def save(self, path, format: str | None = None):
        """Writes a file of vectors; for formats and errors see `write_vectors`."""
        write_vectors(path, self.words, self.vectors, format)

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: str) -> bool:
        return word in self.index

    @cached_property
    def norms(self) -> np.ndarray:
        """Length of each vector, float32 [V]; 1 for a zero vector, so that its cosines are 0."""
        return _lengths(self.vectors)

    def unit(self, ids) -> np.ndarray:
        """The vectors of words given by number, ids [...], scaled to length 1 [..., D]."""
        vectors = self.vectors[ids]
        return vectors / _lengths(vectors)[..., None]

    def ids(self, *words: str) -> list[int]:
        """The numbers of words.

        Raises:
            ValueError: a word is not in the vocabulary; the error proposes similar words.
        """
        for word in words:
            if word not in self.index:
                raise ValueError(f"{word!r} is not among the {len(self)} words{self._proposal(word)}")
        return [self.index[word] for word in words]

    def _proposal(self, word):
        # compare only words with a similar length and the same first letter: a million would take minutes
        first, shortest, longest = word[:1].lower(), len(word) - 2, len(word) + 2
        alike = (w for w in self.words if w[0].lower() == first and shortest <= len(w) <= longest)
        close = get_close_matches(word, islice(alike, 2_000), cutoff=0.7)
        return f"; similar ones are {', '.join(close)}" if close else ""

    def spellings(self, restrict_vocab: int | None, case_insensitive: bool) -> Spellings:
        """The first `restrict_vocab` words, for lookup by `Spellings`.

        Raises:
            ValueError: restrict_vocab is below 1.
        """
        return Spellings(self.words[: self._limit(restrict_vocab)], case_insensitive)

    def vector(self, word: str) -> np.ndarray:
        """The vector of a word [D]."""
        return self.vectors[self.ids(word)[0]]

    def similarity(self, a: str, b: str) -> float:
        """Cosine of the vectors of two words."""
        first, second = self.unit(self.ids(a, b))
        return float(first @ second)

    def nearest(
        self, word_or_vector: str | np.ndarray, n: int = 10, restrict_vocab: int | None = None
    ) -> list[tuple[str, float]]:
        """The n words, among the first `restrict_vocab`, with the largest cosine with a vector or another word."""
        if isinstance(word_or_vector, str):
            ids = self.ids(word_or_vector)
            return self._best(self._cosines(self.unit(ids), restrict_vocab)[0], n, ids)
        vector = np.asarray(word_or_vector, dtype=np.float32)
        if vector.shape != self.vectors.shape[1:] or not np.isfinite(vector).all():
            raise ValueError(f"a vector of {self.vectors.shape[1]} finite numbers is needed, got shape {vector.shape}")
        query = vector / (np.linalg.norm(vector) or 1)
        return self._best(self._cosines(query[None], restrict_vocab)[0], n, [])

    def analogy(
        self, a: str, b: str, c: str, n: int = 10, method: str = "3CosAdd", restrict_vocab: int | None = None
    ) -> list[tuple[str, float]]:
        """The n best answers, except a, b and c, to "a is to b as c is to what", with their scores.

        3CosAdd: cosine with b − a + c of unit vectors (Mikolov et al., 2013c); 3CosMul: see `analogy_scores`.
        """
        ids = self.ids(a, b, c)
        units = self.unit(ids)
        of_a, of_b, of_c = self._cosines(units, restrict_vocab)
        scores = analogy_scores(of_a, of_b, of_c, method)
        if method == "3CosAdd":
            scores = scores / (np.linalg.norm(units[1] - units[0] + units[2]) or 1)
        return self._best(scores, n, ids)

    def doesnt_match(self, words: Sequence[str]) -> str:
        """The word whose vector is farthest, by cosine, from the mean of all unit vectors.

        Raises:
            ValueError: fewer than three words, or one that is not in the vocabulary.
        """
        if len(words) < 3:
            raise ValueError(f"at least 3 words are needed to find the odd one out, got {list(words)}")
        units = self.unit(self.ids(*words))
        return words[int((units @ units.mean(0)).argmin())]

    def _limit(self, restrict_vocab):
        if restrict_vocab is not None and restrict_vocab < 1:
            raise ValueError(f"restrict_vocab is {restrict_vocab}; it must be at least 1, or None for all words")
        return restrict_vocab

    def _cosines(self, queries, restrict_vocab):
        """Unit vectors [Q, D] -> their cosines with the first `restrict_vocab` words [Q, R]."""
        limit = self._limit(restrict_vocab)
        return queries @ self.vectors[:limit].T / self.norms[:limit]

    def _best(self, scores, n, excluded):
        if n < 1:
            raise ValueError(f"n is {n}; it must be at least 1")
        few = min(n + len(excluded), len(scores))
        best = np.argpartition(-scores, few - 1)[:few]
        best = [i for i in best[np.argsort(-scores[best], kind="stable")] if i not in excluded]
        return [(self.words[i], float(scores[i])) for i in best[:n]]


def _lengths(vectors):
    # squares of float32 would overflow from 2e19 on
    lengths = np.sqrt(np.einsum("...d,...d->...", vectors, vectors, dtype=np.float64))
    return np.where(lengths == 0, 1, lengths).astype(np.float32)
