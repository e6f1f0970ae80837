"""ELMo's published files: the published fixture, both ways, and files that nobody should trust."""

import json

import pytest
import torch
from transformers import AutoModel, DynamicCache

from hf_lineage import ELMoConfig, ELMoModel
from hf_lineage.converters import from_elmo, from_elmo_token_vectors, to_elmo
from hf_lineage.tokenization import elmo_tokenizer
from tests.memory import little_memory
from tests.models.common import assert_same_state


h5py = pytest.importorskip("h5py")

TINY = {
    "vocab_size": 60,
    "character_size": 4,
    "cnn_filters": [[1, 4], [2, 8], [3, 12]],
    "hidden_size": 16,
    "projection_size": 8,
    "num_highway_layers": 1,
}
CELL = "RNN_0/RNN/MultiRNNCell/Cell1/LSTMCell"


@pytest.fixture
def published(shared_data):
    return shared_data / "models" / "elmo_tiny_bilm"


@pytest.fixture
def published_model(published):
    return from_elmo(published / "options.json", published / "lm_weights.hdf5")


@pytest.fixture
def published_tokenizer(published):
    return elmo_tokenizer((published / "vocab_test.txt").read_text(encoding="utf-8").split())


def changed_model(**changes):
    """A model whose parameters all differ from their initial values."""
    model = ELMoModel(ELMoConfig(**{**TINY, **changes}))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += torch.randn_like(parameter)
        model.token_layer.embed_characters.weight[0] = 0
        # as the mixes start, which the files do not hold
        for mix in model.mixes:
            mix.weights.zero_()
            mix.gamma.fill_(1)
    return model.eval()


@torch.no_grad()
def test_published_vectors(published, published_model, published_tokenizer):
    """30 sentences in three streams of ten, with states carried on, as the authors' program computed them.

    The file holds both directions of the top layer, which is made of all others. Its own rounding is above 1e-6 where
    numbers reach 4: hence the error is measured in units of the number, where that is above 1.
    """
    model, tokenizer = published_model, published_tokenizer
    streams = json.loads((published / "sentences.json").read_text(encoding="utf-8"))
    files = [h5py.File(published / f"lm_embeddings_{k}.hdf5") for k in range(3)]
    cache = DynamicCache(config=model.config)
    compared = 0
    for i, sentences in enumerate(zip(*streams, strict=True)):
        batch = tokenizer(list(sentences), return_tensors="pt", padding=True)
        layers = model(**batch, cache=cache).hidden_states
        for file, row, mask in zip(files, layers[-1], batch["attention_mask"], strict=True):
            expected = torch.from_numpy(file[str(i)][...])  # [2, T, P]
            found = torch.stack(row[mask.bool()][1:-1].chunk(2, dim=1))
            error = (found - expected).abs() / expected.abs().clamp(min=1)
            assert error.max() <= 1e-6
            compared += 1
    assert compared == 30


@torch.no_grad()
def test_published_token_vectors(published, published_model, published_tokenizer):
    characters = torch.tensor(published_tokenizer.vocabulary_characters())
    expected = from_elmo_token_vectors(published / "elmo_token_embeddings.hdf5", 458, 16)
    torch.testing.assert_close(
        published_model.token_vectors(char_ids=characters[None])[0], expected, rtol=0, atol=1e-6
    )


def test_published_model_comes_back_bit_by_bit(published_model, tmp_path):
    to_elmo(published_model, tmp_path)
    again = from_elmo(tmp_path / "options.json", tmp_path / "lm_weights.hdf5")
    assert_same_state(again, published_model)
    assert again.config.to_dict() == published_model.config.to_dict()


def test_published_arrays_are_written_as_they_were(published, published_model, tmp_path):
    to_elmo(published_model, tmp_path)
    with h5py.File(published / "lm_weights.hdf5") as file, h5py.File(tmp_path / "lm_weights.hdf5") as written:
        names = []
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        assert len(names) == 1 + 10 + 8 + 2 + 12
        for name in names:
            exact = not name.endswith("/B")  # 1 was added to the forget bias, and taken from it
            torch.testing.assert_close(
                torch.from_numpy(written[name][...]).float(),
                torch.from_numpy(file[name][...]),
                rtol=0,
                atol=0 if exact else 6e-8,
            )


@pytest.mark.parametrize("changes", [{}, {"projection_size": 24, "hidden_size": 32}, {"cnn_act": "tanh"}], ids=str)
def test_any_model_comes_back_bit_by_bit(changes, tmp_path):
    model = changed_model(**changes)
    to_elmo(model, tmp_path)
    again = from_elmo(tmp_path / "options.json", tmp_path / "lm_weights.hdf5")
    assert_same_state(again, model)
    again.save_pretrained(tmp_path / "hf")
    assert_same_state(AutoModel.from_pretrained(tmp_path / "hf"), model)


def test_words_are_not_in_the_layout(tmp_path):
    with pytest.raises(ValueError, match="token_layer is 'words'"):
        to_elmo(ELMoModel(ELMoConfig(**TINY, token_layer="words")), tmp_path)
    assert not list(tmp_path.iterdir())


def test_failed_write_leaves_the_old_files(tmp_path, monkeypatch):
    model = changed_model()
    to_elmo(model, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(*_):
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="disk full"):
        to_elmo(changed_model(), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def replaced(file, name, **new):
    del file[name]
    return file.create_dataset(name, **new)


def huge(file):
    replaced(file, "char_embed", shape=(2**40, 4), dtype="f4", chunks=(1024, 4))


def compressed(file):
    replaced(file, "CNN_proj/W_proj", shape=(24, 8), dtype="f4", compression="gzip", data=torch.zeros(24, 8).numpy())


def never_written(file):
    replaced(file, "CNN_proj/W_proj", shape=(24, 8), dtype="f4")


def elsewhere(file):
    replaced(file, "CNN_proj/b_proj", shape=(8,), dtype="f4", external=[("/etc/hostname", 0, 32)])


def linked(file):
    del file["CNN_proj"]
    file["CNN_proj"] = h5py.ExternalLink("other.hdf5", "/CNN_proj")


def soft(file):
    del file["CNN_proj/b_proj"]
    file["CNN_proj/b_proj"] = h5py.SoftLink("/CNN/b_cnn_1")


def virtual(file):
    del file["CNN_proj/b_proj"]
    layout = h5py.VirtualLayout((8,), "f4")
    layout[:] = h5py.VirtualSource("other.hdf5", "x", (8,))
    file.create_virtual_dataset("CNN_proj/b_proj", layout)


def text(file):
    replaced(file, "CNN_proj/b_proj", data=["a"] * 8)


def group(file):
    del file["CNN_proj/b_proj"]
    file.create_group("CNN_proj/b_proj")


def missing(file):
    del file[f"{CELL}/W_P_0"]


def misshapen(file):
    replaced(file, f"{CELL}/W_0", data=torch.zeros(64, 16).numpy())


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (huge, r"char_embed has the shape \(1099511627776, 4\).*\(261, 4\)"),
        (compressed, "W_proj.* 768 bytes"),
        (never_written, "W_proj.* 768 bytes"),
        (elsewhere, "b_proj is not stored as 32 bytes"),
        (linked, "CNN_proj/W_proj"),
        (soft, "CNN_proj/b_proj"),
        (virtual, "b_proj is not stored"),
        (text, "b_proj holds object"),
        (group, "b_proj is a group"),
        (missing, f"no array {CELL}/W_P_0"),
        (misshapen, r"W_0 .*\(64, 16\).*\(16, 64\)"),
    ],
)
def test_hostile_weights_are_refused_at_once(spoil, message, tmp_path):
    to_elmo(changed_model(), tmp_path)
    with h5py.File(tmp_path / "lm_weights.hdf5", "a") as file:
        spoil(file)
    with little_memory(), pytest.raises(ValueError, match=message):
        from_elmo(tmp_path / "options.json", tmp_path / "lm_weights.hdf5")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda options: options["lstm"].update(dim=10**9), "hidden_size.*1000000000"),
        (lambda options: options["lstm"].update(dim="4096"), "hidden_size.*4096"),
        (lambda options: options["lstm"].update(n_layers=-1), "num_hidden_layers.*-1"),
        (lambda options: options["char_cnn"].update(filters=[[1, 10**9]]), "1000000000"),
        (lambda options: options["char_cnn"].update(filters=[[51, 4]]), r"51.*max_characters 50"),
        (lambda options: options["char_cnn"].update(activation="gelu"), "gelu"),
        (lambda options: options.pop("char_cnn"), "has no 'char_cnn'"),
        (lambda options: options.update(lstm=[]), "does not describe"),
    ],
)
def test_hostile_options_are_refused_at_once(change, message, tmp_path):
    to_elmo(changed_model(), tmp_path)
    options = json.loads((tmp_path / "options.json").read_text())
    change(options)
    (tmp_path / "options.json").write_text(json.dumps(options))
    with little_memory(), pytest.raises(ValueError, match=f"(?s){message}"):
        from_elmo(tmp_path / "options.json", tmp_path / "lm_weights.hdf5")


def test_sizes_beyond_the_weights_take_no_memory(tmp_path):
    """Options of a model of 280 GB, and the weights of a small one."""
    to_elmo(changed_model(), tmp_path)
    options = json.loads((tmp_path / "options.json").read_text())
    options["lstm"].update(dim=65_536, projection_dim=65_536)
    (tmp_path / "options.json").write_text(json.dumps(options))
    with little_memory(), pytest.raises(ValueError, match="by the options it must be"):
        from_elmo(tmp_path / "options.json", tmp_path / "lm_weights.hdf5")


def test_options_that_are_no_json(tmp_path):
    to_elmo(changed_model(), tmp_path)
    for content in ("{", "[" * 100_000, " " * 1_000_001):
        (tmp_path / "options.json").write_text(content)
        with pytest.raises(ValueError, match=r"options\.json"):
            from_elmo(tmp_path / "options.json", tmp_path / "lm_weights.hdf5")


def test_cut_and_foreign_files(tmp_path):
    to_elmo(changed_model(), tmp_path)
    weights = tmp_path / "lm_weights.hdf5"
    content = weights.read_bytes()
    for spoilt in (content[: len(content) // 2], b"", b"PK" + content[2:]):
        weights.write_bytes(spoilt)
        with pytest.raises(OSError, match=r"lm_weights\.hdf5|file signature|truncated"):
            from_elmo(tmp_path / "options.json", weights)
