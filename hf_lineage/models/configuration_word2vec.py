"""Configuration of word2vec."""

from typing import Literal

from huggingface_hub.dataclasses import strict

from .configuration_lineage import LineageConfig


@strict
class Word2VecConfig(LineageConfig):
    """word2vec: CBOW and skip-gram (Mikolov et al., 2013a, b).

    New: no hidden layer and no full softmax, only vectors of words that occur together, so that billions can be read.

    `architecture` says what predicts what: "skip_gram" a word from each neighbour, "cbow" a word from the mean of its
    neighbours (their sum without `cbow_mean`). `objective` replaces or is the softmax; `num_negatives` words a pair
    are drawn with probability proportional to count ** `noise_exponent`. `window` is the largest distance of a
    neighbour. `cbow_grad` "word2vec" gives each neighbour the gradient of their mean undivided, as the authors' code
    does; "corrected" divides it by their number. Vectors start uniform in ± `initializer_range` / hidden_size: 0.5 as
    in the authors' code; gensim's 1 suits small texts a little better.
    """

    model_type = "lineage_word2vec"
    auto_classes = {
        "AutoModel": "modeling_word2vec.Word2VecModel",
        "AutoModelForPreTraining": "modeling_word2vec.Word2VecForPreTraining",
        "AutoModelForSequenceClassification": "modeling_word2vec.Word2VecForSequenceClassification",
    }

    vocab_size: int = 30_000
    hidden_size: int = 100
    architecture: Literal["skip_gram", "cbow"] = "skip_gram"
    objective: Literal["negative_sampling", "hierarchical_softmax", "softmax"] = "negative_sampling"
    window: int = 5
    num_negatives: int = 5
    noise_exponent: float | int = 0.75
    tree_sizes: list[int] | None = None
    cbow_mean: bool = True
    cbow_grad: Literal["word2vec", "corrected"] = "word2vec"
    initializer_range: float | int = 0.5
    classifier_dropout: float | int = 0.0
    freeze_embeddings: bool = False
    tie_word_embeddings: bool = False

    def validate_objective(self):
        """A window and a negative sample have at least one word; one matrix cannot be both input and output."""
        for name in ("window", "num_negatives"):
            if not 1 <= getattr(self, name) <= 1_000:
                raise ValueError(f"{name} is {getattr(self, name)}; it must lie between 1 and 1000")
        if self.tie_word_embeddings:
            raise ValueError("tie_word_embeddings is True, but word2vec has two matrices: set it to False")
