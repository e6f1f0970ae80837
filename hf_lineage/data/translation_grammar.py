"""A small synthetic grammar of Chinese and English: sentence pairs whose word alignment is known exactly.

The text is artificial, but has what makes translation hard: words that change place (time and place adverbs, relative
clauses, 把 and 被), agreement and tense that Chinese does not mark, who owes whom (我 欠 他 100万 and 他 欠 我 100万),
words without a counterpart. The reference and its word alignment are known exactly, so that BLEU and the alignment
error rate are exact. The lexicon is wide, also in prepositions, modals and question words, so that a model can guess
few words without reading the source.

A rule is written for both languages at once (a synchronous context-free grammar; Aho and Ullman, 1969). Slots in
braces stand on both sides. Words that share a label after a slash are aligned: surely, or possibly after a "?".

    rule("在/1 {place} {verb} 了/2? {object}", "{verb} {object} in/1 {place}", ...)
"""

import functools
import hashlib
import re
from dataclasses import dataclass
from typing import Any

import datasets
import numpy as np

from hf_lineage.data.randomness import generator
from hf_lineage.data.translation_lexicon import (
    ADJECTIVES,
    AGENT_PREPOSITIONS,
    ATTITUDES,
    COMPARATIVES,
    COMPARED_PREPOSITIONS,
    CONJUNCTIONS,
    EMPHASES,
    FREQUENCIES,
    FUTURE_TIMES,
    GIVING,
    LOCALISERS,
    MODALS,
    MONEY,
    NAMES,
    NUMBERS,
    PAST_TIMES,
    PEOPLE,
    PLACE_PREPOSITIONS,
    PLACES,
    PRONOUNS,
    QUESTIONS,
    SURFACES,
    THINGS,
    VERBS,
)


SIZES = {"train": 20_000, "validation": 500, "test": 1_000}
_FEATURES = datasets.Features(
    source=datasets.Value("string"), target=datasets.Value("string"), alignment=datasets.Value("string")
)


@dataclass(frozen=True)
class SentencePair:
    """A phrase in both languages as words, and its links (source word, target word), counted from 0.

    `sure` links are certain; `possible` links include these and ambiguous ones (Och and Ney, 2003).
    """

    source: tuple[str, ...]
    target: tuple[str, ...]
    sure: frozenset[tuple[int, int]]
    possible: frozenset[tuple[int, int]]
    third: bool = True
    plural: bool = False

    @property
    def alignment(self) -> str:
        """Links in the Pharaoh format; "?" marks links that are only possible: `0-0 1-2 2?2`."""
        return " ".join(f"{i}{'-' if (i, j) in self.sure else '?'}{j}" for i, j in sorted(self.possible))


def rule(source: str, target: str, third: bool = True, plural: bool = False, **slots: SentencePair) -> SentencePair:
    """Fills the slots of a rule (see above); a label that names a slot makes possible links to all of its words."""
    sides = []
    for pattern, language in ((source, "source"), (target, "target")):
        words, starts, labelled = [], {}, {}
        for word, labels in _parsed(pattern):
            if labels is None:
                starts[word] = len(words)
                words += getattr(slots[word], language)
            else:
                for label, is_sure in labels:
                    labelled.setdefault(label, []).append((len(words), is_sure))
                words.append(word)
        sides.append((words, starts, labelled))
    (source_words, source_starts, source_labels), (target_words, target_starts, target_labels) = sides

    sure, possible = set(), set()
    for name, part in slots.items():
        start, target_start = source_starts[name], target_starts[name]
        sure |= {(start + i, target_start + j) for i, j in part.sure}
        possible |= {(start + i, target_start + j) for i, j in part.possible}
        for i, _ in source_labels.get(name, ()):
            possible |= {(i, target_start + j) for j in range(len(part.target))}
        for j, _ in target_labels.get(name, ()):
            possible |= {(start + i, j) for i in range(len(part.source))}
    for label in source_labels.keys() & target_labels.keys():
        for i, source_sure in source_labels[label]:
            for j, target_sure in target_labels[label]:
                (sure if source_sure and target_sure else possible).add((i, j))
    words = (tuple(source_words), tuple(target_words))
    return SentencePair(*words, frozenset(sure), frozenset(possible | sure), third, plural)


@functools.cache
def _parsed(pattern: str) -> list[tuple[str, list[tuple[str, bool]] | None]]:
    """The items of one side of a rule: (slot, None), or (word, its labels, each with whether it is sure)."""
    items: list[tuple[str, list[tuple[str, bool]] | None]] = []
    for item in pattern.split():
        if slot := re.fullmatch(r"{(\w+)}", item):
            items.append((slot[1], None))
        else:
            word, _, labels = item.partition("/")
            items.append(
                (word, [(label.rstrip("?"), not label.endswith("?")) for label in filter(None, labels.split(","))])
            )
    return items


@functools.cache
def word(source: str, target: str, **features) -> SentencePair:
    """A Chinese word linked to every word of its translation; articles and "on" are only possible links."""
    items = [f"{part}/1{'?' if part in ('the', 'a', 'an', 'on') else ''}" for part in target.split()]
    return rule(f"{source}/1", " ".join(items), **features)


class TranslationGrammar:
    """Sentence pairs of one split, each a pure function of (seed, index).

    Whatever the seed, a Chinese sentence belongs to one split only: 1 of 20 is for validation, 1 for the test.

    Raises:
        ValueError: the split is not train, validation or test.
    """

    def __init__(self, split: str = "train", seed: int = 0):
        if split not in SIZES:
            raise ValueError(f"the grammar has no split {split!r}; it has {', '.join(SIZES)}")
        self.split, self.seed = split, seed

    def pair(self, index: int) -> SentencePair:
        """Sentence pair `index`; any number of pairs exists."""
        draw = generator(self.seed, 0, index, f"translation grammar, {self.split}")
        while True:
            pair = _Draws(draw).sentence()
            digest = hashlib.blake2b(" ".join(pair.source).encode(), digest_size=8).digest()
            if {18: "validation", 19: "test"}.get(int.from_bytes(digest, "little") % 20, "train") == self.split:
                return pair


def grammar_corpus(split: str, size: int | None = None, seed: int = 0) -> datasets.Dataset:
    """The first `size` pairs of a split as rows {source, target, alignment}, with blanks between words."""
    grammar = TranslationGrammar(split, seed)
    pairs = [grammar.pair(index) for index in range(SIZES[split] if size is None else size)]
    columns = {
        "source": [" ".join(pair.source) for pair in pairs],
        "target": [" ".join(pair.target) for pair in pairs],
        "alignment": [pair.alignment for pair in pairs],
    }
    return datasets.Dataset.from_dict(columns, features=_FEATURES)


class _Draws:
    """The grammar's rules; one generator draws every choice."""

    def __init__(self, generator: np.random.Generator):
        self.generator = generator

    def one(self, options):
        return options[int(self.generator.integers(len(options)))]

    def chance(self, probability: float) -> bool:
        return self.generator.random() < probability

    # noun phrases

    def subject(self) -> SentencePair:
        if self.chance(0.6):
            chinese, english, _, _, third, plural = self.one(PRONOUNS)
            return word(chinese, english, third=third, plural=plural)
        return self.name() if self.chance(0.5) else self.noun_phrase(PEOPLE)

    def recipient(self, subject: SentencePair | None = None) -> SentencePair:
        """Somebody other than the subject."""
        while True:
            chinese, _, english, _, _, _ = self.one(PRONOUNS)
            somebody = word(chinese, english) if self.chance(0.7) else self.name()
            if subject is None or somebody.source != subject.source:
                return somebody

    def name(self) -> SentencePair:
        return word(*self.one(NAMES))

    def noun(self, nouns, plural: bool) -> tuple[SentencePair, str]:
        """A noun, with or without an adjective, and its measure word."""
        chinese, measure, *forms = self.one(nouns)
        noun = word(chinese, forms[plural], plural=plural)
        if self.chance(0.3) and nouns is THINGS:
            adjective = word(*self.one(ADJECTIVES))
            noun = rule("{adjective} 的/adjective {noun}", "{adjective} {noun}", adjective=adjective, noun=noun)
        return noun, measure

    def noun_phrase(self, nouns) -> SentencePair:
        kind, plural = self.one(["one", "many", "this", "my", "my"]), self.chance(0.4)
        if kind == "one":
            noun, measure = self.noun(nouns, False)
            article = "an" if noun.target[0][0] in "aeiou" else "a"
            return rule(f"一/1 {measure}/1?,noun {{noun}}", f"{article}/1 {{noun}}", noun=noun)
        if kind == "many":
            noun, measure = self.noun(nouns, True)
            number, english = self.one(NUMBERS)
            return rule(
                f"{number}/1 {measure}/1?,noun {{noun}}", f"{english}/1 {{noun}}", third=False, plural=True, noun=noun
            )
        noun, measure = self.noun(nouns, plural)
        features: dict[str, Any] = {"third": not plural, "plural": plural, "noun": noun}
        if kind == "this":
            far = self.chance(0.5)
            english = (("this", "these"), ("that", "those"))[far][plural]
            if plural:
                return rule(f"{'那些' if far else '这些'}/1 {{noun}}", f"{english}/1 {{noun}}", **features)
            return rule(f"{'那' if far else '这'}/1 {measure}/1?,noun {{noun}}", f"{english}/1 {{noun}}", **features)
        # Chinese does not mark the number here: use the singular
        noun, _ = self.noun(nouns, False)
        chinese, _, _, english, _, _ = self.one(PRONOUNS)
        return rule(f"{chinese}/1 的/1? {{noun}}", f"{english}/1 {{noun}}", noun=noun)

    def definite(self) -> SentencePair:
        """A definite thing: owned, bought by somebody, or lying somewhere."""
        noun, _ = self.noun(THINGS, False)
        kind = self.one(["my", "bought", "on"])
        if kind == "bought":
            verb, _, _, past, _ = self.one(VERBS)
            return rule(
                f"{{subject}} {verb}/1 的/2? {{noun}}",
                f"the/noun,2? {{noun}} {{subject}} {past}/1",
                subject=self.subject(),
                noun=noun,
            )
        if kind == "on":
            localiser, preposition = self.one(LOCALISERS)
            return rule(
                f"{{surface}} {localiser}/2 的/1? {{noun}}",
                f"the/noun,1? {{noun}} {preposition}/2 {{surface}}",
                noun=noun,
                surface=self.surface(),
            )
        chinese, _, _, english, _, _ = self.one(PRONOUNS)
        return rule(f"{chinese}/1 的/1? {{noun}}", f"{english}/1 {{noun}}", noun=noun)

    def surface(self) -> SentencePair:
        """Where something lies."""
        chinese, english = self.one(SURFACES)
        if self.chance(0.4):
            return rule(f"{chinese}/1", f"the/1? {english}/1")
        owner, _, _, possessive, _, _ = self.one(PRONOUNS)
        return rule(f"{owner}/1 的/1? {chinese}/2", f"{possessive}/1 {english}/2")

    # sentences

    def sentence(self) -> SentencePair:
        """One clause, or two with a conjunction."""
        if self.chance(0.5):
            return self.clause()
        return rule(
            "{first} {conjunction} {second}",
            "{first} {conjunction} {second}",
            first=self.clause(),
            conjunction=word(*self.one(CONJUNCTIONS)),
            second=self.clause(),
        )

    def clause(self) -> SentencePair:
        return self.one(
            [self.past, self.past, self.future, self.habit, self.owing, self.owing, self.giving]
            + [self.emphasis, self.question, self.comparison, self.description, self.disposal, self.passive]
        )()

    def past(self) -> SentencePair:
        verb, _, _, past, _ = self.one(VERBS)
        slots: dict[str, Any] = {
            "subject": self.subject(),
            "object": self.noun_phrase(THINGS),
            "time": word(*self.one(PAST_TIMES)),
        }
        place, english_place = "", ""
        if self.chance(0.4):
            chinese, english = self.one(PLACE_PREPOSITIONS)
            slots["place"], place, english_place = (
                word(*self.one(PLACES)),
                f"{chinese}/2 {{place}}",
                f"{english}/2 {{place}}",
            )
        head = "{time} {subject}" if self.chance(0.5) else "{subject} {time}"
        chinese = f"{head} {place} {verb}/1 了/1? {{object}}"
        return rule(chinese, f"{{subject}} {past}/1 {{object}} {english_place} {{time}}", **slots)

    def future(self) -> SentencePair:
        verb, base, _, _, _ = self.one(VERBS)
        modal, english = self.one(MODALS)
        return rule(
            f"{{subject}} {{time}} {modal}/2 {verb}/1 {{object}}",
            f"{{subject}} {english}/2 {base}/1 {{object}} {{time}}",
            time=word(*self.one(FUTURE_TIMES)),
            subject=self.subject(),
            object=self.noun_phrase(THINGS),
        )

    def habit(self) -> SentencePair:
        subject = self.subject()
        verb, base, third, _, _ = self.one(VERBS)
        return rule(
            f"{{subject}} {{time}} 都/time {verb}/1 {{object}}",
            f"{{subject}} {third if subject.third else base}/1 {{object}} {{time}}",
            time=word(*self.one(FREQUENCIES)),
            subject=subject,
            object=self.noun_phrase(THINGS),
        )

    def owing(self) -> SentencePair:
        subject = self.subject()
        return rule(
            "{subject} 欠/1 {recipient} {money}",
            f"{{subject}} {'owes' if subject.third else 'owe'}/1 {{recipient}} {{money}}",
            subject=subject,
            recipient=self.recipient(subject),
            money=word(*self.one(MONEY)),
        )

    def giving(self) -> SentencePair:
        subject = self.subject()
        verb, _, _, past, _ = self.one(GIVING)
        return rule(
            f"{{time}} {{subject}} {verb}/1 了/1? {{recipient}} {{object}}",
            f"{{subject}} {past}/1 {{recipient}} {{object}} {{time}}",
            subject=subject,
            recipient=self.recipient(subject),
            object=self.noun_phrase(THINGS),
            time=word(*self.one(PAST_TIMES)),
        )

    def emphasis(self) -> SentencePair:
        subject = self.subject()
        chinese, english = self.one(EMPHASES)
        verb, base, _ = self.one(ATTITUDES)
        return rule(
            f"{{subject}} {chinese}/1 {verb}/2 {{object}}",
            f"{{subject}} {'does' if subject.third else 'do'}/1?,2? {english}/1 {base}/2 {{object}}",
            subject=subject,
            object=self.noun_phrase(THINGS),
        )

    def question(self) -> SentencePair:
        subject = self.subject()
        verb, base, _ = self.one(ATTITUDES)
        does = "does" if subject.third else "do"
        slots: dict[str, Any] = {"subject": subject, "object": self.noun_phrase(THINGS)}
        if self.chance(0.3):
            return rule(
                f"{{subject}} {verb}/2 {{object}} 吗/1", f"{does}/1,2? {{subject}} {base}/2 {{object}}", **slots
            )
        chinese, english = self.one(QUESTIONS)
        return rule(
            f"{{subject}} {chinese}/1 {verb}/2 {{object}}",
            f"{english}/1 {does}/1?,2? {{subject}} {base}/2 {{object}}",
            **slots,
        )

    def comparison(self) -> SentencePair:
        subject = self.subject()
        chinese, english = self.one(COMPARATIVES)
        beside, preposition = self.one(COMPARED_PREPOSITIONS)
        return rule(
            f"{{subject}} {beside}/1 {{other}} 更/2? {chinese}/2",
            f"{{subject}} {be(subject)}/1?,2? {english}/2 {preposition}/1 {{other}}",
            subject=subject,
            other=self.recipient(subject),
        )

    def description(self) -> SentencePair:
        chinese, english = self.one(ADJECTIVES)
        return rule(f"{{thing}} 很/1 {chinese}/2", f"{{thing}} is/1?,2? {english}/2", thing=self.definite())

    def disposal(self) -> SentencePair:
        verb, _, _, past, _ = self.one(VERBS)
        return rule(
            f"{{subject}} 把/1? {{object}} {verb}/1 了/1?",
            f"{{subject}} {past}/1 {{object}}",
            subject=self.subject(),
            object=self.definite(),
        )

    def passive(self) -> SentencePair:
        verb, _, _, _, participle = self.one(VERBS)
        beside, preposition = self.one(AGENT_PREPOSITIONS)
        return rule(
            f"{{object}} {beside}/1 {{agent}} {verb}/2 了/2?",
            f"{{object}} was/1?,2? {participle}/2 {preposition}/1 {{agent}}",
            object=self.definite(),
            agent=self.recipient(),
        )


def be(subject: SentencePair) -> str:
    """The present of "to be" that agrees with the subject."""
    if subject.target == ("I",):
        return "am"
    return "is" if subject.third else "are"
