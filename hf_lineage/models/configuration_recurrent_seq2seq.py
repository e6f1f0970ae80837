"""What the configurations of the recurrent encoder-decoders share: sizes, cell, bridge and initialization."""

from typing import Literal

from huggingface_hub.dataclasses import strict

from .configuration_lineage import SIZE_LIMITS, LineageConfig


@strict
class RecurrentSeq2SeqConfig(LineageConfig):
    """What the recurrent encoder-decoders share.

    All gates have biases, which Cho et al. do not write.

    Args:
        vocab_size: words of the source.
        decoder_vocab_size: words of the target; default: vocab_size.
        embedding_size: length of a word vector; default: hidden_size.
        hidden_size: units of the decoder.
        encoder_hidden_size: units of the encoder per direction; default: hidden_size.
        num_hidden_layers: layers of the encoder.
        decoder_layers: layers of the decoder; default: num_hidden_layers.
        cell: cell of both sides.
        hidden_act: activation of cell "rnn".
        forget_gate_bias: initial bias of the forget gate; only for cell "lstm" (see LSTMConfig).
        peephole: which units of the cell the gates read; only for cell "lstm" (see LSTMConfig).
        coupled_gates: which of the input and forget gates is learned; only for cell "lstm" (see LSTMConfig).
        reset_mode: where the reset gate acts; only for cell "gru" (see GRUConfig).
        update_convention: whether the update gate keeps or replaces the state; only for cell "gru" (see GRUConfig).
        bidirectional: whether the encoder also reads the source backwards.
        reverse_source: whether the encoder reads each sentence from its end; users give sentences as written.
        bridge: the decoder's first state: "copy" of the encoder's last states, layer by layer, directions side by
            side; "dense": tanh(W h) of the top layer's h, for all layers; "backward": the same with its backward half.
        readout_size: units of a maxout layer between decoder and output layer; default: no such layer.
        output_rank: rank of the output matrix; default: full rank.
        output_bias: whether the output layer has a bias.
        dropout: on the input of each layer (but not the attention's context) and before the output layer, in [0, 1).
        initialization: "uniform" draws all weights in ±initializer_range; "orthogonal": recurrent matrices orthogonal,
            biases zero, the rest normal with that standard deviation, as in the RNNsearch paper.
        initializer_range: see initialization.
        tie_word_embeddings: whether the output layer reuses the target's embeddings.

    Raises:
        huggingface_hub.errors.StrictDataclassError: sizes that do not fit each other; the message names them.
    """

    vocab_size: int = 30_000
    decoder_vocab_size: int | None = None
    embedding_size: int | None = None
    hidden_size: int = 1_000
    encoder_hidden_size: int | None = None
    num_hidden_layers: int = 1
    decoder_layers: int | None = None
    cell: Literal["rnn", "lstm", "gru"] = "lstm"
    hidden_act: Literal["tanh", "relu", "sigmoid"] = "tanh"
    forget_gate_bias: float | int | None = None
    peephole: Literal["diagonal", "full"] | None = None
    coupled_gates: Literal["input", "forget"] | None = None
    reset_mode: Literal["before", "after"] = "after"
    update_convention: Literal["keep", "replace"] = "keep"
    bidirectional: bool = False
    reverse_source: bool = False
    bridge: Literal["copy", "dense", "backward"] = "copy"
    readout_size: int | None = None
    output_rank: int | None = None
    output_bias: bool = True
    dropout: float | int = 0.0
    initialization: Literal["uniform", "orthogonal"] = "uniform"
    initializer_range: float = 0.08
    tie_word_embeddings: bool = False
    is_encoder_decoder: bool = True
    use_cache: bool = True
    pad_token_id: int | None = 0
    bos_token_id: int | None = 2
    eos_token_id: int | list[int] | None = 3
    decoder_start_token_id: int | None = 2

    def __post_init__(self, **kwargs):
        for name, default in (
            ("decoder_vocab_size", "vocab_size"),
            ("embedding_size", "hidden_size"),
            ("encoder_hidden_size", "hidden_size"),
            ("decoder_layers", "num_hidden_layers"),
        ):
            if getattr(self, name) is None:
                setattr(self, name, getattr(self, default))
        super().__post_init__(**kwargs)

    @property
    def source_size(self) -> int:
        """Length of the encoder's vector per source token."""
        return self.encoder_hidden_size * (2 if self.bidirectional else 1)

    @property
    def output_size(self) -> int:
        """Length of the output layer's input."""
        return self.output_rank or self.readout_size or self.hidden_size

    @property
    def layer_types(self) -> list[str]:
        """What `DynamicCache(config=...)` builds per decoder layer: the carried state."""
        # transformers asks a copy whose num_hidden_layers is our decoder_layers
        return ["lineage_recurrent"] * (self.decoder_layers or self.num_hidden_layers)

    def validate_layer_type(self):
        """The inherited check knows only transformers' own layer types; ours are a property and always right."""

    def validate_sizes_of_encoder_decoder(self):
        """The limits of the sizes that only encoder-decoders have."""
        for name, limit in {
            "decoder_vocab_size": SIZE_LIMITS["vocab_size"],
            "encoder_hidden_size": SIZE_LIMITS["hidden_size"],
            "decoder_layers": SIZE_LIMITS["num_hidden_layers"],
            "readout_size": SIZE_LIMITS["hidden_size"],
            "output_rank": SIZE_LIMITS["hidden_size"],
        }.items():
            size = getattr(self, name)
            if size is not None and not 1 <= size <= limit:
                raise ValueError(f"{name} is {size}; it must lie between 1 and {limit}")

    def validate_cell(self):
        """Refuses the LSTM's fields for other cells, which would ignore them."""
        for name in ("forget_gate_bias", "peephole", "coupled_gates"):
            if self.cell != "lstm" and getattr(self, name) is not None:
                raise ValueError(
                    f'{name} is {getattr(self, name)!r}, but the cell "{self.cell}" has none: use cell="lstm"'
                )

    def validate_states(self):
        """A copied state must fit, and only a bidirectional encoder has a backward state."""
        if None in (self.decoder_layers, self.encoder_hidden_size):
            return
        if self.bridge == "copy" and (self.source_size, self.num_hidden_layers) != (
            self.hidden_size,
            self.decoder_layers,
        ):
            raise ValueError(
                f'bridge="copy" hands over {self.num_hidden_layers} states of {self.source_size} units to '
                f"{self.decoder_layers} decoder layers of {self.hidden_size}: make encoder and decoder alike "
                '(num_hidden_layers, decoder_layers, encoder_hidden_size), or use bridge="dense"'
            )
        if self.bridge == "backward" and not self.bidirectional:
            raise ValueError(
                'bridge="backward" reads the backward state: set bidirectional=True, or use bridge="dense"'
            )

    def validate_tying(self):
        """The output layer can reuse the target's embedding matrix only if their vectors are equally long."""
        if self.tie_word_embeddings and self.embedding_size != self.output_size:
            raise ValueError(
                f"tie_word_embeddings needs embedding_size equal to the output size, not {self.embedding_size} and "
                f"{self.output_size}: change embedding_size or set tie_word_embeddings=False"
            )


@strict
class AttentionalSeq2SeqConfig(RecurrentSeq2SeqConfig):
    """What the recurrent encoder-decoders with attention share.

    Args:
        attention_size: length of v in the attention's score; default: hidden_size.
        attention_bias: whether the additive score has a bias, v·tanh(W s + U h + b), as in OpenNMT-py.
        coverage: adds the attention that a source word got so far to its score (See et al., 2017, equation 11).
        coverage_loss_weight: weight of the coverage loss in training (their equation 12); 0 or more, needs coverage.
    """

    attention_size: int | None = None
    attention_bias: bool = False
    coverage: bool = False
    coverage_loss_weight: float | int = 0.0

    def __post_init__(self, **kwargs):
        if self.attention_size is None:
            self.attention_size = self.hidden_size
        super().__post_init__(**kwargs)

    def validate_attention_size(self):
        """The limit of the size that only attention has."""
        limit = SIZE_LIMITS["hidden_size"]
        if self.attention_size is not None and not 1 <= self.attention_size <= limit:
            raise ValueError(f"attention_size is {self.attention_size}; it must lie between 1 and {limit}")

    def validate_coverage_loss(self):
        """The coverage loss needs coverage."""
        if self.coverage_loss_weight < 0 or (self.coverage_loss_weight and not self.coverage):
            raise ValueError(
                f"coverage_loss_weight is {self.coverage_loss_weight}; it is at least 0, and 0 unless coverage=True"
            )
