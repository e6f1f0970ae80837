"""Sentence pairs: the released algorithm's spans and shares, and that every example is a function of its number."""

import copy
import itertools

import datasets
import numpy as np
import pytest
import torch
from accelerate import skip_first_batches
from tokenizers import normalizers
from torch.utils.data import DataLoader

from hf_lineage.data import (
    CorpusError,
    PackingCollator,
    Phases,
    SentencePairs,
    SentenceStream,
    StreamedSentencePairs,
    TextEncoder,
    encode_sentences,
    load_corpus,
    sentence_pairs,
    split_sentences,
)
from hf_lineage.data.sentence_pairs import PairPlanner
from hf_lineage.tokenization import train_wordpiece
from tests.data.test_encoding import ODD_TEXTS
from tests.data.test_masking import within


def numbered_documents(lengths: list[list[int]]) -> SentenceStream:
    """Documents of sentences of these lengths whose tokens are all different."""
    token = iter(range(10**9))
    return SentenceStream.of([[[next(token) for _ in range(n)] for n in document] for document in lengths])


def random_documents(count, sentences, longest, seed=0):
    draw = np.random.default_rng(seed)
    lengths = [draw.integers(1, longest + 1, size=draw.integers(1, sentences + 1)).tolist() for _ in range(count)]
    return numbered_documents(lengths)


def plans(stream, max_length, short_probability=0.1, seed=0):
    planner = PairPlanner(stream, max_length, short_probability)
    return [planner.plan(number, np.random.default_rng([seed, number])) for number in range(stream.num_documents)]


def bounds_of(stream, document):
    first, last = stream.document_starts[document : document + 2]
    return stream.sentence_starts[first], stream.sentence_starts[last]


@pytest.mark.parametrize("max_length", [16, 40, 128])
def test_spans_are_what_their_label_says(max_length):
    stream = random_documents(300, 30, 12)
    for document, pairs in enumerate(plans(stream, max_length)):
        begin, end = bounds_of(stream, document)
        for a0, a1, b0, b1, is_random in pairs:
            assert begin <= a0 < a1 <= end
            assert b0 < b1
            assert a1 - a0 + b1 - b0 <= max_length - 3
            if is_random:
                assert b1 <= begin or b0 >= end
            else:
                assert a1 <= b0
                assert b1 <= end
                # nothing lies between A and B but what truncation took
                if a1 - a0 + b1 - b0 < max_length - 3:
                    assert a1 == b0


def test_every_token_is_read_where_nothing_is_cut():
    # sentences far shorter than a pair, so that only ends of chunks are ever too long
    stream = numbered_documents([[1] * 200 for _ in range(50)])
    for document, pairs in enumerate(plans(stream, 43)):
        begin, end = bounds_of(stream, document)
        read = np.zeros(end - begin, dtype=int)
        for a0, a1, b0, b1, is_random in pairs:
            read[a0 - begin : a1 - begin] += 1
            if not is_random:
                read[b0 - begin : b1 - begin] += 1
        # what a random second span displaced was put back and read again as a first one
        assert (read == 1).all()


def tokens_seen(stream, spans):
    """How many pairs have each token."""
    seen = np.zeros(len(stream.tokens) + 1, dtype=int)
    for begin, end in (spans[:, :2].T, spans[:, 2:4].T):
        np.add.at(seen, begin, 1)
        np.add.at(seen, end, -1)
    return seen.cumsum()[:-1]


@pytest.mark.parametrize(
    "documents",
    [
        [[500]] * 30,  # text without marks
        [[70]] * 60 + [[3]] * 60,
        [[90, 90, 90]] * 40,
        [[1, 300, 2]] * 40,
        [[60, 65]] * 40,
    ],
)
def test_no_token_is_in_no_pair(documents, tiny_tokenizer):
    stream = numbered_documents(documents)
    data = SentencePairs(stream, tiny_tokenizer, 128, duplicates=20)
    assert tokens_seen(stream, data.spans).min() >= 1
    # text without marks has pairs that are next, too
    if documents[0] == [500]:
        assert not data.is_random.all()


def test_long_sentences_are_cut_into_like_parts():
    stream = numbered_documents([[3, 25], [10], [11, 1]])
    cut = stream.cut(10)
    assert np.diff(cut.sentence_starts).tolist() == [3, 8, 8, 9, 10, 5, 6, 1]
    assert np.diff(cut.document_starts).tolist() == [4, 1, 3]
    assert cut.tokens is stream.tokens
    assert stream.cut(25) is stream


def test_half_are_next_but_in_short_documents():
    stream = numbered_documents([[1] * 1_000 for _ in range(60)])
    labels = [pair[4] for pairs in plans(stream, 43, short_probability=0.0) for pair in pairs[:-1]]
    assert within(sum(labels), len(labels), 0.5)
    single = numbered_documents([[5]] * 40)
    assert all(pair[4] for pairs in plans(single, 43) for pair in pairs)
    few = numbered_documents([[20, 20, 20]] * 400)
    share = np.mean([pair[4] for pairs in plans(few, 43) for pair in pairs])
    assert share > 0.6


def test_a_tenth_of_the_documents_is_cut_short():
    # sentences of one token: a first pair that is next holds exactly the target
    stream = numbered_documents([[1] * 101 for _ in range(4_000)])
    first = [pairs[0] for pairs in plans(stream, 103)]
    totals = np.array([a1 - a0 + b1 - b0 for a0, a1, b0, b1, is_random in first if not is_random])
    short = totals[totals < 100]
    # 1 in 99 of the random targets from 2 to 100 is the full length
    assert within(len(short), len(totals), 0.1 * 98 / 99)
    assert short.min() >= 2
    assert abs(short.mean() - 50.5) < 4.5 * 28.3 / np.sqrt(len(short))


def test_the_middle_is_anywhere():
    stream = numbered_documents([[1] * 40 for _ in range(2_000)])
    first = np.array([pairs[0][1] - pairs[0][0] for pairs in plans(stream, 43, short_probability=0.0)])
    counts = np.bincount(first, minlength=40)
    assert counts[0] == 0
    assert (np.abs(counts[1:40] - 2_000 / 39) < 5 * np.sqrt(2_000 / 39)).all()


def truncated_one_by_one(a, b, limit, draw):
    """truncate_seq_pair as released: one token at a time."""
    a, b = list(a), list(b)
    while len(a) + len(b) > limit:
        longer = a if len(a) > len(b) else b
        if draw.random() < 0.5:
            del longer[0]
        else:
            longer.pop()
    return a[0], len(a), b[0], len(b)


@pytest.mark.parametrize(
    ("a", "b"), [(3, 40), (40, 3), (30, 31), (31, 30), (9, 9), (10, 10), (9, 10), (60, 60), (5, 5)]
)
@pytest.mark.parametrize("limit", [18, 19])
def test_truncation_is_the_released_one(a, b, limit):
    planner = PairPlanner(numbered_documents([[200], [200]]), limit + 3)
    found, expected = [], []
    for seed in range(300):
        a0, a1, b0, b1 = planner._truncated((0, a), (100, 100 + b), np.random.default_rng(seed))
        found.append((a0, a1 - a0, b0, b1 - b0))
        expected.append(truncated_one_by_one(range(a), range(100, 100 + b), limit, np.random.default_rng(seed)))
    found, expected = np.array(found), np.array(expected)
    assert (found[:, [1, 3]] == expected[:, [1, 3]]).all()
    for start in (0, 2):
        spread = expected[:, start].std() + 1e-9
        assert abs(found[:, start].mean() - expected[:, start].mean()) <= 5 * spread * np.sqrt(2 / 300)
        assert found[:, start].std() == pytest.approx(expected[:, start].std(), rel=0.25)


# examples


@pytest.fixture
def corpus(tiny_corpus):
    documents = [tiny_corpus[start : start + 8] for start in range(0, 200, 8)]
    return datasets.Dataset.from_dict({"text": ["\n".join(document) for document in documents] + [" \n "]})


@pytest.fixture
def stream(corpus, tiny_tokenizer):
    return encode_sentences(corpus, tiny_tokenizer)


def test_sentences_are_encoded_one_by_one(corpus, stream, tiny_tokenizer):
    assert stream.num_documents == 25
    sentences = [line for text in corpus["text"] for line in text.split("\n") if line.strip()]
    expected = tiny_tokenizer(sentences, add_special_tokens=False).input_ids
    assert [ids.tolist() for ids in np.split(stream.tokens, stream.sentence_starts[1:-1])] == expected
    assert stream.tokens.dtype == np.int32
    assert stream.document_starts.tolist() == list(range(0, 201, 8))


@pytest.mark.parametrize("by_chunk", [True, False])
def test_sentences_of_odd_texts_have_the_tokenizers_ids(tiny_tokenizer, by_chunk):
    tokenizer = copy.deepcopy(tiny_tokenizer)
    if not by_chunk:
        tokenizer.backend_tokenizer.normalizer = normalizers.Replace("  ", "_")
    assert TextEncoder(tokenizer).by_chunk is by_chunk
    texts = ["\n".join(ODD_TEXTS), "", "\u200b", "\n".join(reversed(ODD_TEXTS))]
    stream = encode_sentences(datasets.Dataset.from_dict({"text": texts}), tokenizer)
    documents = [
        tokenizer(split_sentences(text), add_special_tokens=False).input_ids if text else [] for text in texts
    ]
    expected = SentenceStream.of(documents)
    assert expected.num_documents >= 2
    for name in ("tokens", "sentence_starts", "document_starts"):
        assert getattr(stream, name).tolist() == getattr(expected, name).tolist()


@pytest.fixture
def corpus_on_disk(corpus, tmp_path):
    """Only what was read from a file has a cache that outlives the process."""
    corpus.to_parquet(tmp_path / "corpus.parquet")
    files = {"train": str(tmp_path / "corpus.parquet")}
    return datasets.load_dataset("parquet", data_files=files, cache_dir=str(tmp_path))["train"]


def test_the_cache_is_of_one_tokenizer_and_rule(corpus_on_disk, tiny_corpus, tiny_tokenizer, monkeypatch):
    first = encode_sentences(corpus_on_disk, tiny_tokenizer).tokens.tolist()
    other = train_wordpiece(tiny_corpus, vocab_size=120, show_progress=False)
    assert encode_sentences(corpus_on_disk, other).tokens.tolist() != first
    monkeypatch.setattr(TextEncoder, "__call__", lambda *_: pytest.fail("tokenized again"))
    assert encode_sentences(corpus_on_disk, tiny_tokenizer).tokens.tolist() == first
    monkeypatch.setattr(sentence_pairs, "_ENCODING_VERSION", sentence_pairs._ENCODING_VERSION + 1)
    with pytest.raises(pytest.fail.Exception, match="tokenized again"):
        encode_sentences(corpus_on_disk, tiny_tokenizer)


def test_splitting_sentences():
    text = 'He came. "Why?" she said. (Nobody knew.) It was 3.5 miles!\nNew line'
    assert split_sentences(text) == ["He came.", '"Why?" she said.', "(Nobody knew.)", "It was 3.5 miles!", "New line"]


LANGUAGES = {
    "zh": "他走了。“天黑了！”她说。我们去哪里？今天很好。",
    "ru": "Он ушёл. Стало темно! Куда нам идти? Сегодня хорошо.",
    "lower-cased": "he left. it grew dark! where do we go? the day is fine.",
    "hi": "वह चला गया। अंधेरा हो गया। हम कहाँ जाएँ? आज अच्छा है।",
}


@pytest.mark.parametrize("name", LANGUAGES)
def test_texts_of_all_scripts_have_pairs_that_are_next(name, tiny_tokenizer, recwarn):
    corpus = datasets.Dataset.from_dict({"text": [LANGUAGES[name] * 20] * 30})
    stream = encode_sentences(corpus, tiny_tokenizer)
    assert stream.single_sentence_share == 0
    data = SentencePairs(stream, tiny_tokenizer, 64)
    assert 0.4 < data.is_random.mean() < 0.6
    assert not [warning for warning in recwarn if "one sentence" in str(warning.message)]
    examples = StreamedSentencePairs(corpus.to_iterable_dataset(), tiny_tokenizer, 64)
    assert 0.4 < np.mean([example["next_sentence_label"] for example in examples]) < 0.6


def test_the_language_is_told(tiny_tokenizer):
    corpus = datasets.Dataset.from_dict({"text": ["Am 3. Oktober. Er kam."] * 2})
    counts = [
        len(encode_sentences(corpus, tiny_tokenizer, language=code).sentence_starts) - 1 for code in (None, "de")
    ]
    assert counts == [6, 4]
    for language, number in ((None, 3), ("de", 2)):
        streamed = StreamedSentencePairs(corpus.to_iterable_dataset(), tiny_tokenizer, language=language)
        assert len(streamed.split(corpus["text"][0])) == number
    # other rules are told it too
    encode_sentences(corpus, tiny_tokenizer, language="de", split=lambda text, language: [language, text])


def test_documents_of_one_sentence_are_counted_aloud(tiny_tokenizer):
    corpus = datasets.Dataset.from_dict({"text": ["The dog ran. The cat slept."] * 3 + ["The dog ran."] * 1})
    with pytest.warns(UserWarning, match="25% of the 4 documents have one sentence.*sample_by"):
        encode_sentences(corpus, tiny_tokenizer)
    with pytest.warns(UserWarning, match="25% of the 4 documents"):
        list(StreamedSentencePairs(corpus.to_iterable_dataset(), tiny_tokenizer))


def test_every_token_of_chinese_novels_is_in_a_pair(shared_data):
    texts = list(itertools.islice(load_corpus(shared_data / "lm_zh_novels", "train", streaming=True)["text"], 400))
    tokenizer = train_wordpiece(texts, 4_000, show_progress=False)
    stream = encode_sentences(datasets.Dataset.from_dict({"text": texts}), tokenizer)
    # a paragraph is a document here, so that a few have one sentence
    assert stream.single_sentence_share < 0.3
    data = SentencePairs(stream, tokenizer)
    assert tokens_seen(stream, data.spans).min() >= 1
    assert data.is_random.mean() < 0.7


def test_an_example_is_cls_a_sep_b_sep(stream, tiny_tokenizer):
    data = SentencePairs(stream, tiny_tokenizer, 40, duplicates=2, shuffle=False)
    special = {tiny_tokenizer.cls_token_id, tiny_tokenizer.sep_token_id}
    for index in range(len(data)):
        example, (a0, a1, b0, b1) = data[index], data.spans[index]
        a, b = stream.tokens[a0:a1].tolist(), stream.tokens[b0:b1].tolist()
        labels = example["labels"]
        restored = torch.where(labels == -100, example["input_ids"], labels)
        cls, sep = tiny_tokenizer.cls_token_id, tiny_tokenizer.sep_token_id
        assert restored.tolist() == [cls, *a, sep, *b, sep]
        assert example["token_type_ids"].tolist() == [0] * (len(a) + 2) + [1] * (len(b) + 1)
        assert example["next_sentence_label"] == data.is_random[index]
        assert not special.intersection(labels.tolist())
        assert len(labels) <= 40


def same(first: dict, second: dict) -> bool:
    return all(torch.equal(torch.as_tensor(first[name]), torch.as_tensor(second[name])) for name in first)


@pytest.mark.parametrize("dynamic", [False, True])
def test_examples_are_functions_of_seed_epoch_and_index(stream, tiny_tokenizer, dynamic):
    def data(seed=3):
        return SentencePairs(stream, tiny_tokenizer, 40, seed=seed, duplicates=2, dynamic_masking=dynamic)

    first, second = data(), data()
    second.epoch = 5
    assert [second[0]]
    second.epoch = 0
    assert all(same(first[index], second[index]) for index in reversed(range(len(first))))
    assert not all(same(a, b) for a, b in zip(first, data(seed=4), strict=False))
    # the same pair in another epoch: masked anew only if so asked
    order = [first._order_of(epoch).tolist() for epoch in (0, 1)]
    assert order[0] != order[1]
    places = [(order[0].index(index), order[1].index(index)) for index in range(30)]
    unchanged = [same(first.at(0, before), first.at(1, after)) for before, after in places]
    assert all(unchanged) if not dynamic else sum(unchanged) < 15


def test_each_duplicate_is_cut_otherwise(stream, tiny_tokenizer):
    data = SentencePairs(stream, tiny_tokenizer, 40, duplicates=3)
    spans = [tuple(span) for span in data.spans.tolist()]
    assert len(set(spans)) > 0.8 * len(spans)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_length": 4}, "max_length is 4.* 5"),
        ({"duplicates": 0}, "duplicates is 0"),
        ({"short_probability": 2}, "short_probability is 2"),
    ],
)
def test_bad_settings_are_named(stream, tiny_tokenizer, settings, message):
    with pytest.raises(ValueError, match=message):
        SentencePairs(stream, tiny_tokenizer, **settings)


def test_one_document_is_not_enough(tiny_tokenizer):
    corpus = datasets.Dataset.from_dict({"text": ["The dog.\nThe cat.", " "]})
    with pytest.raises(CorpusError, match="1 documents with text.*sample_by line.*validation_share"):
        encode_sentences(corpus, tiny_tokenizer)
    with pytest.raises(CorpusError, match="1 documents with text"):
        next(iter(StreamedSentencePairs(corpus.to_iterable_dataset(), tiny_tokenizer)))


# streaming


def restored(example):
    return torch.where(example["labels"] == -100, example["input_ids"], example["labels"]).tolist()


def as_tuples(examples) -> list[tuple]:
    return [
        tuple(tuple(torch.as_tensor(value).flatten().tolist()) for value in example.values()) for example in examples
    ]


@pytest.fixture
def streamed(corpus, tiny_tokenizer, monkeypatch):
    """Makes pairs of 25 documents in 3 shards and one that is blank, 6 of them read together: 4 groups."""
    monkeypatch.setattr("hf_lineage.data.sentence_pairs._READ_AHEAD", 6)

    def make(seed=1, **settings):
        shards = corpus.to_iterable_dataset(num_shards=3)
        return StreamedSentencePairs(shards, tiny_tokenizer, 40, seed=seed, **settings)

    return make


def test_streamed_pairs_read_everything_and_repeat(corpus, streamed, tiny_tokenizer):
    once, twice = list(streamed()), list(streamed(passes=2))
    assert as_tuples(once) == as_tuples(twice[: len(once)])
    assert 1.5 * len(once) < len(twice) < 2.5 * len(once)
    # cut and masked otherwise in each pass and by another seed
    for other in (twice[len(once) :], list(streamed(seed=2))):
        common = set(as_tuples(once)) & set(as_tuples(other))
        assert len(common) < 0.1 * len(once)
    seen = {token for example in once for token in restored(example)}
    stream = encode_sentences(corpus, tiny_tokenizer)
    assert seen.issuperset(stream.tokens.tolist())
    share = np.mean([example["next_sentence_label"] for example in once])
    assert 0.4 < share < 0.9
    masked = sum((example["labels"] != -100).sum() for example in once)
    assert masked == sum(max(1, round(0.15 * len(example["labels"]))) for example in once)


# with 5, more workers than shards and than groups
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("num_workers", [2, 5])
def test_workers_give_the_pairs_of_one_process(streamed, num_workers):
    # numbers, not tensors, leave the workers: each tensor would be shared by a file
    workers = {"num_workers": num_workers, "multiprocessing_context": "fork", "collate_fn": as_tuples}
    loader = DataLoader(streamed(passes=2), batch_size=8, **workers)
    expected = as_tuples(streamed(passes=2))
    found = list(itertools.chain.from_iterable(loader))
    assert found != expected
    assert sorted(found) == sorted(expected)
    assert list(itertools.chain.from_iterable(loader)) == found


@pytest.mark.parametrize("num_workers", [0, 2])
def test_streamed_pairs_go_on_after_those_that_are_skipped(streamed, num_workers):
    def loader():
        workers = {"num_workers": num_workers, "multiprocessing_context": "fork" if num_workers else None}
        return DataLoader(streamed(passes=None), batch_size=4, collate_fn=as_tuples, **workers)

    # the second pass begins before the skipped ones end
    assert len(list(streamed())) < 4 * 40
    whole = list(itertools.islice(loader(), 50))
    assert list(itertools.islice(skip_first_batches(loader(), 40), 10)) == whole[40:]


# batches and phases


def test_packing_joins_examples():
    examples = [
        {"input_ids": [1, 2, 3], "attention_mask": [1, 1, 1], "labels": [4, -100, 5], "next_sentence_label": 1},
        {"input_ids": [6], "attention_mask": [1], "labels": [-100], "next_sentence_label": 0},
    ]
    batch = PackingCollator()(examples)
    assert {name: value.tolist() for name, value in batch.items()} == {
        "input_ids": [[1, 2, 3, 6]],
        "labels": [[4, -100, 5, -100]],
        "next_sentence_label": [1, 0],
        "cu_seq_lens_q": [0, 3, 4],
    }
    assert batch["cu_seq_lens_q"].dtype == torch.int32
    one_label = PackingCollator()([{"input_ids": torch.tensor([1, 2]), "label": 2}])
    assert one_label["labels"].tolist() == [2]
    with pytest.raises(ValueError, match="example 1 "):
        PackingCollator()([{"input_ids": [1]}, {"input_ids": []}])


def test_packing_does_not_guess_by_length():
    # as many classes as tokens, in every text of the batch
    examples = [
        {"input_ids": [1, 2, 3], "labels": [1.0, 0.0, 1.0]},
        {"input_ids": [4, 5, 6], "labels": [0.0, 0.0, 1.0]},
    ]
    assert PackingCollator()(examples)["labels"].tolist() == [[1, 0, 1], [0, 0, 1]]
    # a vector of the text as long as the text, and a field per token that is named
    examples = [
        {"input_ids": [1, 2], "bounds": [0, 1], "tags": [7, 8]},
        {"input_ids": [3, 4], "bounds": [1, 0], "tags": [9, 9]},
    ]
    batch = PackingCollator(per_token=["tags"])(examples)
    assert batch["bounds"].tolist() == [[0, 1], [1, 0]]
    assert batch["tags"].tolist() == [[7, 8, 9, 9]]
    with pytest.raises(ValueError, match=r"labels of example 1 .* shape \[3\], its text 2 tokens"):
        PackingCollator()([{"input_ids": [1, 2], "labels": [1, 2]}, {"input_ids": [1, 2], "labels": [1, 2, 3]}])


def test_phases_are_read_one_after_the_other(stream, tiny_tokenizer):
    short, long = (SentencePairs(stream, tiny_tokenizer, n, duplicates=1, seed=2) for n in (20, 60))
    sizes = (2 * len(short) + 3, 5)
    phases = Phases([short, long], sizes)
    assert len(phases) == sum(sizes)
    assert same(phases[0], short.at(0, 0))
    assert same(phases[len(short) + 1], short.at(1, 1))
    assert same(phases[2 * len(short)], short.at(2, 0))
    assert same(phases[sizes[0] + 4], long.at(0, 4))
    with pytest.raises(IndexError, match=f"position {sum(sizes)}"):
        phases[sum(sizes)]
