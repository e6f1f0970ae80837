"""Configuration of NNLM; the defaults are the paper's network MLP1 (5,762,483 parameters)."""

from typing import Literal

from huggingface_hub.dataclasses import strict

from .configuration_lineage import LineageConfig


@strict
class NNLMConfig(LineageConfig):
    """NNLM, neural probabilistic language model (Bengio et al., 2003).

    New: words have vectors, learned with the predictor, so that what is known of a word serves those like it.

    The paper's letters: |V| is `vocab_size`, m `embedding_size`, h `hidden_size`, n `context_size` + 1. With
    `direct_connections` the word vectors also reach the output without the hidden layer, the only way if
    `hidden_size` is 0. `dropout`, on the vectors and on the hidden layer, is not the paper's.

    `objective` is what training minimises; what the model answers is always exact. "adaptive_softmax" (Grave et al.,
    2017) cuts the vocabulary, ordered by frequency, at `cutoffs`; "sampled_softmax" and "nce" compare each word with
    `num_negatives` others, which the data set draws (`BlocksWithNegatives`).
    """

    model_type = "lineage_nnlm"
    auto_classes = {"AutoModel": "modeling_nnlm.NNLMModel", "AutoModelForCausalLM": "modeling_nnlm.NNLMForCausalLM"}
    sizes_from_zero = ("hidden_size",)

    vocab_size: int = 16_383
    embedding_size: int = 60
    hidden_size: int = 50
    num_hidden_layers: Literal[1] = 1
    context_size: int = 4
    direct_connections: bool = True
    objective: Literal["softmax", "adaptive_softmax", "sampled_softmax", "nce"] = "softmax"
    cutoffs: list[int] | None = None
    num_negatives: int = 512
    dropout: float | int = 0.0
    initializer_range: float = 0.1
    tie_word_embeddings: bool = False
    use_cache: bool = True

    @property
    def output_size(self) -> int:
        """Length of the vector the output layer reads: the hidden layer and, if they reach it, the words'."""
        return self.hidden_size + (self.context_size * self.embedding_size if self.direct_connections else 0)

    @property
    def layer_types(self) -> list[str]:
        """What `DynamicCache(config=...)` builds: one state, the last words' vectors."""
        return ["lineage_recurrent"]

    def validate_layer_type(self):
        """The inherited check knows only transformers' own layer types; ours is a property and always right."""

    def validate_network(self):
        """There must be a way from the words to the output, and the two matrices differ in size."""
        if self.hidden_size == 0 and not self.direct_connections:
            raise ValueError("hidden_size is 0: set direct_connections=True, or nothing reaches the output")
        if self.tie_word_embeddings:
            raise ValueError(
                "tie_word_embeddings is True, but the output layer reads more than one word's vector: set it to False"
            )

    def validate_objective(self):
        """The adaptive softmax needs to know where to cut, and a sample has at least one word."""
        if self.objective == "adaptive_softmax":
            cutoffs = self.cutoffs or []
            if not cutoffs or cutoffs != sorted(set(cutoffs)) or cutoffs[0] < 1 or cutoffs[-1] >= self.vocab_size:
                raise ValueError(
                    f"cutoffs is {self.cutoffs}; adaptive_softmax needs word numbers that rise from 1 to below "
                    f"vocab_size {self.vocab_size}, such as [2000, 10000]"
                )
            if self.output_size < 4 ** len(cutoffs):
                raise ValueError(
                    f"cutoffs is {self.cutoffs}: a cluster each, of which the last would see {self.output_size} / "
                    f"4^{len(cutoffs)} < 1 numbers; use fewer, or a larger hidden_size"
                )
        if not 1 <= self.num_negatives <= 1_000_000:
            raise ValueError(f"num_negatives is {self.num_negatives}; it must lie between 1 and 1000000")
