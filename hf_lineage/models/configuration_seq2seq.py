"""Configurations of the recurrent encoder-decoders: Seq2Seq and RNNsearch."""

from typing import Literal

from huggingface_hub.dataclasses import strict

from .configuration_lineage import SIZE_LIMITS, LineageConfig


@strict
class RecurrentSeq2SeqConfig(LineageConfig):
    """What the recurrent encoder-decoders share.

    `vocab_size` is the source's vocabulary; the target's is as large unless `decoder_vocab_size` says otherwise.
    `num_hidden_layers` counts the encoder's layers, `decoder_layers` the decoder's (default: as many). `hidden_size`
    is the decoder's and, unless `encoder_hidden_size` differs, that of each direction of the encoder. `embedding_size`
    is `hidden_size` when left out.

    `cell` is that of both sides; `hidden_act` belongs to "rnn", `forget_gate_bias`, `peephole` and `coupled_gates` to
    "lstm", `reset_mode` and `update_convention` to "gru", with the meaning they have in LSTMConfig and GRUConfig. With
    `reverse_source` the encoder reads each sentence from its end, padding aside: users give it as it is written.

    `bridge` makes the decoder's first state of the encoder's last ones: "copy" hands over each layer's (directions
    side by side), "dense" is tanh(W h) of the top layer's h, for all layers, "backward" the same of its backward half.

    `readout_size` puts a maxout layer of so many units between decoder and output layer, and `output_rank` gives the
    output matrix that rank. `dropout` acts on what each layer reads, the attention's context aside, and before
    the output layer. All gates have biases, which Cho et al. do not write.

    `initialization` "uniform" draws every weight within ±initializer_range; "orthogonal" makes recurrent matrices
    orthogonal, biases zero and the rest normal with that standard deviation, as the RNNsearch paper does.

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
        """Length of the vector that the encoder gives each source token."""
        return self.encoder_hidden_size * (2 if self.bidirectional else 1)

    @property
    def output_size(self) -> int:
        """Length of the vectors that the output layer reads."""
        return self.output_rank or self.readout_size or self.hidden_size

    @property
    def layer_types(self) -> list[str]:
        """What `DynamicCache(config=...)` builds for each decoder layer: the carried state."""
        # transformers asks a copy in which decoder_layers has become num_hidden_layers
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
        """What only an LSTM has would be left out of another cell without a word."""
        for name in ("forget_gate_bias", "peephole", "coupled_gates"):
            if self.cell != "lstm" and getattr(self, name) is not None:
                raise ValueError(
                    f'{name} is {getattr(self, name)!r}, but the cell "{self.cell}" has none: use cell="lstm"'
                )

    def validate_states(self):
        """A state that is copied must fit, and only a bidirectional encoder has a backward one."""
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
        """The output layer can reuse the target's embedding matrix only if both work on vectors of one length."""
        if self.tie_word_embeddings and self.embedding_size != self.output_size:
            raise ValueError(
                f"tie_word_embeddings needs embedding_size equal to the output size, not {self.embedding_size} and "
                f"{self.output_size}: change embedding_size or set tie_word_embeddings=False"
            )


@strict
class Seq2SeqConfig(RecurrentSeq2SeqConfig):
    """Sequence to sequence learning (Sutskever et al., 2014).

    New: one recurrent network reads the source into a state, a second one writes the target from it.

    The defaults are Sutskever's but for the vocabulary, which source and target there have each for itself (see
    `sutskever`). `feed_context` makes it the RNN encoder-decoder of `cho`: the decoder reads the summary of the source
    at every step, and so does the readout, which it needs (`readout_size`).
    """

    model_type = "lineage_seq2seq"
    auto_classes = {
        "AutoModel": "modeling_seq2seq.Seq2SeqModel",
        "AutoModelForSeq2SeqLM": "modeling_seq2seq.Seq2SeqForConditionalGeneration",
    }

    num_hidden_layers: int = 4
    reverse_source: bool = True
    feed_context: bool = False

    @classmethod
    def sutskever(cls, **changes) -> "Seq2SeqConfig":
        """Sutskever et al. (2014), section 3.4: 384 million parameters."""
        return cls(**{"vocab_size": 160_000, "decoder_vocab_size": 80_000} | changes)

    @classmethod
    def cho(cls, **changes) -> "Seq2SeqConfig":
        """Cho et al. (2014), section 4.1: one layer of 1,000 GRU units, 500 maxout units, matrices of rank 100."""
        settings = {
            "vocab_size": 15_000,
            "embedding_size": 100,
            "num_hidden_layers": 1,
            "cell": "gru",
            "reset_mode": "before",
            "reverse_source": False,
            "bridge": "dense",
            "feed_context": True,
            "readout_size": 500,
            "output_rank": 100,
            "initialization": "orthogonal",
            "initializer_range": 0.01,
        }
        return cls(**settings | changes)

    def validate_context(self):
        """The context goes through the readout, and the decoder starts from it."""
        if self.feed_context and (self.readout_size is None or self.bridge != "dense"):
            raise ValueError(
                f'feed_context needs a readout_size and bridge="dense", not {self.readout_size} and "{self.bridge}": '
                "see Seq2SeqConfig.cho"
            )
        if self.readout_size is not None and not self.feed_context:
            raise ValueError(f"readout_size is {self.readout_size}, but only feed_context=True has a readout")


@strict
class RNNSearchConfig(RecurrentSeq2SeqConfig):
    """RNNsearch (Bahdanau et al., 2015; its simpler and local forms: Luong et al., 2015).

    New: the decoder looks back at every source word, and learns where; no one state must hold a whole sentence.

    The defaults are Bahdanau's RNNsearch; `luong` gives the other family's.

    `attention` is the score of a source vector h for a target state s. "additive", v·tanh(W s + U h), comes with
    Bahdanau's decoder of one layer: the state before the step asks, a maxout readout answers. The others come with
    Luong's, where the state after the step asks and tanh(W [c; s]) answers: "dot" s·h, "general" s·W h, "concat"
    v·tanh(W [s; h]), and "location", where W s has a score for each of `max_source_length` positions.
    `attention_size` is the length of v (default: `hidden_size`).

    Luong's may look at a window of ± `window_size` words only: around the target's own position ("local-m") or around
    one that it predicts, weighted by a Gaussian ("local-p"). With `input_feeding` its first layer reads the last
    answer. `answer_bias` adds b to tanh(W [c; s] + b), as some published code does.

    `coverage` adds the attention that a word got so far to its score (See et al., 2017, equation 11; "additive" and
    "concat"); in training, `coverage_loss_weight` times their equation 12 punishes looking there again.
    """

    model_type = "lineage_rnnsearch"
    auto_classes = {
        "AutoModel": "modeling_rnnsearch.RNNSearchModel",
        "AutoModelForSeq2SeqLM": "modeling_rnnsearch.RNNSearchForConditionalGeneration",
    }

    embedding_size: int | None = 620
    cell: Literal["rnn", "lstm", "gru"] = "gru"
    reset_mode: Literal["before", "after"] = "before"
    update_convention: Literal["keep", "replace"] = "replace"
    bidirectional: bool = True
    bridge: Literal["copy", "dense", "backward"] = "backward"
    readout_size: int | None = 500
    output_bias: bool = False
    initialization: Literal["uniform", "orthogonal"] = "orthogonal"
    initializer_range: float = 0.01
    attention: Literal["additive", "dot", "general", "concat", "location"] = "additive"
    attention_size: int | None = None
    attention_window: Literal["global", "local-m", "local-p"] = "global"
    window_size: int = 10
    max_source_length: int = 50
    input_feeding: bool = False
    answer_bias: bool = False
    coverage: bool = False
    coverage_loss_weight: float | int = 0.0

    def __post_init__(self, **kwargs):
        if self.attention_size is None:
            self.attention_size = self.hidden_size
        if self.decoder_layers is None and self.attention == "additive":
            self.decoder_layers = 1
        super().__post_init__(**kwargs)

    @classmethod
    def luong(cls, **changes) -> "RNNSearchConfig":
        """Luong et al. (2015), section 4.1, with the options that their published code has as defaults."""
        settings = {
            "vocab_size": 50_000,
            "embedding_size": None,
            "num_hidden_layers": 4,
            "cell": "lstm",
            "bidirectional": False,
            "reverse_source": True,
            "bridge": "copy",
            "readout_size": None,
            "initialization": "uniform",
            "initializer_range": 0.1,
            "attention": "general",
            "input_feeding": True,
            "dropout": 0.2,
        }
        return cls(**settings | changes)

    def validate_attention(self):
        """Each score belongs to one of the two decoders, and some need sizes that fit."""
        if self.attention == "additive":
            if self.readout_size is None or self.decoder_layers not in (1, None):
                raise ValueError(
                    f'attention="additive" needs a readout_size and one decoder layer, not {self.readout_size} and '
                    f'{self.decoder_layers}: for more layers see RNNSearchConfig.luong and attention="concat"'
                )
            if self.answer_bias:
                raise ValueError('answer_bias belongs to Luong\'s decoder: attention="additive" answers by a readout')
            if self.attention_window != "global" or self.input_feeding:
                raise ValueError(
                    f'attention="additive" is global and without input feeding, not "{self.attention_window}" and '
                    f"{self.input_feeding}: see RNNSearchConfig.luong"
                )
        elif self.readout_size is not None or self.output_rank is not None:
            raise ValueError(
                f'only attention="additive" has a readout: readout_size {self.readout_size} and output_rank '
                f'{self.output_rank} must be None with attention="{self.attention}"'
            )
        if self.attention == "dot" and self.encoder_hidden_size and self.source_size != self.hidden_size:
            raise ValueError(
                f'attention="dot" needs vectors of one length, not {self.source_size} and {self.hidden_size}: '
                'change encoder_hidden_size or use attention="general"'
            )
        if self.coverage and self.attention not in ("additive", "concat"):
            raise ValueError(f'coverage needs attention="additive" or "concat", not "{self.attention}"')
        if self.coverage_loss_weight < 0 or (self.coverage_loss_weight and not self.coverage):
            raise ValueError(
                f"coverage_loss_weight is {self.coverage_loss_weight}; it is at least 0, and 0 unless coverage=True"
            )
        for name, limit in {
            "attention_size": SIZE_LIMITS["hidden_size"],
            "window_size": 1_000_000,
            "max_source_length": 1_000_000,
        }.items():
            size = getattr(self, name)
            if size is not None and not 1 <= size <= limit:
                raise ValueError(f"{name} is {size}; it must lie between 1 and {limit}")
