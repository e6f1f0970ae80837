"""Configuration of word2vec."""

from typing import Literal

from huggingface_hub.dataclasses import strict

from .configuration_lineage import LineageConfig


@strict
class Word2VecConfig(LineageConfig):
    """word2vec: CBOW and skip-gram (Mikolov et al., 2013a, b).

    New: no hidden layer and no full softmax, only word vectors, so that training can read billions of words.

    Args:
        vocab_size: number of words.
        hidden_size: length of a word vector, D.
        architecture: "skip_gram" predicts a word from each neighbour, "cbow" from the mean of all neighbours.
        objective: loss of training; the first two avoid the cost of the full softmax.
        window: largest distance between a word and its neighbours, 1 to 1,000.
        num_negatives: noise words per pair of words (negative sampling), 1 to 1,000.
        noise_exponent: a noise word is drawn in proportion to its count to this power.
        tree_sizes: earlier vocabulary sizes, for the Huffman tree; set when the vocabulary grows.
        cbow_mean: whether cbow takes the mean of the neighbours; False takes their sum.
        cbow_grad: gradient of the mean for each neighbour: "word2vec", undivided as in the authors' code; "corrected",
            divided by the number of neighbours.
        initializer_range: vectors start uniform in ± this / hidden_size: 0.5 in the authors' code, 1 in gensim.
        classifier_dropout: before the classifier's output layer, in [0, 1).
        use_crf: whether the tagger scores whole tag sequences by a conditional random field.
        freeze_embeddings: whether a classifier leaves the word vectors as they are.
    """

    model_type = "lineage_word2vec"
    auto_classes = {
        "AutoModel": "modeling_word2vec.Word2VecModel",
        "AutoModelForPreTraining": "modeling_word2vec.Word2VecForPreTraining",
        "AutoModelForSequenceClassification": "modeling_word2vec.Word2VecForSequenceClassification",
        "AutoModelForTokenClassification": "modeling_word2vec.Word2VecForTokenClassification",
        "AutoModelForMultipleChoice": "modeling_word2vec.Word2VecForMultipleChoice",
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
    use_crf: bool = False
    freeze_embeddings: bool = False
    tie_word_embeddings: bool = False

    def validate_objective(self):
        """A window and a sample have at least one word; input and output cannot share a matrix."""
        for name in ("window", "num_negatives"):
            if not 1 <= getattr(self, name) <= 1_000:
                raise ValueError(f"{name} is {getattr(self, name)}; it must lie between 1 and 1000")
        if self.tie_word_embeddings:
            raise ValueError("tie_word_embeddings is True, but word2vec has two matrices: set it to False")
