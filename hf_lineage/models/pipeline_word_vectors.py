"""Pipelines over word vectors, the input embeddings of any model whose tokens are words: analogies and neighbours.

words [B, W] -> unit vectors [B, W, D] -> cosines with all tokens [B, W, V] -> the best words
"""

from collections.abc import Mapping

import torch
from torch.nn.functional import normalize
from transformers import AutoModel, Pipeline

from .analogy_scores import analogy_scores
from .pipeline_inputs import TakesEmptyLists, register, text_of, texts_of


def words_of(inputs, names: str) -> list[str]:
    """The words of a text, or those that a dictionary calls by the letters of `names`.

    Raises:
        ValueError: as `text_of`.
    """
    return texts_of(inputs, *names) if isinstance(inputs, Mapping) else text_of("the input", inputs).split()


class WordVectorPipeline(TakesEmptyLists, Pipeline):
    """What both pipelines share: look up words, compare rows of the embedding matrix, return the best words."""

    _load_tokenizer = True
    _load_processor = _load_image_processor = _load_feature_extractor = _load_video_processor = False

    def _word_ids(self, words: list[str]) -> torch.Tensor:
        """Words -> token ids [1, W], cut and lower-cased by the tokenizer.

        Raises:
            ValueError: a word is not exactly one known token.
        """
        ids = []
        for word in words:
            tokens = self.tokenizer.tokenize(word)
            token_ids = self.tokenizer.convert_tokens_to_ids(tokens)
            if len(tokens) != 1 or token_ids[0] in self.tokenizer.all_special_ids:
                raise ValueError(f"{word!r} is not a word of the model's vocabulary; its tokens are {tokens}")
            ids += token_ids
        return torch.tensor([ids])

    def _sanitize_parameters(self, **parameters):
        return {}, parameters, {}

    def _unit_vectors(self, ids: torch.Tensor) -> torch.Tensor:
        return normalize(self.model.get_input_embeddings().weight[ids].float(), dim=-1)

    def _cosines(self, vectors: torch.Tensor) -> torch.Tensor:
        """Unit vectors [..., D] -> cosines with all tokens [..., V]; 0 for a zero vector."""
        weight = self.model.get_input_embeddings().weight.float()
        return vectors @ weight.T / torch.linalg.vector_norm(weight, dim=1).clamp(min=1e-12)

    def _best(self, scores: torch.Tensor, ids: torch.Tensor, top_k: int, restrict_vocab: int | None) -> dict:
        """scores [B, V] -> the best words that are neither special tokens nor among ids [B, W]."""
        for name, value in {"top_k": top_k, "restrict_vocab": restrict_vocab}.items():
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")
        is_word = torch.zeros(scores.shape[1], dtype=torch.bool, device=scores.device)
        is_word[: len(self.tokenizer)] = True  # further rows are padding
        is_word[self.tokenizer.all_special_ids] = False
        candidates = is_word.nonzero()[:restrict_vocab, 0]
        scores = scores.scatter(1, ids, -torch.inf)[:, candidates]
        best = scores.topk(min(top_k, len(candidates)))
        return {"scores": best.values, "best_ids": candidates[best.indices]}

    def _named(self, scores: torch.Tensor, ids: torch.Tensor) -> list[dict]:
        words = self.tokenizer.convert_ids_to_tokens(ids.tolist())
        pairs = zip(words, scores.tolist(), strict=True)
        return [{"word": word, "score": score} for word, score in pairs if score > -torch.inf]


class WordAnalogyPipeline(WordVectorPipeline):
    """Finds the `top_k` (default 5) words d such that a is to b as c is to d; input "a b c" or a dict of a, b, c.

    `method` is "3CosAdd", cos(d, b − a + c) of unit vectors (Mikolov et al., 2013c), or "3CosMul", a product and
    quotient of cosines (Levy and Goldberg, 2014, eq. 4). `restrict_vocab` searches only the first (frequent) words.

    Raises:
        ValueError: a word is not in the vocabulary, there are not three words, or a parameter is out of its range.
    """

    def preprocess(self, inputs):
        words = words_of(inputs, "abc")
        if len(words) != 3:
            raise ValueError(f"an analogy needs three words, got {inputs!r:.60}")
        return {"word_ids": self._word_ids(words)}

    def _forward(self, inputs, top_k=5, method="3CosAdd", restrict_vocab=None):
        ids = inputs["word_ids"]  # [B, 3]
        vectors = self._unit_vectors(ids)  # [B, 3, D]
        scores = analogy_scores(*self._cosines(vectors).unbind(1), method)  # [B, V]
        if method == "3CosAdd":
            # makes the sum of cosines the cosine with b − a + c
            offset = vectors[:, 1] - vectors[:, 0] + vectors[:, 2]
            scores = scores / torch.linalg.vector_norm(offset, dim=-1, keepdim=True).clamp(min=1e-12)
        return self._best(scores, ids, top_k, restrict_vocab)

    def postprocess(self, outputs):
        return self._named(outputs["scores"][0], outputs["best_ids"][0])


class WordSimilarityPipeline(WordVectorPipeline):
    """Finds the `top_k` (default 10) nearest words to a word by cosine, or {"score": cosine} of a pair "a b".

    A pair may also be a dict of a and b. `restrict_vocab` searches only the first, most frequent words.

    Raises:
        ValueError: a word is not in the vocabulary, there are not one or two words, or a parameter is out of range.
    """

    def preprocess(self, inputs):
        words = words_of(inputs, "ab")
        if len(words) not in (1, 2):
            raise ValueError(f"one word or a pair of words is needed, got {inputs!r:.60}")
        # a single word is paired with itself, so that both kinds fit into one batch
        return {"word_ids": self._word_ids((words * 2)[:2]), "is_pair": torch.tensor([len(words) == 2])}

    def _forward(self, inputs, top_k=10, restrict_vocab=None):
        ids = inputs["word_ids"]  # [B, 2]
        cosines = self._cosines(self._unit_vectors(ids[:, 0]))  # [B, V]
        best = self._best(cosines, ids[:, :1], top_k, restrict_vocab)
        return best | {"cosine": cosines.gather(1, ids[:, 1:])[:, 0], "is_pair": inputs["is_pair"]}

    def postprocess(self, outputs):
        if outputs["is_pair"].item():
            return {"score": outputs["cosine"].item()}
        return self._named(outputs["scores"][0], outputs["best_ids"][0])


register("word-analogy", WordAnalogyPipeline, AutoModel)
register("word-similarity", WordSimilarityPipeline, AutoModel)
