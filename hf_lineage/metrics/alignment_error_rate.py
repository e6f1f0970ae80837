"""Alignment error rate (Och and Ney, 2003, section 5): the quality of links between the words of two sentences."""

import re

import evaluate
from datasets import Features, Value


LINK = re.compile(r"(\d+)([-?])(\d+)")


def parse_links(text: str) -> tuple[set[tuple[int, int]], set[tuple[int, int]]]:
    """Links in the Pharaoh format, "0-0 1?2", counted from 0 -> (sure, possible); possible links include sure ones.

    Raises:
        ValueError: an item is not a link.
    """
    sure, possible = set(), set()
    for item in text.split():
        link = LINK.fullmatch(item)
        if link is None:
            raise ValueError(f"{item!r} in {text!r} is not a link; write 3-5, or 3?5 if it is only possible")
        pair = int(link[1]), int(link[3])
        possible.add(pair)
        if link[2] == "-":
            sure.add(pair)
    return sure, possible


class AlignmentErrorRate(evaluate.Metric):
    """AER = 1 − (|A ∩ S| + |A ∩ P|) / (|A| + |S|) of the found links A, with sure links S and possible links P ⊇ S.

    Each prediction and reference holds the links of a sentence pair in the Pharaoh format, "0-0 1-2"; in references,
    "1?2" is a possible link. Links are summed over all sentences. Gives aer, precision |A ∩ P| / |A| and recall
    |A ∩ S| / |S|, all from 0 to 1, or NaN if the divisor is 0.
    """

    def _info(self):
        features = Features({"predictions": Value("string"), "references": Value("string")})
        citation = "Och and Ney, 2003, A Systematic Comparison of Various Statistical Alignment Models"
        return evaluate.MetricInfo(description=type(self).__doc__, citation=citation, features=features)

    def _compute(self, predictions, references):
        found_sure = found_possible = found_all = sure_all = 0
        for prediction, reference in zip(predictions, references, strict=True):
            _, found = parse_links(prediction)
            sure, possible = parse_links(reference)
            found_sure += len(found & sure)
            found_possible += len(found & possible)
            found_all += len(found)
            sure_all += len(sure)
        return {
            "aer": 1 - _ratio(found_sure + found_possible, found_all + sure_all),
            "precision": _ratio(found_possible, found_all),
            "recall": _ratio(found_sure, sure_all),
        }


def _ratio(part, whole):
    return part / whole if whole else float("nan")
