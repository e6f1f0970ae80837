"""The pipeline of tags against tags by hand: every strategy, on every station, with a chain and without."""

import itertools
import json
import subprocess
import sys
from statistics import fmean

import pytest
import torch
from transformers import AutoModel, pipeline

from tests.models.stations import STATIONS, TABLES, tokenizers_of_kinds


HEAD = "AutoModelForTokenClassification"
TAGGERS = [name for name in STATIONS if HEAD in TABLES[name].heads]
NAMES = ["O", "B-PER", "I-PER"]
STRATEGIES = ["none", "simple", "first", "average", "max"]
# words between blanks, some of several tokens, and of several lengths
TEXTS = ["Ada remembering the carefuller lantern near Hugo", "Vera", "quietest dogs follow"]


@pytest.fixture(scope="module")
def tagger(tiny_tokenizer, tiny_corpus):
    """station, whether it has a chain -> a tagger and its tokenizer."""
    tokenizers = tokenizers_of_kinds(tiny_tokenizer, tiny_corpus)

    def of(station, use_crf):
        table = TABLES[station]
        tokenizer = tokenizers["characters" if table.token_input == "char_ids" else "plain"]
        names = {"id2label": dict(enumerate(NAMES)), "label2id": {name: i for i, name in enumerate(NAMES)}}
        sizes = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
        model = table.changed_model(HEAD, **sizes, **names, use_crf=use_crf)
        if use_crf:
            # what each tag by itself says is often not what the chain says
            model.crf.transitions.data = torch.tensor([[-2.0, 1, -2], [-2, -2, 1.5], [1, -1, -2]])
        return model, tokenizer

    return of


def tokens_by_hand(model, tokenizer, text) -> list[dict]:
    """The tokens without marks: place, characters, whether a word begins there, and the shares of the tags."""
    encoded = tokenizer(text, return_tensors="pt", return_offsets_mapping=True, return_special_tokens_mask=True)
    marks, offsets = (encoded.pop(name)[0].tolist() for name in ("special_tokens_mask", "offset_mapping"))
    shares = model(**encoded).logits[0].detach().softmax(1)
    return [
        {
            "index": place,
            "start": start,
            "end": end,
            "begins": start == 0 or text[start - 1] == " ",
            "shares": shares[place],
        }
        for place, (start, end) in enumerate(offsets)
        if not marks[place]
    ]


def chain_by_hand(crf, emissions) -> tuple[list[int], torch.Tensor]:
    """The best of all paths over emissions [T, 3], and the shares [T, 3] of paths that have a tag at a place."""
    paths = torch.tensor(list(itertools.product(range(3), repeat=len(emissions))))
    scores = crf.start[paths[:, 0]] + crf.end[paths[:, -1]] + emissions[range(len(emissions)), paths].sum(1)
    scores = (scores + crf.transitions[paths[:, :-1], paths[:, 1:]].sum(1)).detach()
    shares = torch.stack([scores.softmax(0) @ (paths == tag).float() for tag in range(3)], 1)
    return paths[scores.argmax()].tolist(), shares


def units_by_hand(model, tokenizer, text, strategy) -> list[dict]:
    """Tag, score and characters of each token, or of each word."""
    tokens = tokens_by_hand(model, tokenizer, text)
    words = []
    for token in tokens:
        words.append([token]) if token["begins"] else words[-1].append(token)
    units = []
    if model.crf is not None:
        encoded = tokenizer(text, return_tensors="pt")
        logits = model(**encoded).logits[0, [word[0]["index"] for word in words]]
        tags, shares = chain_by_hand(model.crf, logits)
    for number, word in enumerate(words):
        ends = {"start": word[0]["start"], "end": word[-1]["end"]}
        if model.crf is not None:
            tag, score = tags[number], shares[number, tags[number]].item()
            if strategy in ("none", "simple"):
                # the rest of a word goes on inside of it
                of_tokens = [tag, *[{1: 2}.get(tag, tag)] * (len(word) - 1)]
                units += [token | {"tag": t, "score": score} for token, t in zip(word, of_tokens, strict=True)]
            else:
                units.append(ends | {"tag": tag, "score": score})
        elif strategy in ("none", "simple"):
            units += [
                token | {"tag": token["shares"].argmax().item(), "score": token["shares"].max().item()}
                for token in word
            ]
        else:
            vector = {
                "first": word[0]["shares"],
                "average": torch.stack([token["shares"] for token in word]).mean(0),
                "max": max((token["shares"] for token in word), key=torch.max),
            }[strategy]
            units.append(ends | {"tag": vector.argmax().item(), "score": vector.max().item()})
    return [unit | {"tag": NAMES[unit["tag"]]} for unit in units]


def answers_by_hand(model, tokenizer, text, strategy, ignored=("O",)) -> list[dict]:
    units = units_by_hand(model, tokenizer, text, strategy)
    if strategy == "none":
        found = [
            {"entity": unit["tag"], **{key: unit[key] for key in ("score", "index", "start", "end")}} for unit in units
        ]
        return [one for one in found if one["entity"] not in ignored]
    groups = []
    for unit in units:
        kind = unit["tag"].partition("-")[2] or unit["tag"]
        if groups and groups[-1]["entity_group"] == kind and not unit["tag"].startswith("B-"):
            groups[-1]["end"] = unit["end"]
            groups[-1]["scores"].append(unit["score"])
        else:
            groups.append(
                {"entity_group": kind, "start": unit["start"], "end": unit["end"], "scores": [unit["score"]]}
            )
    return [
        group | {"score": fmean(scores)}
        for group in groups
        if (scores := group.pop("scores")) and group["entity_group"] not in ignored
    ]


def assert_same(found, expected, text):
    """Equal answers, whose words are those of the text."""
    for one, other in zip(found, expected, strict=True):
        one = dict(one)
        shown = one.pop("word").removeprefix("##")
        assert shown.lower() == text[one["start"] : one["end"]].lower()
        assert one == other | {"score": pytest.approx(other["score"], abs=1e-5)}


@pytest.mark.filterwarnings("ignore:Tokenizer does not support real words")
@pytest.mark.parametrize("use_crf", [True, False], ids=["chain", "single tags"])
@pytest.mark.parametrize("station", TAGGERS)
def test_every_strategy_tags_as_by_hand(station, use_crf, tagger):
    model, tokenizer = tagger(station, use_crf)
    pipe, differs = pipeline("token-classification", model=model, tokenizer=tokenizer, device="cpu"), False
    for strategy in STRATEGIES:
        options = {"aggregation_strategy": strategy, "ignore_labels": []}
        expected = [answers_by_hand(model, tokenizer, text, strategy, ()) for text in TEXTS]
        for batch_size in (1, 3):
            for text, found, other in zip(TEXTS, pipe(TEXTS, batch_size=batch_size, **options), expected, strict=True):
                assert_same(found, other, text)
        # a generator, and without the tag O
        found = pipe((text for text in TEXTS), aggregation_strategy=strategy)
        for text, of_text in zip(TEXTS, found, strict=True):
            assert_same(of_text, answers_by_hand(model, tokenizer, text, strategy), text)
        differs = differs or any(
            {one.get("entity") for one in answer} != {one.get("entity_group") for one in answer} for answer in expected
        )
    assert differs
    if tokenizer.backend_tokenizer.model.__class__.__name__ == "WordPiece":
        assert not all(token["begins"] for token in tokens_by_hand(model, tokenizer, TEXTS[0]))


@pytest.mark.parametrize("station", TAGGERS)
def test_given_words_are_those_that_decode_tags(station, tagger):
    """As in training, only the first token of each word is part of the chain; words may have marks."""
    model, tokenizer = tagger(station, True)
    pipe = pipeline("token-classification", model=model, tokenizer=tokenizer, device="cpu", ignore_labels=[])
    texts = [["Ada's", "dogs", "remember", "U.S."], ["three", "rivers"]]
    for words, of_text in zip(texts, pipe(texts, is_split_into_words=True, batch_size=2), strict=True):
        encoded = tokenizer([words], is_split_into_words=True, return_tensors="pt")
        owners = encoded.word_ids(0)
        first = [owner is not None and owner not in owners[:place] for place, owner in enumerate(owners)]
        mask = torch.tensor([first]).long()
        logits = model(**encoded).logits
        tags, shares = model.decode(logits, mask)[0], model.probabilities(logits, mask)[0]
        found = {one["index"]: (one["entity"], pytest.approx(one["score"], abs=1e-6)) for one in of_text}
        places = [place for place, is_first in enumerate(first) if is_first]
        assert len(places) == len(words)
        expected = [(NAMES[tags[place]], shares[place, tags[place]].item()) for place in places]
        assert expected == [found[place] for place in places]
        begins = [len(" ".join(words[:number])) + (number > 0) for number in range(len(words))]
        ends = [begin + len(word) for begin, word in zip(begins, words, strict=True)]
        for strategy in STRATEGIES[1:]:
            # no word is cut, whatever its marks
            [grouped] = pipe([words], is_split_into_words=True, aggregation_strategy=strategy)
            assert {one["start"] for one in grouped} <= {*begins}
            assert {one["end"] for one in grouped} <= {*ends}


@pytest.mark.parametrize("marks", ["BIIB", "BIES", "BMES", "BILU"])
def test_entities_of_every_scheme_are_grouped(marks, tagger):
    model, tokenizer = tagger("LSTM", False)
    pipe = pipeline("token-classification", model=model, tokenizer=tokenizer, device="cpu")
    begin, inner, end, single = (f"{mark}-PER" for mark in marks)
    tags = [begin, inner, end, single, begin, end, "O", "X", f"{marks[3]}-LOC", "X"]
    tokens = [{"entity": tag, "score": 0.5, "word": "dog", "start": i, "end": i + 1} for i, tag in enumerate(tags)]
    found = [(one["entity_group"], one["start"], one["end"]) for one in pipe.group_entities(tokens)]
    entities = [("PER", 0, 3), ("PER", 3, 4), ("PER", 4, 6), ("O", 6, 7), ("X", 7, 8), ("LOC", 8, 9), ("X", 9, 10)]
    assert found == entities


def test_the_chain_is_not_the_softmax(tagger):
    """What this file is about: the answers that the plain pipeline of transformers gives are others."""
    for station in TAGGERS:
        model, tokenizer = tagger(station, True)
        single = [NAMES[token["shares"].argmax()] for token in tokens_by_hand(model, tokenizer, TEXTS[0])]
        assert [unit["tag"] for unit in units_by_hand(model, tokenizer, TEXTS[0], "none")] != single


@pytest.mark.parametrize(
    "station", [name if name == "LSTM" else pytest.param(name, marks=pytest.mark.slow) for name in TAGGERS]
)
def test_the_chain_travels_with_the_model(station, tagger, tmp_path):
    """Where the package is not installed, the repository's own pipeline decodes with the chain."""
    model, tokenizer = tagger(station, True)
    model.save_pretrained(tmp_path / "saved")
    tokenizer.save_pretrained(tmp_path / "saved")
    script = f"""
import json, sys
sys.modules["hf_lineage"] = None
from transformers import pipeline
for task in ("token-classification", None):
    pipe = pipeline(task, model={str(tmp_path / "saved")!r}, device="cpu", trust_remote_code=True)
    for strategy in ("none", "first"):
        print(json.dumps(pipe({TEXTS[0]!r}, aggregation_strategy=strategy), default=float))
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 0, result.stderr[-2000:]
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    for found, strategy in zip(lines, ("none", "first") * 2, strict=True):
        assert_same(found, answers_by_hand(model, tokenizer, TEXTS[0], strategy), TEXTS[0])
    # with the package it needs no trust, and a head without a chain brings no pipeline
    [ours] = pipeline("token-classification", model=str(tmp_path / "saved"), device="cpu")(TEXTS[:1])
    assert_same(ours, answers_by_hand(model, tokenizer, TEXTS[0], "none"), TEXTS[0])
    for other in (tagger(station, False)[0], AutoModel.from_pretrained(tmp_path / "saved")):
        other.save_pretrained(tmp_path / "other")
        assert "custom_pipelines" not in json.loads((tmp_path / "other" / "config.json").read_text())
