"""What a model card says of the machine that wrote it, nothing, and of the run."""

import sys

import pytest
import torch
from huggingface_hub import ModelCard
from transformers import AutoModelForCausalLM, PreTrainedModel

from hf_lineage import GRUConfig, GRUForCausalLM
from hf_lineage.hub.model_card import DRAFT, RECIPES, RunFacts, command_line, model_card, write_card


OURS = RECIPES[1]


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["recipes/x.py", "--a", "b"], "python recipes/x.py --a b"),
        (["/opt/code/recipes/x.py", "/opt/data/mine.yaml"], "python x.py mine.yaml"),
        (["HERE/recipes/x.py", "HERE/mine.yaml"], "python recipes/x.py mine.yaml"),
        (
            ["x.py", "--corpus", "/opt/data/my text.txt", "--output_dir=HERE/runs/a", "--rate=1/2"],
            "python x.py --corpus 'my text.txt' --output_dir=runs/a --rate=1/2",
        ),
        (
            ["x.py", "--compare_with", "HERE/a", "/opt/b", "--hub_model_id", "me/x", "--fields", '{"a": 1}'],
            "python x.py --compare_with a b --hub_model_id me/x --fields '{\"a\": 1}'",
        ),
        (
            [OURS / "y.py", OURS / "configs" / "lstm_tiny.yaml", "--seed", "3"],
            "python -m hf_lineage train y lstm_tiny --seed 3",
        ),
        ([OURS / "y.py", "/opt/mine.yaml"], "python -m hf_lineage train y mine.yaml"),
    ],
)
def test_the_command_has_no_absolute_path(argv, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(word).replace("HERE", str(tmp_path)) for word in argv])
    assert command_line() == expected


def test_a_card_has_no_absolute_path(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["x.py", "--corpus", str(tmp_path / "mine.txt")])
    model = GRUForCausalLM(GRUConfig(vocab_size=9, hidden_size=4))
    (tmp_path / "base").mkdir()
    facts = RunFacts(str(tmp_path / "mine.txt"), "The dog", base_model=str(tmp_path / "base"))
    card = str(model_card(model, None, facts, name="gru", opened_as=str(tmp_path / "runs" / "gru")))
    assert str(tmp_path) not in card
    assert 'model="gru"' in card
    assert "It continues base." in card
    model.save_pretrained(tmp_path / "saved")
    saved = (tmp_path / "saved" / "README.md").read_text(encoding="utf-8")
    assert str(tmp_path) not in saved
    monkeypatch.chdir(tmp_path)
    assert 'model="runs/gru"' in str(model_card(model, None, facts, name="gru", opened_as=str(tmp_path / "runs/gru")))


@pytest.mark.parametrize(
    ("facts", "language"),
    [
        ({"texts": ["他欠我钱。"]}, "zh"),
        ({"texts": ["他欠我钱。"], "language": "yue"}, "yue"),
        ({"texts": ["He owes me."]}, None),
        ({"texts": ["He owes me."], "language": "en"}, "en"),
    ],
)
def test_a_chinese_text_tells_the_language(facts, language):
    model = GRUForCausalLM(GRUConfig(vocab_size=9, hidden_size=4))
    card = model_card(model, None, RunFacts("mine.txt", "x", **facts), name="gru", opened_as="gru")
    assert ModelCard(str(card)).data.language == language


def test_the_card_of_a_run_goes_with_its_weights(tmp_path, monkeypatch):
    """Saved again, or pushed from Python, the run's facts are still true; of other weights they are not."""
    monkeypatch.chdir(tmp_path)
    model = GRUForCausalLM(GRUConfig(vocab_size=9, hidden_size=4))
    card = model_card(
        model, None, RunFacts("user/text", "The dog"), {"test": {"perplexity": 7.5}}, name="x", opened_as="runs/x"
    )
    model.save_pretrained("runs/x")
    write_card(tmp_path / "runs" / "x", card)

    again = AutoModelForCausalLM.from_pretrained("runs/x")
    again.save_pretrained("other/y")
    copied = (tmp_path / "other" / "y" / "README.md").read_text(encoding="utf-8")
    assert "| test | perplexity | 7.5 |" in copied
    assert 'model="other/y"' in copied
    assert "runs/x" not in copied
    assert "\n# y\n" in copied

    # as push_to_hub does: the weights, then transformers' draft, then what is sent
    sent = tmp_path / "sent"
    PreTrainedModel.save_pretrained(again, sent)
    (sent / "README.md").write_text(f"---\n---\n{DRAFT}", encoding="utf-8")
    again.write_card(sent, "me/z")
    pushed = (sent / "README.md").read_text(encoding="utf-8")
    assert "| test | perplexity | 7.5 |" in pushed
    assert 'model="me/z"' in pushed

    with torch.no_grad():
        next(again.parameters()).add_(1)
    again.save_pretrained("other/trained")
    assert "None were measured." in (tmp_path / "other" / "trained" / "README.md").read_text(encoding="utf-8")


def test_a_card_has_no_scores_of_weights_that_are_gone(tmp_path):
    model = GRUForCausalLM(GRUConfig(vocab_size=9, hidden_size=4))
    facts, scores = RunFacts("user/text", "The dog"), {"test": {"perplexity": 7.5}}
    card = model_card(model, None, facts, scores, name="x", opened_as=str(tmp_path), license="mit")
    model.save_pretrained(tmp_path)
    (tmp_path / "README.md").write_text(str(card) + "\nTrained for my lecture.\n", encoding="utf-8")
    written = (tmp_path / "README.md").read_text(encoding="utf-8")

    model.save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == written
    with torch.no_grad():
        next(model.parameters()).add_(1)
    model.save_pretrained(tmp_path)
    after = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "7.5" in written
    assert "7.5" not in after
    assert "None were measured of these weights." in after
    assert "Trained for my lecture." in after
    assert ModelCard(after).data.license == "mit"
    assert not ModelCard(after).data.eval_results

    # a head that people have broken does not stop a save
    (tmp_path / "README.md").write_text("---\n: [\n" + written.partition("\n")[2], encoding="utf-8")
    model.save_pretrained(tmp_path)
    with torch.no_grad():
        next(model.parameters()).add_(1)
    model.save_pretrained(tmp_path)
    assert "None were measured of these weights." in (tmp_path / "README.md").read_text(encoding="utf-8")
