"""collate_rows: transformers' default collator, with an error that names the column."""

import numpy as np
import pytest
import torch
from transformers import default_data_collator

from hf_lineage import GPTConfig, GPTForCausalLM
from hf_lineage.data import collate_rows
from hf_lineage.training import LineageTrainer, LineageTrainingArguments


@pytest.mark.parametrize("kind", [list, tuple, np.array, torch.tensor])
def test_rows_of_one_length_are_collated_as_by_transformers(kind):
    examples = [{"input_ids": kind([1, 2, number]), "label": number} for number in range(3)]
    found, expected = collate_rows(examples), default_data_collator(examples)
    assert found.keys() == expected.keys() == {"input_ids", "labels"}
    assert all(torch.equal(found[name], value) for name, value in expected.items())


@pytest.mark.reliability("C11")
@pytest.mark.parametrize("kind", [list, tuple, np.array, torch.tensor])
def test_rows_of_different_lengths_are_named_with_the_remedy(kind):
    examples = [{"label": 0, "input_ids": kind([1] * length)} for length in (3, 4, 3)]
    with pytest.raises(ValueError, match="input_ids has rows of 3, 4 tokens.*DataCollatorWithPadding"):
        collate_rows(examples)


@pytest.mark.reliability("C11")
def test_a_trainer_without_a_collator_names_them(tmp_path):
    model = GPTForCausalLM(
        GPTConfig(vocab_size=9, hidden_size=4, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    )
    data = [{"input_ids": [1] * length, "labels": [1] * length} for length in (3, 4)]
    args = LineageTrainingArguments(tmp_path, per_device_train_batch_size=2, max_steps=1, use_cpu=True, report_to=[])
    with pytest.raises(ValueError, match="input_ids has rows of 3, 4 tokens"):
        LineageTrainer(model, args, train_dataset=data).train()
