"""What all pipelines share: checks of their texts, and registration. `hf_lineage.pipelines` has their list."""

import bisect
import copy
import itertools
import logging
from collections.abc import Callable, Mapping

from transformers.pipelines import PIPELINE_REGISTRY, REMOVED_TASKS


# about 50 pages; the tokens of more would take minutes to read
LONGEST_TEXT = 100_000
# of a text to translate: each step of the answer looks at the whole text
LONGEST_SOURCE = 10_000
logger = logging.getLogger(__name__)


def source_of(text) -> str:
    """A text to translate, as `text_of`, of at most `LONGEST_SOURCE` characters."""
    return text_of("the text to translate", text, LONGEST_SOURCE)


def text_of(name: str, text, longest: int | None = None) -> str:
    """The text that an input calls `name`, as `part_read` of it.

    Raises:
        ValueError: it is not a text, is empty, or as in `part_read`.
    """
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"{name} is {text!r:.60}; it must be a text that is not empty")
    return part_read(name, text, longest)


def part_read(name: str, text: str, longest: int | None = None, end: bool = False) -> str:
    """The text; of more than `longest` characters (LONGEST_TEXT) the first ones, or the last, with a warning.

    Raises:
        ValueError: it holds half a character (a surrogate), which no tokenizer reads.
    """
    longest = longest or LONGEST_TEXT
    if len(text) > longest:
        part = "last" if end else "first"
        logger.warning(
            "%s has %s characters; the %s %s are read. Give longer texts in parts", name, len(text), part, longest
        )
        text = text[-longest:] if end else text[:longest]
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{name} holds {text[error.start]!r} at character {error.start}, which is not a character: read the text "
            "again with the right encoding"
        ) from None
    return text


def words_read(words: list[str]) -> list[str]:
    """The words of a text; of more than `LONGEST_TEXT` characters together the first ones, with a warning."""
    characters = list(itertools.accumulate(map(len, words)))
    number = bisect.bisect_right(characters, LONGEST_TEXT)
    if number < len(words):
        logger.warning(
            "the text has %s words of %s characters; the first %s words are read. Give longer texts in parts",
            len(words),
            characters[-1],
            number,
        )
    return words[:number]


def texts_of(inputs, *names: str) -> list[str]:
    """The texts with these names in an input, checked by `text_of`.

    Raises:
        ValueError: the input is not a mapping, or as `text_of`.
    """
    if not isinstance(inputs, Mapping):
        wanted = ", ".join(f'"{name}": …' for name in names)
        raise ValueError(f"the input is {inputs!r:.60}; it must be a dictionary {{{wanted}}}")
    return [text_of(name, inputs.get(name)) for name in names]


def tokenizer_options(truncation, max_length: int | None) -> dict:
    """Those of a call of the tokenizer that are given; a `max_length` cuts, unless `truncation` is False.

    Raises:
        ValueError: max_length is below 1.
    """
    if max_length is None:
        return {} if truncation is None else {"truncation": truncation}
    if max_length < 1:
        raise ValueError(f"max_length is {max_length}; it must be at least 1")
    return {"truncation": True if truncation is None else truncation, "max_length": max_length}


class TakesEmptyLists:
    """What all pipelines here share: no input gives no output."""

    def __call__(self, inputs, *args, **options):
        return [] if isinstance(inputs, list | tuple) and not inputs else super().__call__(inputs, *args, **options)


class ReadsWhatFits:
    """What pipelines share that cut a text of more tokens than the model has positions, and say so.

    Their tokenizer is a copy that knows this limit. A model without positions reads texts of any length. The options
    `truncation` and `max_length` are the tokenizer's: `truncation=False` cuts nothing.
    """

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        positions = getattr(self.model.config, "max_position_embeddings", None)
        self.longest = min(positions, self.tokenizer.model_max_length) if self.tokenizer and positions else None
        if self.longest is not None:
            self.tokenizer = copy.copy(self.tokenizer)
            self.tokenizer.model_max_length = self.longest

    def limited(self, options: Mapping) -> dict:
        """These options of the tokenizer, and those that keep to the model's limit."""
        if self.longest is None:
            return dict(options)
        options = {"truncation": True, **options}
        if options.get("max_length") is not None:
            options["max_length"] = min(options["max_length"], self.longest)
        return options

    def encoded_pair(self, text: str, other: str, options: Mapping, warn: bool = True) -> tuple[Mapping, bool]:
        """Two texts as tensors [1, T], and whether they are cut; then it warns."""
        options = self.limited(options)
        encoded = self.tokenizer(text, other, return_tensors="pt", **options)
        is_cut = warn and self.warn_if_cut(
            self.tokens_in(encoded),
            lambda: len(self.tokenizer(text, other, verbose=False)[self.tokenizer.model_input_names[0]]),
            options.get("max_length"),
        )
        return encoded, is_cut

    def tokens_in(self, encoded: Mapping) -> int:
        """Tokens of a text [1, T], padding included."""
        return encoded[self.tokenizer.model_input_names[0]].shape[1]

    def warn_if_cut(self, read: int, count: Callable[[], int], max_length: int | None = None) -> bool:
        """Warns if a text has more tokens, by `count()`, than the `read` ones; whether it has."""
        # nothing is counted of texts that fit
        if read < min(max_length or self.tokenizer.model_max_length, self.tokenizer.model_max_length):
            return False
        whole = count()
        if whole > read:
            logger.warning("the text has %s tokens; the model reads %s. Give longer texts in parts", whole, read)
        return whole > read


def register(task: str, pipeline_class: type, model_class: type):
    """Makes `pipeline(task)` known, where transformers has removed it too."""
    # a copy that was loaded with a model must not replace the installed one
    if task not in PIPELINE_REGISTRY.supported_tasks:
        PIPELINE_REGISTRY.register_pipeline(task, pipeline_class, pt_model=model_class, type="text")
    # transformers refuses removed tasks before it looks them up
    REMOVED_TASKS.pop(task, None)
