"""Configuration of ELMo."""

from typing import Literal

from huggingface_hub.dataclasses import strict

from .configuration_lineage import LineageConfig


# (width, filters) of the character convolutions, 2,048 filters in all
PAPER_FILTERS = ((1, 32), (2, 32), (3, 64), (4, 128), (5, 256), (6, 512), (7, 1024))


@strict
class ELMoConfig(LineageConfig):
    """ELMo, embeddings from language models (Peters et al., 2018).

    New: a word's vector is a learned mix of all layers of a bidirectional language model, and depends on its sentence.

    Args:
        vocab_size: number of words.
        token_layer: "characters" reads `char_ids` by convolutions and highway layers, "words" looks up `input_ids`.
        num_characters: different character ids, always 262.
        max_characters: character ids per word, 3 to 1,000.
        character_size: length of a character vector, 1 to 4,096.
        cnn_filters: [width, number of filters] of each convolution, 1 to 100 pairs.
        cnn_act: activation of the convolutions.
        num_highway_layers: highway layers after the convolutions, 0 to 100.
        hidden_size: LSTM cells per direction.
        projection_size: LSTM outputs per direction; a token's vector is twice as long.
        num_hidden_layers: LSTM layers per direction.
        cell_clip: bounds the cells to ± this number, above 0; None: no bound.
        projection_clip: bounds the outputs likewise.
        residual: whether every layer but the first adds its input to its output.
        dropout: on each layer's input and the last layer's output, in [0, 1).
        output_layer: loss of pretraining: "softmax", "sampled" negatives or "adaptive"; evaluation uses all words.
        adaptive_cutoffs: where the adaptive softmax cuts the vocabulary, rising; only with "adaptive".
        num_mixes: mixes from one run, 1 to 100; task heads use the first before their own LSTM, a second after it.
        mix_layer_norm: whether a mix normalises the layers first.
        mix_l2: weight of the penalty on a mix's weights, 0 or more.
        elmo_dropout: on the mixes, in [0, 1).
        word_vector_size: length of an extra vector x per word, for [x; ELMo]; 0: none.
        task_size: LSTM cells per direction of the task heads.
        use_crf: whether the tagger scores whole tag sequences by a conditional random field.
        freeze_bilm: whether fine-tuning leaves the language model as it is and trains only the mixes and the task.
    """

    model_type = "lineage_elmo"
    auto_classes = {
        "AutoModel": "modeling_elmo.ELMoModel",
        "AutoModelForPreTraining": "modeling_elmo.ELMoForPreTraining",
        "AutoModelForSequenceClassification": "modeling_elmo.ELMoForSequenceClassification",
        "AutoModelForTokenClassification": "modeling_elmo.ELMoForTokenClassification",
        "AutoModelForQuestionAnswering": "modeling_elmo.ELMoForQuestionAnswering",
        "AutoModelForMultipleChoice": "modeling_elmo.ELMoForMultipleChoice",
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
        # lists, as in JSON, so that a configuration equals its saved copy
        self.cnn_filters = [list(pair) if isinstance(pair, tuple) else pair for pair in self.cnn_filters]
        super().__post_init__(**kwargs)

    @property
    def output_size(self) -> int:
        """Length of a layer's vector per token: both directions side by side."""
        return 2 * self.projection_size

    @property
    def num_filters(self) -> int:
        """Length of a word's vector after the convolutions."""
        return sum(number for _, number in self.cnn_filters)

    @property
    def layer_types(self) -> list[str]:
        """What `DynamicCache(config=...)` builds: one state per layer of the forward LSTM, then of the backward."""
        return ["lineage_recurrent"] * (2 * self.num_hidden_layers)

    @property
    def per_layer_config(self) -> list:
        """What a cache counts its layers by: one entry per layer and direction."""
        return [self] * len(self.layer_types)

    def validate_layer_type(self):
        """The inherited check knows only transformers' own layer types; ours are a property and always right."""

    def validate_token_layer(self):
        """The convolutions fit into a word, and every size lies within its limits."""
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
        """Clips are positive, the penalty is not negative, and no matrix is shared."""
        for name in ("cell_clip", "projection_clip"):
            clip = getattr(self, name)
            if clip is not None and not clip > 0:
                raise ValueError(f"{name} is {clip}; it must be above 0, or None for no bound")
        if self.mix_l2 < 0:
            raise ValueError(f"mix_l2 is {self.mix_l2}; it must be at least 0")
        if self.tie_word_embeddings:
            raise ValueError("tie_word_embeddings is True, but ELMo shares no matrix: set it to False")

    def validate_output_layer(self):
        """The cutoffs of the adaptive softmax rise and leave words for the last cluster."""
        if (self.output_layer == "adaptive") != (self.adaptive_cutoffs is not None):
            raise ValueError(
                f"output_layer is {self.output_layer!r} and adaptive_cutoffs {self.adaptive_cutoffs}: give cutoffs "
                "with the adaptive softmax, and only with it"
            )
        if self.adaptive_cutoffs is not None:
            bounds = [0, *self.adaptive_cutoffs, self.vocab_size]
            if len(bounds) < 3 or any(low >= high for low, high in zip(bounds, bounds[1:], strict=False)):
                raise ValueError(
                    f"adaptive_cutoffs is {self.adaptive_cutoffs}; it must hold rising numbers of words between 1 and "
                    f"vocab_size - 1, {self.vocab_size - 1}"
                )
