"""The pipelines for word vectors, from a saved model, with the package and without."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, pipeline, set_seed

import hf_lineage.pipelines  # registers the tasks
from hf_lineage import (
    LINEAGE,
    GPTConfig,
    GPTForCausalLM,
    GRUConfig,
    LSTMConfig,
    LSTMForCausalLM,
    NNLMConfig,
    RNNConfig,
)
from hf_lineage.tokenization import TRAINERS, causal_tokenizer, train_word_level, train_wordpiece
from hf_lineage.word_vectors import WordVectors


CODE = Path(hf_lineage.pipelines.__file__).parent / "models"
TINY = {"hidden_size": 16, "num_hidden_layers": 1}
SAVED = {
    "lstm": lambda size: LSTMForCausalLM(LSTMConfig(vocab_size=size, **TINY)),
    "gpt": lambda size: GPTForCausalLM(GPTConfig(vocab_size=size, num_attention_heads=2, **TINY)),
}


CAUSAL = {
    "lineage_nnlm": NNLMConfig(hidden_size=16, embedding_size=8, context_size=3),
    "lineage_rnn": RNNConfig(**TINY),
    "lineage_lstm": LSTMConfig(**TINY),
    "lineage_gru": GRUConfig(**TINY),
    "lineage_gpt": GPTConfig(num_attention_heads=2, max_position_embeddings=16, **TINY),
}


def test_every_causal_station_is_called():
    assert {*CAUSAL} == {one.model_type for one in LINEAGE if "AutoModelForCausalLM" in one.auto_classes}


@pytest.mark.parametrize(
    ("name", "kind", "seeds"),
    [
        *(("lineage_gpt", kind, 10) for kind in TRAINERS),
        *((name, "wordpiece", 1) for name in CAUSAL if name != "lineage_gpt"),
        *(
            pytest.param(name, kind, 10, marks=pytest.mark.slow)
            for name in CAUSAL
            for kind in TRAINERS
            if name != "lineage_gpt"
        ),
    ],
)
def test_every_causal_station_answers_the_plainest_call(name, kind, seeds, tiny_corpus):
    """Draws of weights and answers; GPT has far fewer positions than the pipeline's 256 new tokens."""
    tokenizer = causal_tokenizer(TRAINERS[kind](tiny_corpus, 300, show_progress=False), tiny_corpus)
    config = CAUSAL[name]
    config.vocab_size = len(tokenizer)
    for seed in range(seeds):
        set_seed(seed)
        model = AutoModelForCausalLM.from_config(config).eval()
        [answer] = pipeline("text-generation", model=model, tokenizer=tokenizer, device="cpu")("The")
        assert answer["generated_text"].startswith("The") or kind == "wordpiece"


def test_an_answer_ends_at_the_last_position(caplog, monkeypatch):
    config = GPTConfig(vocab_size=20, num_attention_heads=2, max_position_embeddings=16, **TINY)
    model = GPTForCausalLM(config).eval()
    model.generation_config.eos_token_id = None
    prompt = torch.tensor([[3, 4, 5]])
    free = torch.cat([prompt, torch.zeros(1, 0, dtype=torch.long)], 1)
    # greedily by hand: the last answer comes from the last position
    while free.shape[1] < 17:
        free = torch.cat([free, model(free).logits[:, -1].argmax(1, keepdim=True)], 1)
    monkeypatch.setattr(package_logger := logging.getLogger("hf_lineage"), "propagate", True)
    with caplog.at_level("WARNING", logger=package_logger.name):
        assert model.generate(prompt, max_new_tokens=100, do_sample=False).equal(free)
    assert "predefined maximum length (16)" in caplog.text
    assert model.generate(prompt, max_length=100, do_sample=False).equal(free)
    assert model.generate(prompt, max_new_tokens=100, num_beams=2).shape == (1, 17)
    vectors = model.get_input_embeddings()(prompt)
    assert model.generate(inputs_embeds=vectors, max_new_tokens=100, do_sample=False).equal(free[:, 3:])
    assert model.generate(prompt, max_new_tokens=2, do_sample=False).shape == (1, 5)
    with pytest.raises(ValueError, match="17 tokens are more than the 16 positions"):
        model.generate(inputs_embeds=model.get_input_embeddings()(free), max_new_tokens=3)


@pytest.mark.parametrize(
    ("options", "kept"),
    # room for the new tokens, but half of the positions at least
    [({"max_new_tokens": 3}, 14), ({"max_length": 45}, 12), ({"max_new_tokens": 100}, 8), ({"max_new_tokens": 1}, 16)],
    ids=str,
)
@pytest.mark.parametrize("way", [{}, {"num_beams": 3, "num_return_sequences": 2}], ids=["greedy", "beams"])
def test_of_a_prompt_longer_than_the_positions_the_end_is_read(options, kept, way, caplog, monkeypatch):
    set_seed(0)
    model = GPTForCausalLM(GPTConfig(vocab_size=20, num_attention_heads=2, max_position_embeddings=16, **TINY)).eval()
    model.generation_config.eos_token_id = None
    prompt, way = torch.randint(20, (2, 40)), way | {"do_sample": False}
    # the second text is shorter, and padding takes the place of its first words
    mask = torch.ones_like(prompt)
    mask[1, :36] = 0
    end = {"input_ids": prompt[:, -kept:], "attention_mask": mask[:, -kept:]}
    expected = model.generate(**end, **way | {"max_new_tokens": options.get("max_new_tokens", 5)})
    monkeypatch.setattr(package_logger := logging.getLogger("hf_lineage"), "propagate", True)
    with caplog.at_level("WARNING", logger=package_logger.name):
        found = model.generate(prompt, attention_mask=mask, **way, **options)
    assert f"The prompt has 40 tokens, the model 16 positions: it reads the last {kept}." in caplog.text
    assert found[:, 40 - kept :].equal(expected)
    assert found[:, :40].equal(prompt.repeat_interleave(len(found) // 2, 0))
    answer = model.generate(input_ids=prompt, attention_mask=mask, return_dict_in_generate=True, **way, **options)
    assert answer.sequences.equal(found)


def test_the_plainest_call_takes_a_prompt_of_any_length(tiny_corpus):
    tokenizer = causal_tokenizer(TRAINERS["byte_pairs"](tiny_corpus, 300, show_progress=False), tiny_corpus)
    config = GPTConfig(vocab_size=len(tokenizer), num_attention_heads=2, max_position_embeddings=16, **TINY)
    tokenizer.model_max_length = 16
    write = pipeline("text-generation", model=GPTForCausalLM(config).eval(), tokenizer=tokenizer, device="cpu")
    prompt = " ".join(tiny_corpus[:20])
    for options in ({}, {"max_new_tokens": 4, "do_sample": False}):
        [answer] = write(prompt, **options)
        assert answer["generated_text"].startswith(prompt)
    [[one], [other]] = write([prompt, "The"], batch_size=2)
    assert one["generated_text"].startswith(prompt)
    assert other["generated_text"].startswith("The")


@pytest.fixture(scope="module", params=SAVED)
def saved(request, tiny_corpus, tmp_path_factory):
    """The folder of a model whose tokens are lower-cased words, and its vectors."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp(request.param)
    tokenizer = train_word_level([text.rstrip(".") for text in tiny_corpus], lowercase=True, show_progress=False)
    model = SAVED[request.param](len(tokenizer))
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
    model = SAVED["lstm"](len(tokenizer) + 7)
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
    pipe = pipeline("word-similarity", model=SAVED["gpt"](len(tokenizer)), tokenizer=tokenizer, device="cpu")
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
    for name in ("pipeline_word_vectors", "pipeline_inputs", "analogy_scores"):
        assert (tmp_path / "again" / f"{name}.py").read_bytes() == (CODE / f"{name}.py").read_bytes()
