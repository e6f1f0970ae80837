"""Configurations of the three recurrent language models: RNN, LSTM and GRU."""

from typing import Literal

from huggingface_hub.dataclasses import strict

from .configuration_lineage import LineageConfig


LSTM_ONLY = ("forget_gate_bias", "peephole", "coupled_gates", "projection_size", "cell_clip", "projection_clip")
HEADS = (
    "Model",
    "ForCausalLM",
    "ForSequenceClassification",
    "ForTokenClassification",
    "ForMultipleChoice",
    "ForQuestionAnswering",
)


def recurrent_auto_classes(name: str) -> dict[str, str]:
    """The family of `name` ("RNN", "LSTM", "GRU"): Auto class -> class in modeling_rnn.py."""
    return {f"Auto{head if head == 'Model' else f'Model{head}'}": f"modeling_rnn.{name}{head}" for head in HEADS}


@strict
class RecurrentConfig(LineageConfig):
    """What RNN, LSTM and GRU share; the defaults are the small model of Zaremba et al. (2014), section 4.1.

    Fields marked AWD are those of AWD-LSTM (Merity et al., 2017, section 4). Every dropout lies in [0, 1).

    Args:
        vocab_size: number of tokens.
        embedding_size: length of a token vector; default: the length of the last layer's vectors in one direction.
        hidden_size: units per direction; the vectors of a bidirectional model are twice as long.
        num_hidden_layers: number of layers.
        bidirectional: whether a second LSTM, GRU or RNN reads the text backwards.
        last_hidden_size: units of the last layer, for tying to shorter embeddings (AWD); default: hidden_size.
        dropout: on the non-recurrent connections: the embeddings, between layers, and the output (Zaremba et al.).
        input_dropout: on the embeddings (AWD); default: dropout.
        hidden_dropout: between layers (AWD); default: dropout.
        dropout_mask: "independent" per time step, or "locked": one mask for all time steps of a call (AWD).
        embedding_dropout: drops whole words, the same ones throughout the batch (AWD).
        weight_dropout: drops entries of the recurrent weights (AWD).
        activation_penalty: α, adds α times the mean square of the output to the training loss (AR, AWD); 0 or more.
        change_penalty: β, adds β times the mean square of the output's change per step (TAR, AWD); 0 or more.
        classifier_dropout: before the output layer of the classification heads.
        classifier_pooling: what a classifier of texts reads: the vector at the end of each direction ("last"), the
            mean of all vectors ("mean"), or both and the largest values ("concat"; Howard & Ruder, 2018).
        use_crf: whether the tagger scores whole tag sequences by a conditional random field.
        initializer_range: all weights start uniform in ± this number.
        tie_word_embeddings: whether the output layer reuses the embeddings; needs embedding_size = output size.
    """

    vocab_size: int = 10_000
    embedding_size: int | None = None
    hidden_size: int = 200
    num_hidden_layers: int = 2
    bidirectional: bool = False
    last_hidden_size: int | None = None
    dropout: float | int = 0.0
    input_dropout: float | int | None = None
    hidden_dropout: float | int | None = None
    dropout_mask: Literal["independent", "locked"] = "independent"
    embedding_dropout: float | int = 0.0
    weight_dropout: float | int = 0.0
    activation_penalty: float | int = 0.0
    change_penalty: float | int = 0.0
    classifier_dropout: float | int = 0.0
    classifier_pooling: Literal["last", "mean", "concat"] = "last"
    use_crf: bool = False
    initializer_range: float = 0.1
    tie_word_embeddings: bool = False
    use_cache: bool = True

    def __post_init__(self, **kwargs):
        for name in LSTM_ONLY:
            # kwargs holds only what the class has no field for, so an LSTM's own fields pass
            if kwargs.get(name) is not None:
                raise ValueError(f"{name} is {kwargs[name]!r}, but {type(self).__name__} has none: see LSTMConfig")
        super().__post_init__(**kwargs)
        if self.embedding_size is None:
            self.embedding_size = self.direction_sizes[-1]

    @property
    def layer_sizes(self) -> list[int]:
        """Units of each layer's directions."""
        last = self.hidden_size if self.last_hidden_size is None else self.last_hidden_size
        return [self.hidden_size] * (self.num_hidden_layers - 1) + [last]

    @property
    def direction_sizes(self) -> list[int]:
        """Length of each layer's vector per token and direction."""
        return self.layer_sizes

    @property
    def output_sizes(self) -> list[int]:
        """Length of each layer's vector per token."""
        return [size * (2 if self.bidirectional else 1) for size in self.direction_sizes]

    @property
    def output_size(self) -> int:
        """Length of the model's vector per token."""
        return self.output_sizes[-1]

    @property
    def layer_types(self) -> list[str]:
        """What `DynamicCache(config=...)` builds per layer: the carried state in place of keys and values."""
        return ["lineage_recurrent"] * self.num_hidden_layers

    def validate_layer_type(self):
        """The inherited check knows only transformers' own layer types; ours are a property and always right."""

    def validate_penalties(self):
        """A penalty is added to the loss, so it must not be negative."""
        for name in ("activation_penalty", "change_penalty"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 0")

    def validate_tying(self):
        """The output layer can reuse the embedding matrix only if their vectors are equally long."""
        if self.tie_word_embeddings and self.embedding_size != self.output_size:
            raise ValueError(
                f"tie_word_embeddings needs embedding_size equal to the output size, not {self.embedding_size} and "
                f"{self.output_size}: change embedding_size or set tie_word_embeddings=False"
            )


@strict
class RNNConfig(RecurrentConfig):
    """Simple recurrent network (Elman, 1990; as a language model Mikolov et al., 2010).

    New: a state carried from word to word, so that context has no fixed length.

    Args:
        hidden_act: activation of the state.
    """

    model_type = "lineage_rnn"
    auto_classes = recurrent_auto_classes("RNN")

    hidden_act: Literal["tanh", "relu", "sigmoid"] = "tanh"


@strict
class LSTMConfig(RecurrentConfig):
    """Long short-term memory (Hochreiter & Schmidhuber, 1997; forget gate Gers et al., 2000).

    New: a cell that gates write, keep and read, so that gradients survive many steps.

    Args:
        forget_gate_bias: initial bias of the forget gate, 1.0 in Jozefowicz et al., 2015; None draws it like a weight.
        peephole: gates also read the cell, each unit its own ("diagonal"; Gers & Schmidhuber, 2000) or all ("full").
        coupled_gates: "input" learns i and sets f = 1 − i (CIFG; Greff et al., 2017), "forget" learns f, i = 1 − f.
        projection_size: length of h after a projection matrix (LSTMP; Sak et al., 2014), at most hidden_size.
        cell_clip: bounds the cell to ± this number, above 0 (3.0 in Peters et al., 2018); None: no bound.
        projection_clip: bounds the projected h likewise; needs projection_size.
    """

    model_type = "lineage_lstm"
    auto_classes = recurrent_auto_classes("LSTM")

    forget_gate_bias: float | int | None = None
    peephole: Literal["diagonal", "full"] | None = None
    coupled_gates: Literal["input", "forget"] | None = None
    projection_size: int | None = None
    cell_clip: float | int | None = None
    projection_clip: float | int | None = None

    @property
    def direction_sizes(self) -> list[int]:
        if self.projection_size is None:
            return super().direction_sizes
        return [self.projection_size] * self.num_hidden_layers

    def validate_projection(self):
        """A projection shortens h, and projection_clip needs a projection."""
        smallest = min(self.layer_sizes)
        if self.projection_size is not None and not 1 <= self.projection_size <= smallest:
            name = "hidden_size" if smallest == self.hidden_size else "last_hidden_size"
            raise ValueError(f"projection_size is {self.projection_size}; it must lie between 1 and {name} {smallest}")
        if self.projection_clip is not None and self.projection_size is None:
            raise ValueError(
                f"projection_clip is {self.projection_clip}, but there is no projection: set projection_size too"
            )
        for name in ("cell_clip", "projection_clip"):
            clip = getattr(self, name)
            if clip is not None and not clip > 0:
                raise ValueError(f"{name} is {clip}; it must be above 0, or None for no bound")


@strict
class GRUConfig(RecurrentConfig):
    """Gated recurrent unit (Cho et al., 2014).

    New: two gates and one state do the work of the LSTM's three gates and its cell.

    Args:
        reset_mode: the reset gate acts "before" the matrix product (the paper) or "after" (its first version, torch).
        update_convention: the update gate is the share of the state to "keep" (the paper, torch) or to "replace" (its
            code; Bahdanau).
    """

    model_type = "lineage_gru"
    auto_classes = recurrent_auto_classes("GRU")

    reset_mode: Literal["before", "after"] = "after"
    update_convention: Literal["keep", "replace"] = "keep"
