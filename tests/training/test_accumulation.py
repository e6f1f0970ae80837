"""Accumulated batches train as one: each mean of a loss is taken over all that is scored in the update."""

import copy
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.testing import assert_close
from transformers import TrainerCallback, default_data_collator

import hf_lineage
from hf_lineage.data import PackingCollator
from hf_lineage.training import LineageTrainer, LineageTrainingArguments
from tests.models.common import gradients


ROOT = Path(__file__).resolve().parents[2]
SIZES = {"vocab_size": 30, "hidden_size": 16, "num_labels": 3}
BLOCKS = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "max_position_embeddings": 20}
UNDROPPED = {"dropout": 0.0, "embedding_dropout": 0.0, "attention_dropout": 0.0, "classifier_dropout": 0.0}
CONFIGS = {
    "NNLM": {"initializer_range": 0.5},
    "LSTM": {"initializer_range": 0.5},
    "GPT": BLOCKS | UNDROPPED | {"initializer_range": 0.5},
    "BERT": BLOCKS | {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "initializer_range": 0.5},
    "ELMo": {
        "token_layer": "words",
        "hidden_size": 8,
        "projection_size": 4,
        "output_layer": "softmax",
        "dropout": 0.0,
        "elmo_dropout": 0.0,
        "mix_l2": 0.3,
    },
    "Word2Vec": {},
}
# an update of 8 rows: accumulated two by two, the batches score numbers of tokens that differ from what Trainer counts
LENGTHS = (7, 2, 3, 2, 5, 6, 2, 4)


def head(station, name, **changes):
    torch.manual_seed(0)
    config = getattr(hf_lineage, f"{station}Config")(**SIZES | CONFIGS[station] | changes)
    return getattr(hf_lineage, f"{station}For{name}")(config).train()


def rows(**columns):
    return [{name: column[row] for name, column in columns.items()} for row in range(len(LENGTHS))]


def texts(left: bool):
    """Token ids [8, 7] and masks, with padding before the texts or after them."""
    torch.manual_seed(1)
    mask = torch.arange(7) < torch.tensor(LENGTHS)[:, None]
    mask = (mask.flip(1) if left else mask).long()
    return torch.randint(3, 30, (8, 7)) * mask, mask


def padded(left: bool = False, ignored: tuple = ()):
    """Texts whose labels are their tokens, but for the positions `ignored` [row, column]."""
    x, mask = texts(left)
    labels = x.masked_fill(mask == 0, -100)
    for position in ignored:
        labels[position] = -100
    return rows(input_ids=x, attention_mask=mask, labels=labels)


def packed():
    return [{name: row[name][: row["attention_mask"].sum()] for name in ("input_ids", "labels")} for row in padded()]


def answers():
    x, mask = texts(False)
    starts = torch.tensor([0, -1, 1, -1, 9, 3, 0, 2])
    ends = torch.tensor([1, 1, -1, -1, 1, 4, 1, 2])
    return rows(input_ids=x, attention_mask=mask, start_positions=starts, end_positions=ends)


def classes(labels=(0, -100, 2, -100, -100, 1, 0, 2)):
    x, mask = texts(True)
    return rows(input_ids=x, attention_mask=mask, labels=torch.tensor(labels))


def masked_pairs():
    labels, pairs = torch.full((8, 7), -100), torch.tensor([0, 1, -100, 1, 0, -100, 1, 0])
    labels[[0, 0, 3, 4, 5, 5, 5, 6], [0, 4, 1, 2, 0, 1, 3, 1]] = 7
    x, mask = texts(False)
    return rows(input_ids=x, attention_mask=mask, labels=labels, next_sentence_label=pairs)


def word_pairs():
    return rows(input_ids=torch.randint(30, (8, 1)), labels=torch.randint(30, (8,)))


CASES = {
    "lstm": (("LSTM", "CausalLM"), padded(left=True)),
    "nnlm": (("NNLM", "CausalLM"), padded(left=True)),
    "gpt": (("GPT", "CausalLM"), padded(left=True)),
    "gpt-packed": (("GPT", "CausalLM"), packed()),
    # the first and the last token count for one direction each
    "bilm": (("ELMo", "PreTraining"), padded(left=True, ignored=((0, 0), (4, 2)))),
    "bert-answers": (("BERT", "QuestionAnswering"), answers()),
    "elmo-answers": (("ELMo", "QuestionAnswering"), answers()),
    "gpt-answers": (("GPT", "QuestionAnswering"), answers()),
    "lstm-answers": (("LSTM", "QuestionAnswering"), answers()),
    "bert-pairs": (("BERT", "PreTraining"), masked_pairs()),
    "gpt-classes": (("GPT", "SequenceClassification"), classes()),
    "elmo-classes": (("ELMo", "SequenceClassification"), classes()),
    "lstm-numbers": (("LSTM", "SequenceClassification", 1), classes((0.5, 2.0, -1.0, 0.0, 3.0, 1.0, 0.25, -2.0))),
    "word2vec": (("Word2Vec", "PreTraining"), word_pairs()),
}


class KeepGradients(TrainerCallback):
    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        self.kept = {name: gradient.clone() for name, gradient in gradients(model).items()}


def one_update(folder, model, data, size, collator, processes=1, **settings):
    """The logged loss and the gradients of one update of 8 rows in batches of `size`."""
    args = LineageTrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=size,
        gradient_accumulation_steps=8 // size // processes,
        train_sampling_strategy="sequential",
        max_steps=1,
        max_grad_norm=0.0,
        optim="sgd",
        logging_steps=1,
        save_strategy="no",
        remove_unused_columns=False,
        disable_tqdm=True,
        report_to="none",
        use_cpu=True,
        **settings,
    )
    kept = KeepGradients()
    trainer = LineageTrainer(model, args, train_dataset=data, data_collator=collator, callbacks=[kept])
    trainer.train()
    return trainer.state.log_history[0]["loss"], kept.kept


@pytest.mark.parametrize("size", [8, 2])
@pytest.mark.parametrize("name", CASES)
def test_an_update_is_one_mean_whatever_its_batches(tmp_path, name, size):
    (station, kind, *number), data = CASES[name]
    model = head(station, kind, **({"num_labels": number[0]} if number else {}))
    collator = PackingCollator() if name.endswith("packed") else default_data_collator
    # the model's own mean over the 8 rows, without Trainer's numbers
    alone = copy.deepcopy(model)
    expected = alone(**collator(data)).loss
    expected.backward()
    loss, found = one_update(tmp_path, model, data, size, collator)
    # the log rounds to four places
    assert loss == pytest.approx(expected.item(), abs=2e-4)
    assert_close(found, gradients(alone), rtol=1e-4, atol=1e-6)


def test_smoothed_answers_are_those_of_torch(tmp_path):
    model, data = head("BERT", "QuestionAnswering"), answers()
    columns = default_data_collator(data)
    outputs = copy.deepcopy(model)(columns["input_ids"], columns["attention_mask"])
    expected = 0
    for side in ("start", "end"):
        losses = []
        for row, position in enumerate(columns[f"{side}_positions"]):
            # a text without its padding
            is_token = columns["attention_mask"][row].bool()
            if 0 <= position < 7 and is_token[position]:
                logits, place = outputs[f"{side}_logits"][row, is_token], is_token[:position].sum()
                losses.append(cross_entropy(logits[None], place[None], label_smoothing=0.1))
        expected += sum(losses) / len(losses) / 2
    loss, _ = one_update(tmp_path, model, data, 2, default_data_collator, label_smoothing_factor=0.1)
    assert loss == pytest.approx(expected.item(), abs=2e-4)


SCRIPT = """
import json, os, sys
from transformers import default_data_collator
from tests.training.test_accumulation import CASES, head, one_update

folder, rank = sys.argv[1], os.environ["RANK"]
found = {}
for name in sys.argv[2:]:
    head_name, data = CASES[name]
    loss, gradients = one_update(f"{folder}/{name}", head(*head_name), data, 2, default_data_collator, processes=2)
    found[name] = {name: gradient.double().norm().item() for name, gradient in gradients.items()} | {"loss": loss}
open(f"{folder}/{rank}.json", "w").write(json.dumps(found))
"""


@pytest.mark.slow
def test_an_update_of_two_processes_is_one_mean(tmp_path):
    names = ["lstm", "bilm", "bert-answers", "bert-pairs", "word2vec"]
    (tmp_path / "script.py").write_text(SCRIPT, encoding="utf-8")
    launch = ["-m", "accelerate.commands.launch", "--config_file", str(ROOT / "recipes/accelerate/cpu_2procs.yaml")]
    subprocess.run(
        [sys.executable, *launch, str(tmp_path / "script.py"), str(tmp_path), *names],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=True,
        capture_output=True,
    )
    both = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    assert both[0] == both[1]
    for name in names:
        head_name, data = CASES[name]
        alone = head(*head_name)
        loss = alone(**default_data_collator(data)).loss
        loss.backward()
        expected = {name: gradient.double().norm().item() for name, gradient in gradients(alone).items()}
        found = both[0][name]
        assert found.pop("loss") == pytest.approx(loss.item(), abs=2e-4)
        assert found == pytest.approx(expected, rel=1e-4, abs=1e-6)
