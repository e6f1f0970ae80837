"""GPT's published formats, against transformers' own OpenAI GPT and the published ids of its tokenizer."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close
from transformers import AutoTokenizer, OpenAIGPTConfig, OpenAIGPTLMHeadModel, OpenAIGPTModel

from hf_lineage import GPTConfig, GPTForCausalLM
from hf_lineage.converters import from_openai_bpe, from_openai_gpt, to_openai_gpt


TINY = {"n_positions": 50, "n_embd": 10, "n_layer": 2, "n_head": 2}


@pytest.fixture
def shards(shared_data, tmp_path):
    """A writable copy of a tiny GPT in OpenAI's layout."""
    folder = tmp_path / "shards"
    folder.mkdir()
    for path in (shared_data / "models" / "gpt1" / "tiny_random_openai_format").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


@pytest.fixture
def published(tmp_path):
    """A tiny GPT as transformers saves it."""
    model = OpenAIGPTLMHeadModel(OpenAIGPTConfig(vocab_size=50, initializer_range=0.3, **TINY)).eval()
    model.save_pretrained(tmp_path / "published")
    return model, tmp_path / "published"


def logits(model, ids):
    with torch.no_grad():
        return model(ids).logits


def test_shards_are_read_in_the_published_order(shards):
    numbers = np.concatenate([np.load(shards / f"params_{i}.npy") for i in (0, 1)])
    reference = OpenAIGPTLMHeadModel(OpenAIGPTConfig(vocab_size=50, **TINY)).eval()
    # transformers' parameters stand in the order of the shards, but for the first two
    tokens, positions, *others = reference.transformer.parameters()
    with torch.no_grad():
        for parameter in (positions, tokens, *others):
            piece, numbers = numbers[: parameter.numel()], numbers[parameter.numel() :]
            parameter.copy_(torch.from_numpy(piece).view_as(parameter))
    assert len(numbers) == 0
    model = from_openai_gpt(shards, num_attention_heads=2)
    ids = torch.randint(50, (3, 9))
    assert_close(logits(model, ids), logits(reference, ids), rtol=1e-5, atol=1e-5)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert not model.training


def test_transformers_folders_are_read_and_written(published):
    reference, folder = published
    ids = torch.randint(50, (3, 9))
    model = from_openai_gpt(folder)
    assert_close(logits(model, ids), logits(reference, ids), rtol=1e-5, atol=1e-5)
    back = to_openai_gpt(model)
    assert not back.training
    for name, tensor in reference.state_dict().items():
        assert torch.equal(back.state_dict()[name], tensor), name
    assert {name: getattr(back.config, name) for name in TINY} == TINY

    # the checkpoint on the Hub is that of the model without its head
    OpenAIGPTModel.from_pretrained(folder).save_pretrained(folder)
    assert_close(logits(from_openai_gpt(folder), ids), logits(reference, ids), rtol=1e-5, atol=1e-5)


def test_what_openai_gpt_cannot_hold_is_refused():
    tiny = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    for changes, message in (
        ({"intermediate_size": 32}, "intermediate_size 32"),
        ({"intermediate_size": 64, "hidden_act": "gelu"}, "hidden_act gelu"),
        ({"intermediate_size": 64, "tie_word_embeddings": False}, "tie_word_embeddings"),
    ):
        with pytest.raises(ValueError, match=message):
            to_openai_gpt(GPTForCausalLM(GPTConfig(**tiny, **changes)))


def test_heads_are_asked_for_where_they_cannot_be_told(shards):
    with pytest.raises(ValueError, match="hidden size 10.*64.*num_attention_heads"):
        from_openai_gpt(shards)


class Bomb:
    def __reduce__(self):
        return (open, ("/dev/null",))


def write_header(path, shape):
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "params_1.npy").unlink(), "1 files.*declares 3660"),
        (
            lambda f: (f / "params_1.npy").write_bytes((f / "params_1.npy").read_bytes()[:-40]),
            "params_1.npy: not a whole",
        ),
        (lambda f: (f / "params_1.npy").write_bytes(b""), "params_1.npy: not a whole"),
        (lambda f: write_header(f / "params_1.npy", (10**12,)), "params_1.npy: not a whole"),
        (lambda f: np.save(f / "params_1.npy", np.array([Bomb()]), allow_pickle=True), "params_1.npy: not a whole"),
        (lambda f: np.save(f / "params_1.npy", np.zeros(1830)), "params_1.npy: must hold float32"),
        (lambda f: np.save(f / "params_1.npy", np.full(1830, np.nan, "f4")), r"h\.0\.\S+ holds NaN"),
        (lambda f: (f / "params_shapes.json").write_text("[[50, 10"), "params_shapes.json: not JSON"),
        (
            lambda f: (f / "params_shapes.json").write_text("[[50, -10]]"),
            "params_shapes.json: must be a list of shapes",
        ),
        (lambda f: (f / "params_shapes.json").write_text(json.dumps([[50, 10]] * 13)), "13 shapes"),
        (lambda f: (f / "params_shapes.json").write_text(json.dumps([[50, 10]] * 14)), r"shape 2 is \[50, 10\]"),
    ],
)
def test_damaged_shards_are_named(shards, damage, message):
    damage(shards)
    with pytest.raises(ValueError, match=message):
        from_openai_gpt(shards, num_attention_heads=2)


def test_damaged_folders_of_transformers_are_named(published):
    _, folder = published
    path = folder / "model.safetensors"
    tensors = load_file(path)
    without = {name: tensor for name, tensor in tensors.items() if "h.1.mlp.c_fc.bias" not in name}
    save_file(without, path)
    with pytest.raises(ValueError, match=r"h\.1\.mlp\.c_fc\.bias is missing"):
        from_openai_gpt(folder)
    name = "transformer.h.1.mlp.c_fc.bias"
    save_file({**tensors, name: tensors[name][:-1].clone()}, path)
    with pytest.raises(ValueError, match=r"h\.1\.mlp\.c_fc\.bias gives \[\[39\]\].*\[\[40\]\]"):
        from_openai_gpt(folder)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="model.safetensors is not a whole safetensors file"):
        from_openai_gpt(folder)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="model.safetensors is missing.*pickle"):
        from_openai_gpt(folder)
    (folder / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(ValueError, match=r"config\.json.*model_type.*openai-gpt"):
        from_openai_gpt(folder)


@pytest.fixture(scope="module")
def tokenizer(shared_data):
    folder = shared_data / "models" / "gpt1"
    return from_openai_bpe(folder / "encoder_bpe_40000.json", folder / "vocab_40000.bpe")


def test_tokenizer_gives_the_published_ids(tokenizer, shared_data, tmp_path):
    folder = shared_data / "models" / "gpt1"
    texts = (folder / "text.txt").read_text().splitlines()
    expected = json.loads((folder / "indexed_text.json").read_text())
    assert tokenizer(texts)["input_ids"] == expected
    assert tokenizer(texts[0])["attention_mask"] == [1] * len(expected[0])
    tokenizer.save_pretrained(tmp_path)
    assert AutoTokenizer.from_pretrained(tmp_path)(texts)["input_ids"] == expected
    assert len(tokenizer) == 40_478
    assert tokenizer.decode(expected[0]) == texts[0].lower().replace(".", " .")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("She\u2019s 3.5 m tall, isn't she?", ["she", "'s", "3.5", "m", "tall", ",", "is", "n't", "she", "?"]),
        ("“Yes” — they’ve gone...", ['"', "yes", '"', "-", "they", "'ve", "gone", "..."]),
        ("the dogs' 'home'", ["the", "dogs", "'", "'", "home", "'"]),
        (" a \n\n b\t c \n", ["a", "\n", "b", "c"]),
        ("1,000!!!", ["1", ",", "000", "!!!"]),
        ("", []),
    ],
)
def test_words_of_the_tokenizer(tokenizer, text, words):
    assert "".join(tokenizer.tokenize(text)).split("</w>")[:-1] == words


def test_unknown_characters_are_the_unknown_token(tokenizer):
    assert tokenizer.convert_tokens_to_ids(tokenizer.tokenize("\u9f8d")) == [tokenizer.unk_token_id] == [0]


@pytest.mark.parametrize(
    ("encoder", "merges", "message"),
    [
        ("[1]", "", "encoder.json: must map"),
        ('{"a": 0}', "", "encoder.json: must map.*<unk>"),
        ('{"<unk>": 0, "a": 0}', "", " 2 tokens.* 0 to 1"),
        ('{"<unk>": 0, "a": 2}', "", " 2 tokens.* 0 to 1"),
        ('{"<unk>": 0, "a": "1"}', "", " 2 tokens.* 0 to 1"),
        ('{"<unk>": 0, "a": 1}', "#version: 0.2\na b\n", "merges.bpe, line 2: 'a b'"),
        ('{"<unk>": 0, "a": 1}', "#version: 0.2\na\n", "merges.bpe, line 2: 'a'"),
        ("{", "", "encoder.json: not JSON"),
    ],
)
def test_damaged_tokenizers_are_named(tmp_path, encoder, merges, message):
    (tmp_path / "encoder.json").write_text(encoder)
    (tmp_path / "merges.bpe").write_text(merges)
    with pytest.raises(ValueError, match=message):
        from_openai_bpe(tmp_path / "encoder.json", tmp_path / "merges.bpe")
    (tmp_path / "encoder.json").write_bytes(b'{"\xff')
    with pytest.raises(ValueError, match="encoder.json, line 1, byte 2"):
        from_openai_bpe(tmp_path / "encoder.json", tmp_path / "merges.bpe")
