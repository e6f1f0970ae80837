"""Scores of taggers: accuracy per word and, where the tags mark entities, precision, recall and F1 as seqeval's."""

from collections import Counter
from collections.abc import Sequence


# of BMES (Chinese names) and BILOU -> of IOBES, which seqeval knows
SAME_MARKS = {"M-": "I-", "L-": "E-", "U-": "S-"}
MARKS = ("B-", "I-", "E-", "S-", *SAME_MARKS)


def score_tags(expected: Sequence[Sequence[str]], found: Sequence[Sequence[str]]) -> dict[str, float]:
    """Tags of the words of each sentence, as they are and as they were found -> scores by name.

    If all expected tags are O or begin as in IOB, IOBES, BMES or BILOU, entities count too, each as a whole. Needs
    seqeval (extra `finetune`).
    """
    # imported here, since it is an extra
    from seqeval.metrics import f1_score, precision_score, recall_score

    pairs = [pair for gold, answer in zip(expected, found, strict=True) for pair in zip(gold, answer, strict=True)]
    scores = {"accuracy": sum(gold == answer for gold, answer in pairs) / max(len(pairs), 1)}
    if all(gold == "O" or gold.startswith(MARKS) for gold, _ in pairs):
        expected, found = (
            [[SAME_MARKS.get(tag[:2], tag[:2]) + tag[2:] for tag in tags] for tags in texts]
            for texts in (expected, found)
        )
        for title, function in (("precision", precision_score), ("recall", recall_score), ("f1", f1_score)):
            scores[title] = float(function(expected, found, zero_division=0))
    return scores


def majority_tags(words: Sequence[Sequence[str]], tags: Sequence[Sequence[str]]) -> tuple[str, dict[str, str]]:
    """The most frequent tag of a training text, and that of each of its words: what a tagger must beat."""
    overall, by_word = Counter(), {}
    for of_words, of_tags in zip(words, tags, strict=True):
        overall.update(of_tags)
        for word, tag in zip(of_words, of_tags, strict=True):
            by_word.setdefault(word, Counter())[tag] += 1
    # the first of equal ones by name, whatever their order
    best = {word: min(counts, key=lambda tag: (-counts[tag], tag)) for word, counts in by_word.items()}
    return min(overall, key=lambda tag: (-overall[tag], tag)), best
