"""What a batch says about itself changes nothing but what a GPU would have to be asked."""

import pytest
import torch
from torch.testing import assert_close
from transformers import default_data_collator

from hf_lineage import GPTConfig
from hf_lineage.models import packed_texts
from hf_lineage.training import LineageTrainer, LineageTrainingArguments
from hf_lineage.training.known_sizes import WithNumbers, WithTextLengths
from tests.models.packed_cases import PACKED, loss_and_gradients, packed_case


@pytest.mark.parametrize("name", PACKED)
def test_known_lengths_change_nothing(name):
    model, batch = packed_case(name)
    with_lengths = WithTextLengths(lambda given: given, documents=True)(batch)
    assert with_lengths["max_length_q"] == (5 if name in ("GPT documents", "Transformer") else 6)
    assert with_lengths.get("max_length_k") == (6 if name == "Transformer" else None)
    assert_close(loss_and_gradients(model, with_lengths), loss_and_gradients(model, batch), rtol=1e-6, atol=1e-7)


def test_documents_of_several_rows_get_their_bounds():
    _, batch = packed_case("GPT documents")
    found = WithTextLengths(lambda given: given, documents=True)(batch)
    assert found["document_bounds"].tolist() == [0, 3, 7, 8, 13, 14]
    assert WithTextLengths(lambda given: given, documents=False)(batch).keys() == batch.keys()
    assert "document_bounds" not in batch
    padded = {**batch, "attention_mask": torch.ones_like(batch["input_ids"])}
    assert WithTextLengths(lambda given: given, documents=True)(padded).keys() == padded.keys()
    single = {**batch, "position_ids": torch.arange(7).expand(2, -1)}
    assert WithTextLengths(lambda given: given, documents=True)(single).keys() == single.keys()


@pytest.mark.parametrize(("name", "given"), [("BERT", {"max_length_q": 5}), ("Transformer", {"max_length_k": 2})])
def test_a_length_that_is_too_small_is_refused(name, given):
    model, batch = packed_case(name)
    with pytest.raises(ValueError, match=rf"max_length.* {next(iter(given.values()))}, .* 6 tokens"):
        model(**batch, **given)


def test_numbers_stay_off_the_device():
    batch = WithNumbers(default_data_collator, ("stream",))([{"stream": 3, "ids": [1]}, {"stream": 4, "ids": [2]}])
    assert batch["stream"] == [3, 4]
    assert batch["ids"].tolist() == [[1], [2]]


def test_the_trainer_gives_them_in_training_only(tmp_path):
    model, batch = packed_case("GPT documents")
    rows = [{name: batch[name][i] for name in ("input_ids", "labels", "position_ids")} for i in (0, 1)]
    options = {"output_dir": str(tmp_path), "use_cpu": True, "per_device_train_batch_size": 2}
    trainer = LineageTrainer(model, LineageTrainingArguments(**options), train_dataset=rows, eval_dataset=rows)
    assert next(iter(trainer.get_train_dataloader()))["max_length_q"] == 5
    assert "max_length_q" not in next(iter(trainer.get_eval_dataloader()))
    # eager attention gives weights of whole rows
    model.set_attn_implementation("eager")
    assert "max_length_q" not in next(iter(trainer.get_train_dataloader()))


def test_a_gpu_reads_the_bounds_that_it_is_given(monkeypatch):
    """As a CPU does that may not look: the given bounds, not those that it would find."""
    monkeypatch.setattr(packed_texts, "can_look", lambda x: False)
    monkeypatch.setattr(packed_texts, "segments_beat_mask", lambda config, vectors: True)
    monkeypatch.setattr(packed_texts, "bounds_of_documents", None)
    bounds = torch.tensor([0, 3, 7], dtype=torch.int32)
    found = packed_texts.document_options(
        torch.zeros(1, 7, dtype=torch.long), torch.zeros(1, 7, 2), GPTConfig(), known=bounds, longest=4
    )
    assert found == {"cu_seq_lens_q": bounds, "cu_seq_lens_k": bounds, "max_length_q": 4, "max_length_k": 4}
