"""Configuration of NNLM; the defaults are the paper's network MLP1 (5,762,483 parameters)."""

from typing import Literal

from huggingface_hub.dataclasses import strict

from .configuration_lineage import LineageConfig


@strict
class NNLMConfig(LineageConfig):
    """NNLM, neural probabilistic language model (Bengio et al., 2003).

    New: words have vectors, learned with the predictor; what it learns about a word also helps with similar words.

    Args:
        vocab_size: number of words, |V|.
        embedding_size: length of a word vector, m.
        hidden_size: units of the hidden layer, h; 0 means none and needs direct_connections.
        context_size: words that predict the next one, n − 1.
        direct_connections: whether the word vectors also reach the output directly.
        objective: loss of training (predictions are always exact); "adaptive_softmax" is that of Grave et al., 2017.
        cutoffs: where adaptive_softmax cuts the vocabulary, ordered by frequency: rising, from 1 to below vocab_size.
        num_negatives: words that sampled_softmax and nce draw per target (`BlocksWithNegatives`), 1 to 1,000,000.
        dropout: on the word vectors and the hidden layer, in [0, 1); not in the paper.
        initializer_range: word vectors and weights start uniform in ± this number.
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
        """Length of the output layer's input: the hidden layer and, with direct connections, the word vectors."""
        return self.hidden_size + (self.context_size * self.embedding_size if self.direct_connections else 0)

    @property
    def layer_types(self) -> list[str]:
        """What `DynamicCache(config=...)` builds: one state, which holds the last words' vectors."""
        return ["lineage_recurrent"]

    def validate_layer_type(self):
        """The inherited check knows only transformers' own layer types; ours is a property and always right."""

    def validate_network(self):
        """The words must reach the output, and the two matrices differ in size."""
        if self.hidden_size == 0 and not self.direct_connections:
            raise ValueError("hidden_size is 0: set direct_connections=True, or nothing reaches the output")
        if self.tie_word_embeddings:
            raise ValueError(
                "tie_word_embeddings is True, but the output layer reads more than one word's vector: set it to False"
            )

    def validate_objective(self):
        """The adaptive softmax needs cutoffs, and a sample has at least one word."""
        if self.objective == "adaptive_softmax":
            cutoffs = self.cutoffs or []
            if not cutoffs or cutoffs != sorted(set(cutoffs)) or cutoffs[0] < 1 or cutoffs[-1] >= self.vocab_size:
                raise ValueError(
                    f"cutoffs is {self.cutoffs}; adaptive_softmax needs word numbers that rise from 1 to below "
                    f"vocab_size {self.vocab_size}, such as [2000, 10000]"
                )
            if self.output_size < 4 ** len(cutoffs):
                raise ValueError(
                    f"cutoffs is {self.cutoffs}: the last cluster would read {self.output_size} / "
                    f"4^{len(cutoffs)} < 1 numbers; use fewer cutoffs, or a larger hidden_size"
                )
        if not 1 <= self.num_negatives <= 1_000_000:
            raise ValueError(f"num_negatives is {self.num_negatives}; it must lie between 1 and 1000000")
