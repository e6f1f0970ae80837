"""In mixed precision a training step returns no logits, which accelerate would copy to float32."""

import copy

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import default_data_collator

from hf_lineage import (
    BERTConfig,
    BERTForPreTraining,
    GPTConfig,
    GPTForCausalLM,
    LSTMConfig,
    LSTMForCausalLM,
)
from hf_lineage.data import ParallelStreams, TokenStream
from hf_lineage.models import fast_cross_entropy
from hf_lineage.training import (
    LineageTrainer,
    LineageTrainingArguments,
    TruncatedBPTTTrainer,
)


# no other size of the models
VOCAB = 97
ROWS, LENGTH = 4, 12
TRANSFORMER = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


class LargestLogits(TorchDispatchMode):
    """The most float32 rows of logits that one operation made."""

    rows = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor) and made.dtype is torch.float32 and made.shape[-1:] == (VOCAB,):
            # the output layer's bias and its gradient have one row
            self.rows = max(self.rows, made.numel() // VOCAB)
        return made


def rows_of(*names):
    ids = torch.randint(5, VOCAB, (ROWS, LENGTH), generator=torch.Generator().manual_seed(0)).tolist()
    return [dict.fromkeys(names, row) for row in ids]


def settings(kind, folder, **others):
    return kind(
        folder,
        max_steps=2,
        per_device_train_batch_size=ROWS,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        precision="bf16",
        use_cpu=True,
        **others,
    )


def gpt(folder):
    model = GPTForCausalLM(GPTConfig(vocab_size=VOCAB, max_position_embeddings=16, **TRANSFORMER))
    data = rows_of("input_ids", "labels")
    return LineageTrainer(model, settings(LineageTrainingArguments, folder), train_dataset=data)


def bert(folder):
    model = BERTForPreTraining(BERTConfig(vocab_size=VOCAB, max_position_embeddings=16, **TRANSFORMER))
    data = [row | {"next_sentence_label": 1} for row in rows_of("input_ids", "labels")]
    return LineageTrainer(model, settings(LineageTrainingArguments, folder), train_dataset=data)


def lstm(folder):
    model = LSTMForCausalLM(LSTMConfig(vocab_size=VOCAB, hidden_size=8))
    tokens = [id for row in rows_of("input_ids") for id in row["input_ids"]]
    data = ParallelStreams(
        TokenStream(np.array(tokens, np.int32), np.array([0]), len(tokens), len(tokens), 0), ROWS, 5
    )
    arguments = settings(LineageTrainingArguments, folder, train_sampling_strategy="sequential")
    return TruncatedBPTTTrainer(model, arguments, train_dataset=data, data_collator=default_data_collator)


TRAINERS = {"GPT": gpt, "BERT": bert, "LSTM, truncated BPTT": lstm}


@pytest.mark.parametrize("name", TRAINERS)
def test_no_logits_are_copied_to_float32(name, tmp_path, monkeypatch):
    monkeypatch.setattr(fast_cross_entropy, "PART", 2 * VOCAB)
    with LargestLogits() as largest:
        TRAINERS[name](tmp_path).train()
    assert largest.rows <= 2


@pytest.mark.parametrize("name", TRAINERS)
def test_training_is_the_same_with_them(name, tmp_path, monkeypatch):
    torch.manual_seed(0)
    trainer = TRAINERS[name](tmp_path / "without")
    start = copy.deepcopy(trainer.model.state_dict())
    trainer.train()
    again = TRAINERS[name](tmp_path / "with")
    again.model.load_state_dict(start)
    monkeypatch.setattr(again, "drops_logits", False)
    again.train()
    found, expected = trainer.model.state_dict(), again.model.state_dict()
    assert all(torch.equal(tensor, expected[key]) for key, tensor in found.items())


@pytest.mark.parametrize("name", TRAINERS)
def test_whoever_asks_for_outputs_gets_logits(name, tmp_path):
    trainer = TRAINERS[name](tmp_path)
    batch = next(iter(trainer.get_train_dataloader()))
    _, outputs = trainer.compute_loss(trainer.model, batch, return_outputs=True)
    assert outputs[1].shape[-1] == VOCAB


def test_a_copy_of_the_model_calls_itself(tmp_path):
    trainer = gpt(tmp_path)
    copied = copy.deepcopy(trainer.model)
    with torch.no_grad():
        copied.lm_head.weight.zero_()
    assert not copied(input_ids=torch.tensor([[5, 6]])).logits.any()
