"""Losses of evaluations: means over all that is scored, whatever the batches; and what plain Trainers do with ours."""

import copy
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import Trainer, TrainingArguments, default_data_collator
from transformers.trainer_pt_utils import LabelSmoother

import hf_lineage
from hf_lineage import (
    BERTConfig,
    BERTForQuestionAnswering,
    BERTForSequenceClassification,
    ELMoConfig,
    ELMoForPreTraining,
    GPTConfig,
    GPTForCausalLM,
    LSTMForCausalLM,
)
from hf_lineage.data import PackingCollator
from hf_lineage.training import LineageTrainer, LineageTrainingArguments


ROOT = Path(__file__).resolve().parents[2]
SIZES = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "max_position_embeddings": 20}


def classifier():
    torch.manual_seed(0)
    return BERTForSequenceClassification(BERTConfig(vocab_size=30, hidden_size=16, num_labels=3, **SIZES)).eval()


def rows(number=13):
    torch.manual_seed(1)
    lengths = torch.randint(2, 9, (number,)).tolist()
    return [{"input_ids": torch.randint(3, 30, (n,)), "labels": torch.tensor(i % 3)} for i, n in enumerate(lengths)]


def arguments(folder, kind=LineageTrainingArguments, **settings):
    quiet = {"disable_tqdm": True, "report_to": "none", "use_cpu": True}
    return kind(output_dir=str(folder), **quiet | settings)


def evaluated(folder, model, data, size, collator=None):
    args = arguments(folder, per_device_eval_batch_size=size, remove_unused_columns=False)
    return LineageTrainer(model, args, eval_dataset=data, data_collator=collator).evaluate()["eval_loss"]


@pytest.mark.parametrize("size", [2, 4, 5, 13])
def test_evaluated_classes_are_a_mean_over_rows(tmp_path, size):
    model, data = classifier(), rows()
    with torch.no_grad():
        alone = [model(row["input_ids"][None], labels=row["labels"][None]).loss for row in data]
    loss = evaluated(tmp_path, model, data, size, PackingCollator())
    assert loss == pytest.approx(float(sum(alone)) / 13, rel=1e-6)


@pytest.mark.parametrize("size", [1, 3, 8])
def test_evaluated_tokens_are_a_mean_over_tokens(tmp_path, size):
    torch.manual_seed(0)
    model = GPTForCausalLM(GPTConfig(vocab_size=30, hidden_size=16, **SIZES)).eval()
    data = [{"input_ids": row["input_ids"], "labels": row["input_ids"]} for row in rows()]
    with torch.no_grad():
        losses = [
            model(row["input_ids"][None], labels=row["labels"][None]).loss * (len(row["labels"]) - 1) for row in data
        ]
    number = sum(len(row["labels"]) - 1 for row in data)
    loss = evaluated(tmp_path, model, data, size, PackingCollator())
    assert loss == pytest.approx(float(sum(losses)) / number, rel=1e-6)


def plain_trainer(folder, model, data, **settings):
    args = arguments(folder, TrainingArguments, max_steps=1, learning_rate=0.0, logging_steps=1, **settings)
    return Trainer(model, args, train_dataset=data, eval_dataset=data, data_collator=default_data_collator)


def first_loss(trainer):
    trainer.train()
    return trainer.state.log_history[0]["loss"]


@pytest.mark.parametrize("model_class", [GPTForCausalLM, LSTMForCausalLM])
def test_plain_trainer_smooths_the_next_token(tmp_path, model_class):
    torch.manual_seed(0)
    model = model_class(
        model_class.config_class(vocab_size=30, hidden_size=16, **(SIZES if model_class is GPTForCausalLM else {}))
    )
    model.config.dropout = 0.0
    x = torch.randint(30, (4, 6))
    data = [{"input_ids": row, "labels": row} for row in x]
    model.eval()
    expected = LabelSmoother(0.1)({"logits": model(x).logits}, x, shift_labels=True)
    trainer = plain_trainer(tmp_path, model, data, label_smoothing_factor=0.1, per_device_eval_batch_size=4)
    assert trainer.evaluate()["eval_loss"] == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("accumulation", [1, 2])
def test_plain_trainer_trains_and_evaluates_a_bilm(tmp_path, accumulation):
    torch.manual_seed(0)
    config = ELMoConfig(
        vocab_size=30, token_layer="words", hidden_size=8, projection_size=4, output_layer="softmax", dropout=0.0
    )
    model = ELMoForPreTraining(config)
    x = torch.randint(30, (4, 6))
    expected = float(copy.deepcopy(model).eval()(x, labels=x).loss)
    trainer = plain_trainer(
        tmp_path,
        model,
        [{"input_ids": row, "labels": row} for row in x],
        per_device_train_batch_size=4 // accumulation,
        gradient_accumulation_steps=accumulation,
        per_device_eval_batch_size=4,
    )
    assert trainer.evaluate()["eval_loss"] == pytest.approx(expected, rel=1e-5)
    assert first_loss(trainer) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("size", [1, 4, 13])
def test_evaluated_answers_are_a_mean_over_those_in_the_text(tmp_path, size):
    torch.manual_seed(0)
    model = BERTForQuestionAnswering(BERTConfig(vocab_size=30, hidden_size=16, **SIZES)).eval()
    x, starts, ends = torch.randint(3, 30, (13, 6)), torch.randint(-2, 6, (13,)), torch.randint(-2, 6, (13,))
    expected = model(x, start_positions=starts, end_positions=ends).loss.item()
    columns = {"input_ids": x, "start_positions": starts, "end_positions": ends}
    data = [{name: column[row] for name, column in columns.items()} for row in range(13)]
    assert evaluated(tmp_path, model, data, size, default_data_collator) == pytest.approx(expected, rel=1e-5)


WORDS = {"token_layer": "words", "projection_size": 4}
# heads whose loss the plain Trainer would smooth wrongly, not at all or not to the end, and what the error names
NOT_SMOOTHED = {
    "bilm": ("ELMoForPreTraining", WORDS, "label_smoothing_factor"),
    "pairs": ("BERTForPreTraining", SIZES, "label_smoothing_factor"),
    "bert-answers": ("BERTForQuestionAnswering", SIZES, r"label_smoothing_factor is 0\.1.*LineageTrainer"),
    "elmo-answers": ("ELMoForQuestionAnswering", WORDS, r"label_smoothing_factor is 0\.1.*LineageTrainer"),
    "word2vec": ("Word2VecForPreTraining", {}, "label_smoothing_factor"),
    "sampled": ("NNLMForCausalLM", {"objective": "sampled_softmax"}, "label_smoothing_factor"),
    "coverage": (
        "RNNSearchForConditionalGeneration",
        {"coverage": True, "coverage_loss_weight": 0.5},
        r"coverage_loss_weight is 0\.5",
    ),
}
for station in ("Word2Vec", "RNN", "LSTM", "GRU", "ELMo", "GPT", "BERT"):
    settings = {"num_labels": 1} | {"ELMo": WORDS, "GPT": SIZES, "BERT": SIZES}.get(station, {})
    NOT_SMOOTHED[f"{station}-numbers"] = (
        f"{station}ForSequenceClassification",
        settings,
        r"label_smoothing_factor is 0\.1.*num_labels is 1",
    )


@pytest.mark.parametrize("name", NOT_SMOOTHED)
def test_plain_trainer_refuses_what_it_cannot_smooth(tmp_path, name):
    name, settings, message = NOT_SMOOTHED[name]
    model_class = getattr(hf_lineage, name)
    model = model_class(model_class.config_class(vocab_size=30, hidden_size=16, **settings))
    # each head takes what it knows
    words, number = ("input_ids", "decoder_input_ids", "negative_ids", "labels"), torch.tensor(1)
    numbers = dict.fromkeys(("next_sentence_label", "start_positions", "end_positions"), number)
    if "num_labels" in settings:
        numbers["labels"] = torch.tensor(0.5)
    data = [dict.fromkeys(words, row) | numbers for row in torch.randint(30, (4, 6))]
    # an evaluation would not fail, but would have no loss
    use = Trainer.evaluate if name in ("ELMoForPreTraining", "BERTForPreTraining") else Trainer.train
    with pytest.raises(ValueError, match=message):
        use(plain_trainer(tmp_path, model, data, label_smoothing_factor=0.1))


SCRIPT = """
import json, sys
from hf_lineage.data import PackingCollator
from tests.training.test_evaluation import classifier, evaluated, rows

packed = PackingCollator() if sys.argv[2] == "packed" else None
data = rows()
if packed is None:
    for row in data:
        row["input_ids"] = row["input_ids"][:2]
loss = evaluated(sys.argv[1], classifier(), data, int(sys.argv[3]), packed)
open(f"{sys.argv[1]}/{sys.argv[4]}.json", "a").write(json.dumps(loss) + "\\n")
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["packed", "padded"])
def test_two_processes_evaluate_every_row_once(tmp_path, kind):
    """13 rows in batches of 4: the last batches of two processes are filled up with rows seen before."""
    (tmp_path / "script.py").write_text(SCRIPT, encoding="utf-8")
    launch = ["-m", "accelerate.commands.launch", "--config_file", str(ROOT / "recipes/accelerate/cpu_2procs.yaml")]
    for name, command in {"one": [], "two": launch}.items():
        subprocess.run(
            [sys.executable, *command, str(tmp_path / "script.py"), str(tmp_path), kind, "4", name],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            check=True,
            capture_output=True,
        )
    one, *two = [
        json.loads(line) for name in ("one", "two") for line in (tmp_path / f"{name}.json").read_text().splitlines()
    ]
    assert two == pytest.approx([one, one], rel=1e-6)
