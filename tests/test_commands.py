"""The command line: cards, conversions, vectors, neighbours and alignments, and what it says to mistakes."""

import contextlib
import inspect
import re
import unicodedata

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close
from transformers import AutoModel, AutoModelForCausalLM, MarianConfig, MarianMTModel, OpenAIGPTConfig
from transformers import OpenAIGPTLMHeadModel as TheirGPT
from transformers.utils.logging import enable_progress_bar

from hf_lineage import (
    LINEAGE,
    GRUConfig,
    GRUForCausalLM,
    LSTMConfig,
    LSTMForCausalLM,
    RNNSearchConfig,
    RNNSearchForConditionalGeneration,
)
from hf_lineage.__main__ import COMMANDS, main
from hf_lineage.commands import FORMATS, matrix
from hf_lineage.converters import from_elmo
from hf_lineage.hub.papers import PAPERS
from hf_lineage.inference import Alignment
from hf_lineage.tokenization import train_word_level, train_wordpiece, translation_tokenizer
from hf_lineage.word_vectors import WordVectors
from tests.models.stations import TABLES


def said(capsys, *arguments) -> str:
    assert main([str(argument) for argument in arguments]) == 0
    return capsys.readouterr().out


def refused(capsys, *arguments) -> str:
    """The last line on stderr; nothing goes to stdout."""
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    assert stop.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    return err.splitlines()[-1]


@pytest.mark.parametrize("arguments", [["--help"], *([name, "--help"] for name in COMMANDS)])
def test_each_help_fits_a_screen(arguments, capsys):
    # argparse shows a help and leaves
    with contextlib.suppress(SystemExit):
        main(arguments)
    lines = capsys.readouterr().out.splitlines()
    assert 2 <= len(lines) <= 24
    assert max(map(len, lines)) <= 80


def test_every_command_has_its_line_in_the_help(capsys):
    lines = said(capsys, "--help").splitlines()
    for name in COMMANDS:
        assert [line for line in lines if re.match(rf"  {name} +[A-Z].*\.$", line)]


def test_alone_it_lists_the_stations(capsys):
    lines = said(capsys).splitlines()
    stations = [line.split()[0] for line in lines if line.startswith("  ")]
    assert stations == [config.model_type.removeprefix("lineage_") for config in LINEAGE]


@pytest.mark.parametrize("config_class", LINEAGE, ids=lambda config_class: config_class.model_type)
def test_card_of_a_station(config_class, capsys):
    card = said(capsys, "show", config_class.model_type.removeprefix("lineage_"))
    assert PAPERS[config_class.model_type] in card
    assert inspect.getdoc(config_class).splitlines()[2].removeprefix("New: ") in card
    for auto, reference in config_class.auto_classes.items():
        assert re.search(rf"  {auto} +{reference.split('.')[1]}\n", card)
    assert re.search(r"parameters: \d[\d,]+ \(", card)
    assert f"{config_class.model_type.removeprefix('lineage_')}_tiny" in card


def test_default_lstm_has_the_parameters_of_its_paper(capsys):
    # Zaremba et al. (2014), small, one bias per gate: 10,000 words, 2 layers of 200
    expected = 10_000 * 200 + 2 * 4 * (200 * 200 + 200 * 200 + 200) + 200 * 10_000 + 10_000
    assert f"parameters: {expected:,} " in said(capsys, "show", "lineage_lstm")


def test_card_of_a_saved_model(tmp_path, capsys):
    model = LSTMForCausalLM(LSTMConfig(vocab_size=30, hidden_size=8, num_hidden_layers=1))
    model.save_pretrained(tmp_path)
    (tmp_path / "results.json").write_text('{"test": {"perplexity": 12.5}}')
    card = said(capsys, "show", tmp_path)
    assert f"parameters: {sum(p.numel() for p in model.parameters()):,}\n" in card
    assert "class:      LSTMForCausalLM\n" in card
    assert "  vocab_size: 30\n" in card
    assert re.search(r"  test +perplexity +12\.5\n", card)


def test_card_of_what_is_no_station(tmp_path, capsys):
    assert "did you mean" in refused(capsys, "show", "lstn")
    assert "t5" in refused(capsys, "show", "t5")
    folder = tmp_path / "runs"
    assert f"{folder} is no folder with a saved model" in refused(capsys, "show", folder)
    LSTMConfig().save_pretrained(folder / "lstm")
    assert f"did you mean one of {folder / 'lstm'}?" in refused(capsys, "show", folder)


def test_marian_comes_and_goes(tmp_path, capsys):
    config = MarianConfig(
        vocab_size=30,
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        max_position_embeddings=32,
        scale_embedding=True,
        pad_token_id=29,
        eos_token_id=0,
        decoder_start_token_id=29,
    )
    theirs = MarianMTModel(config).eval()
    theirs.save_pretrained(tmp_path / "marian")
    assert "TransformerForConditionalGeneration" in said(
        capsys, "convert", "marian", tmp_path / "marian", tmp_path / "ours"
    )
    said(capsys, "convert", "marian", tmp_path / "ours", tmp_path / "back" / "again")
    back = MarianMTModel.from_pretrained(tmp_path / "back" / "again")
    ids = torch.randint(1, 29, (2, 5))
    assert_close(back(ids, decoder_input_ids=ids).logits, theirs(ids, decoder_input_ids=ids).logits)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_openai_gpt_comes(tmp_path, capsys):
    config = OpenAIGPTConfig(vocab_size=30, n_positions=16, n_embd=16, n_layer=1, n_head=2)
    theirs = TheirGPT(config).eval()
    theirs.save_pretrained(tmp_path / "theirs")
    said(capsys, "convert", "openai-gpt", tmp_path / "theirs", tmp_path / "ours")
    ids = torch.randint(30, (2, 5))
    ours = AutoModelForCausalLM.from_pretrained(tmp_path / "ours")
    assert ours.config.model_type == "lineage_gpt"
    assert_close(ours(ids).logits, theirs(ids).logits, atol=1e-5, rtol=1e-5)


def test_awd_lstm_goes_and_comes_with_fields(tmp_path, capsys):
    config = LSTMConfig(vocab_size=30, hidden_size=8, num_hidden_layers=2, tie_word_embeddings=True)
    model = LSTMForCausalLM(config).eval()
    model.save_pretrained(tmp_path / "ours")
    said(capsys, "convert", "awd-lstm-lm", tmp_path / "ours", tmp_path / "awd.safetensors")
    options = ["--fields", '{"dropout": 0.25}']
    said(capsys, "convert", "awd-lstm-lm", tmp_path / "awd.safetensors", tmp_path / "back", *options)
    back, ids = AutoModelForCausalLM.from_pretrained(tmp_path / "back"), torch.randint(30, (2, 5))
    assert back.config.dropout == 0.25
    assert_close(back(ids).logits, model(ids).logits)


def test_conversions_that_cannot_be_are_refused(tmp_path, capsys):
    (tmp_path / "there").mkdir()
    (tmp_path / "bad.safetensors").write_bytes(b"none")
    target = tmp_path / "new"
    assert "nowhere" in refused(capsys, "convert", "marian", tmp_path / "nowhere", target)
    assert "TO" in refused(capsys, "convert", "marian", tmp_path / "there", tmp_path / "there")
    assert "options.json" in refused(capsys, "convert", "elmo", tmp_path / "there", target)
    assert "choose from" in refused(capsys, "convert", "mariam", tmp_path / "there", target)
    # the file is looked at before its fields
    for form in ("awd-lstm-lm", "fairseq", "joeynmt", "opennmt"):
        message = refused(capsys, "convert", form, tmp_path / "bad.safetensors", target)
        assert "bad.safetensors is not a whole safetensors file" in message
    assert "JSON" in refused(capsys, "convert", "marian", tmp_path / "there", target, "--fields", "heads=8")
    assert not target.exists()


@pytest.fixture(scope="module")
def vectors_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("vectors") / "vectors.txt"
    path.write_text("4 2\nking 1 0\nqueen 3 1\nbread 0 2\nsea -1 0\n")
    return path


def test_vectors_become_another_file(vectors_file, tmp_path, capsys):
    said(capsys, "vectors", vectors_file, tmp_path / "vectors.bin")
    first, second = WordVectors.load(vectors_file), WordVectors.load(tmp_path / "vectors.bin")
    assert second.words == first.words
    np.testing.assert_array_equal(second.vectors, first.vectors)


def test_vectors_of_a_saved_model(tmp_path, tiny_tokenizer, capsys):
    model = LSTMForCausalLM(LSTMConfig(vocab_size=len(tiny_tokenizer), hidden_size=8, num_hidden_layers=1))
    for part in (model, tiny_tokenizer):
        part.save_pretrained(tmp_path / "model")
    said(capsys, "vectors", tmp_path / "model", tmp_path / "vectors.vec")
    found = WordVectors.load(tmp_path / "vectors.vec")
    assert not set(found.words) & set(tiny_tokenizer.all_special_tokens)
    weight = AutoModel.from_pretrained(tmp_path / "model").get_input_embeddings().weight
    word = found.words[-1]
    expected = weight[tiny_tokenizer.convert_tokens_to_ids(word)].tolist()
    np.testing.assert_allclose(found.vector(word), expected, rtol=1e-5)


def test_neighbours_are_the_nearest_by_cosine(vectors_file, capsys):
    lines = said(capsys, "neighbours", vectors_file, "king", "bread", "--number", "2").splitlines()
    queen = 3 / 10**0.5
    assert [line.split() for line in lines] == [
        ["king"],
        [f"{queen:.3f}", "queen"],
        ["0.000", "bread"],
        ["bread"],
        [f"{1 / 10**0.5:.3f}", "queen"],
        ["0.000", "king"],
    ]


def test_no_bar_of_loading_hides_the_answer(tmp_path, tiny_tokenizer, capfd):
    model = LSTMForCausalLM(LSTMConfig(vocab_size=len(tiny_tokenizer), hidden_size=8, num_hidden_layers=1))
    for part in (model, tiny_tokenizer):
        part.save_pretrained(tmp_path / "model")
    word = WordVectors.from_model(model, tiny_tokenizer).words[-1]
    enable_progress_bar()
    capfd.readouterr()
    assert main(["neighbours", str(tmp_path / "model"), word]) == 0
    assert main(["vectors", str(tmp_path / "model"), str(tmp_path / "vectors.vec")]) == 0
    assert capfd.readouterr().err == ""


def test_neighbours_of_unknown_words_are_refused(vectors_file, tmp_path, capsys):
    assert "'quern'" in refused(capsys, "neighbours", vectors_file, "king", "quern")
    assert "--number" in refused(capsys, "neighbours", vectors_file, "king", "--number", "0")
    assert "MODEL" in refused(capsys, "neighbours", tmp_path / "nowhere", "king")


@pytest.fixture(scope="module")
def translator(tmp_path_factory):
    """A folder with an untrained RNNsearch of a few words."""
    folder = tmp_path_factory.mktemp("translator")
    tokenizer = translation_tokenizer(train_word_level(["他 欠 我 he owes me"], show_progress=False))
    ids = {name: getattr(tokenizer, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    sizes = {"vocab_size": len(tokenizer), "embedding_size": 8, "hidden_size": 8, "readout_size": 8}
    model = RNNSearchForConditionalGeneration(
        RNNSearchConfig(**sizes, **ids, decoder_start_token_id=tokenizer.bos_token_id)
    )
    with torch.no_grad():
        for weight in (model.model.encoder.embed_tokens.weight, model.model.decoder.embed_tokens.weight):
            nn.init.normal_(weight)
    for part in (model, tokenizer):
        part.save_pretrained(folder)
    return folder


def test_alignment_of_a_given_translation(translator, capsys):
    out = said(capsys, "align", translator, "他 欠 我", "--target", "he owes me")
    source, target, _, head, *rows = out.splitlines()[:7]
    assert (source, target) == ("他 欠 我", "he owes me")
    assert head.split() == ["他", "欠", "我"]
    assert [row.split()[0] for row in rows] == ["he", "owes", "me"]
    for row in rows:
        # the rest is at the end mark
        assert 0 < sum(float(cell) for cell in row.split()[1:] if cell != "·") <= 101


def test_alignment_of_its_own_translations(translator, capsys):
    out = said(capsys, "align", translator, "他 欠 我", "我 欠 他", "--beams", "1")
    assert [line for line in out.splitlines() if line in ("他 欠 我", "我 欠 他")] == ["他 欠 我", "我 欠 他"]


def test_alignments_that_cannot_be_are_refused(translator, tmp_path, capsys):
    assert "SOURCE" in refused(capsys, "align", translator, "他", "我", "--target", "he")
    assert "empty" in refused(capsys, "align", translator, " ")
    assert "--beams" in refused(capsys, "align", translator, "他", "--beams", "0")
    LSTMForCausalLM(LSTMConfig(vocab_size=30, hidden_size=8)).save_pretrained(tmp_path)
    assert "lineage_lstm" in refused(capsys, "align", tmp_path, "他")


def test_words_without_blanks_are_cut_apart_and_unknown_ones_are_named(translator, capsys):
    assert main(["align", str(translator), "他欠我x", "--target", "he owes you"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == "他 欠 我 x"
    assert err.splitlines() == [
        "他欠我x lacks blanks between its words; it is read as: 他 欠 我 x",
        "the model does not know: x",
        "the model does not know: you",
    ]
    assert "knows no word of 你好" in refused(capsys, "align", translator, "你好")
    # as it should be
    assert main(["align", str(translator), "他 欠 我"]) == 0
    assert capsys.readouterr().err == ""


def test_text_without_blanks_is_aligned_by_token(tmp_path, capsys):
    texts = ["他欠我", "他 owes 我", "he owes me"] * 3
    tokenizer = translation_tokenizer(train_wordpiece(texts, 20, min_frequency=1, show_progress=False))
    ids = {name: getattr(tokenizer, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    config = RNNSearchConfig(vocab_size=len(tokenizer), embedding_size=8, hidden_size=8, readout_size=8, **ids)
    for part in (RNNSearchForConditionalGeneration(config), tokenizer):
        part.save_pretrained(tmp_path)
    assert main(["align", str(tmp_path), "他欠我", "--target", "he owes me"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == "他 欠 我"
    assert err.startswith("他欠我 – he owes me: without blanks")
    # with blanks words stay whole
    assert main(["align", str(tmp_path), "他 owes 我", "--target", "he owes me"]) == 0
    out, err = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines()[4:7]] == ["he", "owes", "me"]
    assert err == ""


def test_matrix_stays_in_its_columns():
    weights = np.array([[0.004, 0.95, 0.04], [0.6, 0.05, 0.35]])
    found = Alignment(["杰瑞", "chase", "Tom"], ["Jerry", "追逐"], weights)
    assert matrix(found, 80) == (
        "杰瑞 chase Tom\nJerry 追逐\n\n       杰瑞  chase  Tom\nJerry     ·     95    ·\n追逐     60      5   35\n"
    )
    narrow = matrix(found, 14).splitlines()[3:]
    assert max(sum(2 if unicodedata.east_asian_width(c) == "W" else 1 for c in line) for line in narrow) <= 14
    assert sum(line.startswith("Jerry") for line in narrow) == 3


@pytest.mark.parametrize("form", FORMATS)
def test_a_model_that_a_format_cannot_hold_is_refused(tmp_path, form, capsys):
    GRUForCausalLM(GRUConfig(vocab_size=9, hidden_size=8)).save_pretrained(tmp_path / "gru")
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(["convert", form, str(tmp_path / "gru"), str(tmp_path / "out")])
    [line] = capsys.readouterr().err.splitlines()
    assert stop.value.code == 2
    assert f"a GRUForCausalLM: the format {form} holds a " in line
    assert not (tmp_path / "out").exists()


def test_any_head_of_elmo_is_written_as_its_body(tmp_path):
    pytest.importorskip("h5py", reason="h5py is not installed: pip install 'hf_lineage[elmo]'")
    model = TABLES["ELMoCharacters"].model("AutoModelForPreTraining")
    model.save_pretrained(tmp_path / "ours")
    assert main(["convert", "elmo", str(tmp_path / "ours"), str(tmp_path / "published")]) == 0
    again = from_elmo(*(next((tmp_path / "published").glob(name)) for name in ("*options.json", "*.hdf5")))
    expected = model.base_model.state_dict()
    for name, tensor in again.state_dict().items():
        assert torch.equal(tensor, expected[name]), name
