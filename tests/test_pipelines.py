"""The pipelines for word vectors, from a saved model, with the package and without."""

import json
import subprocess
import sys

import pytest
import torch
from transformers import pipeline

import hf_lineage.pipelines  # noqa: F401 - registers the tasks
from hf_lineage import GPTConfig, GPTForCausalLM, LSTMConfig, LSTMForCausalLM
from hf_lineage.tokenization import train_word_level, train_wordpiece
from hf_lineage.word_vectors import WordVectors


TINY = {"hidden_size": 16, "num_hidden_layers": 1}
MODELS = {
    "lstm": lambda size: LSTMForCausalLM(LSTMConfig(vocab_size=size, **TINY)),
    "gpt": lambda size: GPTForCausalLM(GPTConfig(vocab_size=size, num_attention_heads=2, **TINY)),
}


@pytest.fixture(scope="module", params=MODELS)
def saved(request, tiny_corpus, tmp_path_factory):
    """The folder of a model whose tokens are lower-cased words, and its vectors."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp(request.param)
    tokenizer = train_word_level([text.rstrip(".") for text in tiny_corpus], lowercase=True, show_progress=False)
    model = MODELS[request.param](len(tokenizer))
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
    return folder, WordVectors.from_model(model, tokenizer)


def assert_same(found, expected):
    assert [answer["word"] for answer in found] == [word for word, _ in expected]
    assert [answer["score"] for answer in found] == pytest.approx([score for _, score in expected], abs=1e-5)


@pytest.mark.parametrize("method", ["3CosAdd", "3CosMul"])
def test_analogies_are_those_of_the_vectors(saved, method):
    folder, vectors = saved
    analogies = pipeline("word-analogy", model=str(folder), device="cpu", method=method)
    expected = vectors.analogy("dog", "dogs", "river", 5, method=method)
    assert_same(analogies("dog dogs river"), expected)
    assert_same(analogies({"a": "dog", "b": "dogs", "c": "River"}), expected)
    assert_same(
        analogies("dog dogs ada", top_k=3, restrict_vocab=20), vectors.analogy("dog", "dogs", "ada", 3, method, 20)
    )
    assert len(analogies("dog dogs river", top_k=10_000)) == len(vectors) - 3


def test_neighbours_and_pairs_are_those_of_the_vectors(saved):
    folder, vectors = saved
    similarity = pipeline("word-similarity", model=str(folder), device="cpu", top_k=4)
    assert_same(similarity("Vera"), vectors.nearest("vera", 4))
    assert_same(similarity("vera", restrict_vocab=10), vectors.nearest("vera", 4, 10))
    expected = {"score": pytest.approx(vectors.similarity("vera", "ada"), abs=1e-5)}
    assert similarity("Vera Ada") == expected
    assert similarity({"a": "vera", "b": "ada"}) == expected


def test_batches_mix_words_and_pairs(saved):
    folder, _ = saved
    similarity = pipeline("word-similarity", model=str(folder), device="cpu", top_k=4)
    inputs = ["vera", "vera ada", "dog", "the the"]
    single = [similarity(text) for text in inputs]
    for batched in (similarity(inputs, batch_size=3), list(similarity((text for text in inputs), batch_size=2))):
        for found, expected in zip(batched, single, strict=True):
            if isinstance(expected, dict):
                assert found == {"score": pytest.approx(expected["score"], abs=1e-5)}
            else:
                assert_same(found, [(answer["word"], answer["score"]) for answer in expected])


def test_padding_rows_and_special_tokens_are_no_answers(tiny_corpus):
    tokenizer = train_word_level(tiny_corpus, show_progress=False)
    model = MODELS["lstm"](len(tokenizer) + 7)
    nearest = pipeline("word-similarity", model=model, tokenizer=tokenizer, device="cpu", top_k=10_000)("the")
    words = set(tokenizer.get_vocab()) - set(tokenizer.all_special_tokens) - {"the"}
    assert sorted(answer["word"] for answer in nearest) == sorted(words)


@pytest.mark.parametrize(
    ("task", "inputs", "options", "message"),
    [
        ("word-analogy", "dog dogs", {}, "three words, got 'dog dogs'"),
        ("word-analogy", "dog dogs unicorn", {}, "'unicorn'.*vocabulary"),
        ("word-analogy", "dog dogs river", {"method": "add"}, "method is 'add'"),
        ("word-analogy", "dog dogs river", {"top_k": 0}, "top_k is 0"),
        ("word-similarity", "dog", {"restrict_vocab": 0}, "restrict_vocab is 0"),
        ("word-similarity", "a dog runs", {}, "one word or a pair"),
        ("word-similarity", "[PAD]", {}, "'.PAD.' is not a word"),
    ],
)
def test_bad_inputs_are_named(saved, task, inputs, options, message):
    pipe = pipeline(task, model=str(saved[0]), device="cpu")
    with pytest.raises(ValueError, match=message):
        pipe(inputs, **options)


def test_word_of_several_pieces_is_refused(tiny_corpus):
    tokenizer = train_wordpiece(tiny_corpus, vocab_size=120, show_progress=False)
    pipe = pipeline("word-similarity", model=MODELS["gpt"](len(tokenizer)), tokenizer=tokenizer, device="cpu")
    with pytest.raises(ValueError, match="'lanterns' is not a word .* its tokens are .*##"):
        pipe("lanterns")


def test_travels_with_the_model(saved, tmp_path):
    local = pipeline("word-analogy", model=str(saved[0]), device="cpu")
    local.save_pretrained(tmp_path / "saved")
    script = f"""
import json, sys
sys.modules["hf_lineage"] = None
from transformers import pipeline
pipe = pipeline("word-analogy", model={str(tmp_path / "saved")!r}, device="cpu", trust_remote_code=True)
print(json.dumps(pipe("dog dogs river")))
pipe.save_pretrained({str(tmp_path / "again")!r})
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 0, result.stderr[-2000:]
    assert_same(json.loads(result.stdout), [(a["word"], a["score"]) for a in local("dog dogs river")])
    assert (tmp_path / "again" / "pipelines.py").read_bytes() == (tmp_path / "saved" / "pipelines.py").read_bytes()
