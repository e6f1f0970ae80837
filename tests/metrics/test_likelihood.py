"""Log-probabilities against one forward a token, minimal pairs, and the heuristics without training."""

import itertools
import math

import pytest
import torch
import transformers
from transformers import BertConfig, BertForMaskedLM

from hf_lineage import (
    BERTConfig,
    BERTForMaskedLM,
    ELMoConfig,
    ELMoForPreTraining,
    GPTConfig,
    GPTForCausalLM,
    LSTMConfig,
    LSTMForCausalLM,
)
from hf_lineage.metrics import (
    continuation_log_probabilities,
    directional_log_probabilities,
    measure_minimal_pairs,
    pseudo_log_probabilities,
)
from hf_lineage.metrics.zero_shot import acceptability, answers, best_threshold, referents, sentiment
from hf_lineage.tokenization import causal_tokenizer, elmo_tokenizer, train_word_level, train_wordpiece


TEXTS = ["the dog barks", "the dogs bark very loud", "cats", "the cats sleep"]
SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "initializer_range": 0.5}
ATTENTION = {"num_attention_heads": 2, "intermediate_size": 32, "max_position_embeddings": 32}


@pytest.fixture(scope="module")
def masked_tokenizer():
    return train_word_level([*TEXTS, "positive negative it because who a b"], show_progress=False)


@pytest.fixture(scope="module")
def tokenizer(masked_tokenizer):
    return causal_tokenizer(masked_tokenizer)


@pytest.fixture(params=["GPT", "LSTM"])
def model(request, tokenizer):
    transformers.set_seed(0)
    if request.param == "GPT":
        return GPTForCausalLM(GPTConfig(vocab_size=len(tokenizer), **SMALL, **ATTENTION)).train()
    return LSTMForCausalLM(LSTMConfig(vocab_size=len(tokenizer), **SMALL)).train()


class Knowing(torch.nn.Module):
    """A language model that only knows a table: how likely each token is after each."""

    device, training = torch.device("cpu"), False

    def __init__(self, tokenizer, likely: dict[str, str]):
        super().__init__()
        self.table = torch.zeros(len(tokenizer), len(tokenizer))
        for before, after in likely.items():
            self.table[tokenizer.convert_tokens_to_ids(before), tokenizer.convert_tokens_to_ids(after)] = 5.0

    def can_generate(self):
        return True

    def forward(self, input_ids, attention_mask=None, use_cache=None):
        return transformers.modeling_outputs.CausalLMOutput(logits=self.table[input_ids])


def one_by_one(model, tokenizer, context, continuation):
    model.eval()
    ids = [tokenizer.eos_token_id, *tokenizer(context, add_special_tokens=False)["input_ids"]]
    expected = []
    for token in tokenizer(continuation, add_special_tokens=False)["input_ids"]:
        expected.append(model(torch.tensor([ids])).logits[0, -1].log_softmax(0)[token].item())
        ids.append(token)
    return expected


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_continuations_are_scored_token_by_token(model, tokenizer, batch_size):
    pairs = [("", text) for text in TEXTS] + [("the dog", " barks very loud"), ("the dogs bark", "")]
    options = {"batch_size": batch_size, "show_progress": False}
    found = continuation_log_probabilities(model, tokenizer, pairs, **options)
    assert model.training
    for pair, scores in zip(pairs, found, strict=True):
        assert scores.tolist() == pytest.approx(one_by_one(model, tokenizer, *pair), abs=1e-5)
    assert continuation_log_probabilities(model, tokenizer, [], **options) == []


def test_a_first_token_without_a_start_has_no_probability(tokenizer, model):
    plain = train_word_level(TEXTS, special_tokens={"unk_token": "<unk>"}, show_progress=False)
    model.resize_token_embeddings(len(plain))
    found = continuation_log_probabilities(model, plain, [("", "the dog barks"), ("the", "dog")], show_progress=False)
    assert [len(scores) for scores in found] == [2, 1]
    ids = plain("the dog barks", return_tensors="pt")["input_ids"]
    expected = model.eval()(ids).logits[0].log_softmax(1)
    assert found[0].tolist() == pytest.approx([expected[0, ids[0, 1]].item(), expected[1, ids[0, 2]].item()], abs=1e-5)


@pytest.mark.parametrize("kind", ["ours", "theirs"])
@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_tokens_are_masked_in_turn(masked_tokenizer, kind, batch_size):
    transformers.set_seed(0)
    config_class, model_class = {"ours": (BERTConfig, BERTForMaskedLM), "theirs": (BertConfig, BertForMaskedLM)}[kind]
    model = model_class(config_class(vocab_size=len(masked_tokenizer), **SMALL, **ATTENTION)).eval()
    texts = [*TEXTS, "unheard dog", ""]
    found = pseudo_log_probabilities(model, masked_tokenizer, texts, batch_size=batch_size, show_progress=False)
    for text, scores in zip(texts, found, strict=True):
        ids, expected = masked_tokenizer(text, return_tensors="pt")["input_ids"], []
        for place in range(1, ids.shape[1] - 1):
            hidden = ids.clone()
            hidden[0, place] = masked_tokenizer.mask_token_id
            expected.append(model(hidden).logits[0, place].log_softmax(0)[ids[0, place]].item())
        assert scores.tolist() == pytest.approx(expected, abs=1e-5)


def test_later_tokens_of_the_word_are_masked_too():
    # no merges: each letter is a piece
    pieces_of = train_wordpiece(TEXTS, 40, show_progress=False)
    transformers.set_seed(0)
    model = BERTForMaskedLM(BERTConfig(vocab_size=len(pieces_of), **SMALL, **ATTENTION)).eval()
    found = pseudo_log_probabilities(model, pieces_of, TEXTS, word_l2r=True, show_progress=False)
    is_longer = False
    for text, scores in zip(TEXTS, found, strict=True):
        pieces = ["[CLS]", *pieces_of.tokenize(text), "[SEP]"]
        ids, expected = pieces_of(text, return_tensors="pt")["input_ids"], []
        for place in range(1, ids.shape[1] - 1):
            hidden, end = ids.clone(), place + 1
            while pieces[end].startswith("##"):
                end, is_longer = end + 1, True
            hidden[0, place:end] = pieces_of.mask_token_id
            expected.append(model(hidden).logits[0, place].log_softmax(0)[ids[0, place]].item())
        assert scores.tolist() == pytest.approx(expected, abs=1e-5)
    assert is_longer, "a word of several pieces is needed"


def test_elmo_judges_by_both_directions():
    marks = {"bos_token": "<S>", "eos_token": "</S>", "unk_token": "<UNK>"}
    words = train_word_level(TEXTS, 50, special_tokens=marks, show_progress=False)
    tokenizer = elmo_tokenizer(words)
    transformers.set_seed(0)
    sizes = {"projection_size": 8, "hidden_size": 16, "cnn_filters": [[1, 4], [2, 4]]}
    config = ELMoConfig(vocab_size=len(tokenizer), max_characters=tokenizer.max_characters_per_token, **sizes)
    model = ELMoForPreTraining(config).eval()
    rows = [{"sentence_good": good, "sentence_bad": bad, "UID": "a"} for good, bad in itertools.permutations(TEXTS, 2)]
    totals = {}
    for text in TEXTS:
        inputs = tokenizer(text, return_tensors="pt")
        loss = model(**inputs, labels=inputs["input_ids"])
        number = inputs["input_ids"].shape[1] - 1
        totals[text] = [-number * half.item() for half in (loss.forward_loss, loss.backward_loss)]
    found = directional_log_probabilities(model, tokenizer, TEXTS, batch_size=2, show_progress=False)
    for text, scores in zip(TEXTS, found, strict=True):
        assert [score.sum().item() for score in scores] == pytest.approx(totals[text], abs=1e-4)
    result = measure_minimal_pairs(model, tokenizer, rows, show_progress=False)
    for name, score in (
        ("accuracy", sum),
        ("forward_accuracy", lambda both: both[0]),
        ("backward_accuracy", lambda both: both[1]),
    ):
        right = [score(totals[row["sentence_good"]]) > score(totals[row["sentence_bad"]]) for row in rows]
        assert result[name] == sum(right) / len(right)


def test_minimal_pairs(tokenizer, masked_tokenizer):
    model = Knowing(tokenizer, {"[SEP]": "the", "the": "dog", "dog": "barks", "dogs": "bark"})
    rows = [
        {"sentence_good": "the dog barks", "sentence_bad": "the dog bark", "UID": "agreement"},
        {"sentence_good": "the dogs bark", "sentence_bad": "the dogs barks", "UID": "agreement"},
        {"sentence_good": "dog the barks", "sentence_bad": "the dog barks", "UID": "order"},
        # equally likely: not known
        {"sentence_good": "cats sleep", "sentence_bad": "sleep cats", "UID": "order"},
    ]
    result = measure_minimal_pairs(model, tokenizer, rows, show_progress=False)
    assert result == {"accuracy": 0.5, "pairs": 4, "by_phenomenon": {"agreement": 1.0, "order": 0.0}}

    transformers.set_seed(0)
    masked = BERTForMaskedLM(BERTConfig(vocab_size=len(masked_tokenizer), **SMALL, **ATTENTION))
    result = measure_minimal_pairs(masked, masked_tokenizer, rows, show_progress=False)
    good, bad = (
        [scores.sum() for scores in pseudo_log_probabilities(masked, masked_tokenizer, texts, show_progress=False)]
        for texts in ([row["sentence_good"] for row in rows], [row["sentence_bad"] for row in rows])
    )
    assert result["accuracy"] * result["pairs"] == sum(bool(g > b) for g, b in zip(good, bad, strict=True))


def test_mistakes_are_named(tokenizer, model):
    with pytest.raises(ValueError, match="no pairs"):
        measure_minimal_pairs(model, tokenizer, [])
    with pytest.raises(ValueError, match="row 0 .*UID, sentence_bad.*sentence_good"):
        measure_minimal_pairs(model, tokenizer, [{"sentence_good": "a"}])
    with pytest.raises(ValueError, match="batch_size is 0"):
        continuation_log_probabilities(model, tokenizer, [("", "a")], batch_size=0, show_progress=False)
    with pytest.raises(ValueError, match="no mask_token"):
        pseudo_log_probabilities(model, train_word_level(TEXTS, special_tokens={"unk_token": "<unk>"}), TEXTS)


# the heuristics


def test_acceptability_is_the_mean_log_probability(tokenizer):
    model = Knowing(tokenizer, {"[SEP]": "the", "the": "dog", "dog": "barks"})
    likely = 5 - math.log(math.exp(5) + len(tokenizer) - 1)
    found = acceptability(model, tokenizer, ["the dog barks", "barks dog"], show_progress=False)
    assert found[0].item() == pytest.approx(likely, abs=1e-5)
    assert found[1] < found[0]


@pytest.mark.parametrize(
    ("scores", "labels", "low", "high"),
    [
        ([-1.0, -4.0, -2.0, -3.0], [1, 0, 1, 0], -3.0, -2.0),
        ([-1.0, -2.0], [1, 1], -math.inf, -2.0),
        ([-1.0, -2.0], [0, 0], -1.0, math.inf),
        # a threshold cannot divide what is equal
        ([-1.0, -1.0, -1.0, -2.0], [0, 1, 1, 0], -2.0, -1.0),
        ([1.0, 2.0, 3.0, 4.0, 5.0], [0, 1, 0, 1, 1], 1.0, 2.0),
    ],
)
def test_best_threshold(scores, labels, low, high):
    assert low < best_threshold(torch.tensor(scores), labels) < high
    with pytest.raises(ValueError, match="2 scores and 1 labels"):
        best_threshold(torch.zeros(2), [1])


def test_sentiment_compares_two_words(tokenizer):
    texts = ["the dog barks", "cats sleep"]
    for word, answer in (("positive", 1), ("negative", 0)):
        model = Knowing(tokenizer, {"very": word})
        assert sentiment(model, tokenizer, texts, show_progress=False).tolist() == [answer, answer]


def test_answers_are_compared_by_their_mean(tokenizer):
    # the sum would prefer the shorter one
    model = Knowing(tokenizer, {"who": "the", "the": "dog"})
    choices = [["cats", "the dog"], ["the dog", "cats sleep", "dogs"]]
    assert answers(model, tokenizer, ["who", "it barks who"], choices, show_progress=False).tolist() == [1, 0]
    with pytest.raises(ValueError, match="example 1 has no alternatives"):
        answers(model, tokenizer, ["who", "who"], [["a"], []], show_progress=False)


def test_referents_are_judged_by_the_rest(tokenizer):
    # the candidates' own likelihood does not count
    model = Knowing(tokenizer, {"because": "cats", "dog": "barks"})
    found = referents(model, tokenizer, ["the cats sleep because _ barks"], [["cats", "the dog"]], show_progress=False)
    assert found.tolist() == [1]
    for text in ("the dog barks", "the dog _ "):
        with pytest.raises(ValueError, match=f"{text.strip()}.*must have the pronoun '_'"):
            referents(model, tokenizer, [text], [["a", "b"]])
