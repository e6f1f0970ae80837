"""Configuration of ELMo."""

from typing import Literal

from huggingface_hub.dataclasses import strict

from .configuration_lineage import SIZE_LIMITS, LineageConfig


# (width, filters) of the character convolutions, 2,048 filters in all
PAPER_FILTERS = ((1, 32), (2, 32), (3, 64), (4, 128), (5, 256), (6, 512), (7, 1024))


@strict
class ELMoConfig(LineageConfig):
    """ELMo, embeddings from language models (Peters et al., 2018).

    New: a word's vector is a learned mix of all layers of a bidirectional language model, so that its sentence counts.

    `token_layer` "characters" reads `char_ids`, rows of `max_characters` out of `num_characters`, through convolutions
    (`cnn_filters`: width and number of filters) and highway layers; "words" looks up `input_ids`. Of each direction's
    LSTM, `hidden_size` counts the cells and `projection_size` the outputs: a token's vector has twice that length.
    `residual` adds the input of every layer but the first to its output. `dropout` acts on each layer's input and on
    the last one's output.

    `num_mixes` mixes come from one run; the task heads use the first at the input of their own LSTM (`task_size` cells
    a direction) and a second at its output. `mix_layer_norm` normalises the layers first, `mix_l2` is the weight of
    the penalty on a mix's weights. `elmo_dropout` acts on the mixes. `freeze_bilm` trains the task's network and the
    mixes only, on a language model that stays as it is. `word_vector_size`, if not 0, is the length of a vector x of
    its own for each word, for [x; ELMo].

    `output_layer` is what pretraining learns by: the "softmax" itself, "sampled" negatives, or the "adaptive" softmax
    with its `adaptive_cutoffs`. Evaluation uses all words in every case.
    """

    model_type = "lineage_elmo"
    auto_classes = {
        "AutoModel": "modeling_elmo.ELMoModel",
        "AutoModelForPreTraining": "modeling_elmo.ELMoForPreTraining",
        "AutoModelForSequenceClassification": "modeling_elmo.ELMoForSequenceClassification",
        "AutoModelForTokenClassification": "modeling_elmo.ELMoForTokenClassification",
        "AutoModelForQuestionAnswering": "modeling_elmo.ELMoForQuestionAnswering",
    }
    auto_tokenizer = "tokenization_elmo.ELMoTokenizer"
    keys_to_ignore_at_inference = [*LineageConfig.keys_to_ignore_at_inference, "hidden_states", "stacked_mixes"]

    vocab_size: int = 793_471
    token_layer: Literal["characters", "words"] = "characters"
    num_characters: int = 262
    max_characters: int = 50
    character_size: int = 16
    cnn_filters: list | tuple = PAPER_FILTERS
    cnn_act: Literal["relu", "tanh"] = "relu"
    num_highway_layers: int = 2
    hidden_size: int = 4096
    projection_size: int = 512
    num_hidden_layers: int = 2
    cell_clip: float | int | None = 3.0
    projection_clip: float | int | None = 3.0
    residual: bool = True
    dropout: float | int = 0.1
    output_layer: Literal["softmax", "sampled", "adaptive"] = "sampled"
    adaptive_cutoffs: list[int] | None = None
    num_mixes: int = 1
    mix_layer_norm: bool = False
    mix_l2: float | int = 0.0
    elmo_dropout: float | int = 0.5
    word_vector_size: int = 0
    task_size: int = 256
    use_crf: bool = False
    freeze_bilm: bool = False
    tie_word_embeddings: bool = False
    use_cache: bool = False

    def __post_init__(self, **kwargs):
        # as JSON has them, so that a configuration equals its saved self
        self.cnn_filters = [list(pair) if isinstance(pair, tuple) else pair for pair in self.cnn_filters]
        super().__post_init__(**kwargs)

    @property
    def output_size(self) -> int:
        """Length of the vector that a layer gives each token: both directions side by side."""
        return 2 * self.projection_size

    @property
    def num_filters(self) -> int:
        """Length of a word's vector after the convolutions."""
        return sum(number for _, number in self.cnn_filters)

    @property
    def layer_types(self) -> list[str]:
        """What `DynamicCache(config=...)` builds: a state for each layer of the forward, then of the backward LSTM."""
        # asked for before the number of layers is refused: never a list of millions
        return ["lineage_recurrent"] * (2 * min(self.num_hidden_layers, SIZE_LIMITS["num_hidden_layers"]))

    @property
    def per_layer_config(self) -> list:
        """What a cache counts its layers by; both directions of a layer have one."""
        return [self] * len(self.layer_types)

    def validate_layer_type(self):
        """The inherited check knows only transformers' own layer types; ours are a property and always right."""

    def validate_token_layer(self):
        """The convolutions fit into a word, and every number is one that a machine can hold."""
        for name, least, most in (
            ("num_characters", 262, 262),
            ("max_characters", 3, 1_000),
            ("character_size", 1, 4_096),
            ("num_highway_layers", 0, 100),
            ("projection_size", 1, 65_536),
            ("num_mixes", 1, 100),
            ("word_vector_size", 0, 65_536),
            ("task_size", 1, 65_536),
        ):
            if not least <= getattr(self, name) <= most:
                raise ValueError(f"{name} is {getattr(self, name)}; it must lie between {least} and {most}")
        if not 1 <= len(self.cnn_filters) <= 100:
            raise ValueError(f"cnn_filters has {len(self.cnn_filters)} entries; there must be 1 to 100")
        for pair in self.cnn_filters:
            if not (isinstance(pair, list) and len(pair) == 2 and all(type(number) is int for number in pair)):
                raise ValueError(f"cnn_filters has the entry {pair!r}; each must be [width, number of filters]")
            if not (1 <= pair[0] <= self.max_characters and 1 <= pair[1] <= 65_536):
                raise ValueError(
                    f"cnn_filters has the entry {pair}; a width lies between 1 and max_characters "
                    f"{self.max_characters}, a number of filters between 1 and 65536"
                )

    def validate_lstm(self):
        """Bounds are positive."""
        for name in ("cell_clip", "projection_clip"):
            clip = getattr(self, name)
            if clip is not None and not clip > 0:
                raise ValueError(f"{name} is {clip}; it must be above 0, or None for no bound")
        if self.mix_l2 < 0:
            raise ValueError(f"mix_l2 is {self.mix_l2}; it must be at least 0")
        if self.tie_word_embeddings:
            raise ValueError("tie_word_embeddings is True, but ELMo shares no matrix: set it to False")

    def validate_output_layer(self):
        """The adaptive softmax's cutoffs grow and leave words for the last cluster."""
        if (self.output_layer == "adaptive") != (self.adaptive_cutoffs is not None):
            raise ValueError(
                f"output_layer is {self.output_layer!r} and adaptive_cutoffs {self.adaptive_cutoffs}: the adaptive "
                "softmax needs them, no other takes them"
            )
        if self.adaptive_cutoffs is not None:
            bounds = [0, *self.adaptive_cutoffs, self.vocab_size]
            if len(bounds) < 3 or any(low >= high for low, high in zip(bounds, bounds[1:], strict=False)):
                raise ValueError(
                    f"adaptive_cutoffs is {self.adaptive_cutoffs}; it must be growing numbers of words between 1 and "
                    f"vocab_size - 1, {self.vocab_size - 1}"
                )
