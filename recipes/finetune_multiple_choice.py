r"""Fine-tune any station that `AutoModelForMultipleChoice` opens to choose among texts.

    python recipes/finetune_multiple_choice.py recipes/configs/finetune_multiple_choice.yaml \
        --model_name_or_path runs/bert --dataset copa/ --output_dir runs/bert_copa
    python recipes/finetune_multiple_choice.py recipes/configs/finetune_multiple_choice.yaml \
        --model_name_or_path runs/lstm --dataset codah/ --output_dir runs/lstm_codah --transfer frozen

The data set is a folder with files train, validation and optionally test, a file per split (--train_file, …), or a
name on the Hub. Rows have a text, choices (a list, or a column each) and label, the number of the right choice: the
columns of COPA, CODAH, SWAG and CommonsenseQA are known, others are named. After an interruption, run the same command
again.
"""

from collections import Counter
from dataclasses import dataclass, field

import datasets
import numpy as np
from accelerate import PartialState
from transformers import (
    AutoModelForMultipleChoice,
    AutoTokenizer,
    set_seed,
)

import hf_lineage  # noqa: F401 - registers the stations
from hf_lineage.arguments import FineTuningArguments, LabelledDataArguments, parse, run, saved_config
from hf_lineage.data import Rows, TaskCollator, read_choice_questions, splits_for_training, task_tokenizer
from hf_lineage.files import json_text, write_text
from hf_lineage.metrics import score_table
from hf_lineage.training import (
    LineageTrainer,
    LineageTrainingArguments,
    Results,
    RunFacts,
    last_complete_checkpoint,
    load_for_task,
    prepare_output_dir,
)


@dataclass
class ChoiceArguments:
    """Which columns hold the text and the choices, and how they are read."""

    text_fields: list[str] | None = field(
        default=None, metadata={"help": "Columns that make up the text; default: the usual names."}
    )
    choice_fields: list[str] | None = field(
        default=None,
        metadata={"help": "A column with lists of choices, or a column per choice; default: usual names."},
    )
    max_length: int = field(default=128, metadata={"help": "Longest text with a choice, in tokens."})


ARGUMENTS = (FineTuningArguments, ChoiceArguments, LabelledDataArguments, LineageTrainingArguments)


def main():
    # 1. arguments: flags beat the YAML file, which beats the defaults
    model_args, args, data_args, training_args = parse(*ARGUMENTS, description=__doc__)
    set_seed(training_args.seed)
    config = saved_config(model_args.model_name_or_path)
    output_dir = prepare_output_dir(
        training_args.output_dir,
        training_args.overwrite_output_dir,
        is_main_process=training_args.process_index == 0,
    )

    # 2. data: each choice is read with its text
    found = read_choice_questions(
        data_args.source, args.text_fields, args.choice_fields, data_args.label_field, encoding=data_args.encoding
    )
    splits = splits_for_training(data_args.source, found, data_args.validation_split)
    # the labels of public test sets may be secret
    if any(question.label is None for question in splits.get("test", [])):
        del splits["test"]
    splits["train"] = model_args.drawn(splits["train"])
    tokenizer = AutoTokenizer.from_pretrained(model_args.model_name_or_path)
    if config.model_type == "lineage_gpt":
        tokenizer = task_tokenizer(tokenizer)
    limit = min(args.max_length, getattr(config, "max_position_embeddings", args.max_length))

    def encoded(question):
        texts = [question.text] * len(question.choices)
        row = tokenizer(texts, list(question.choices), truncation=True, max_length=limit)
        return {**row, "labels": question.label}

    rows = {split: datasets.Dataset.from_list(list(map(encoded, splits[split]))) for split in splits}

    # 3. model: a new output layer on the pretrained body
    model, transfer = load_for_task(
        AutoModelForMultipleChoice, model_args, tokenizer, pad_token_id=tokenizer.pad_token_id
    )
    PartialState().print(transfer.report())

    # 4. trainer
    def scores_of(predictions, labels):
        return {"accuracy": float((np.asarray(predictions).argmax(1) == labels).mean())}

    trainer = LineageTrainer(
        model=model,
        args=training_args,
        train_dataset=Rows(rows["train"], seed=training_args.seed),
        eval_dataset=Rows(rows["validation"], shuffle=False),
        data_collator=TaskCollator(tokenizer),
        processing_class=tokenizer,
        compute_metrics=lambda outputs: scores_of(outputs.predictions, outputs.label_ids),
        transfer=transfer,
        callbacks=model_args.callbacks(),
    )

    trainer.facts = RunFacts(
        data_args.dataset or data_args.train_file,
        {"text": splits["validation"][0].text, "choices": list(splits["validation"][0].choices)},
        base_model=model_args.model_name_or_path,
    )

    # 5. train and save: AutoModelForMultipleChoice.from_pretrained(output_dir) opens it
    trainer.train(training_args.resume_from_checkpoint or last_complete_checkpoint(output_dir))
    trainer.save_model()

    # 6. evaluate
    results = Results(
        output_dir / "results.json",
        is_writer=trainer.is_world_process_zero(),
        model_type=model.config.model_type,
        transfer=model_args.transfer,
        parameters=transfer.counts(),
        seed=training_args.seed,
    )
    [(most_frequent, _)] = Counter(question.label for question in splits["train"]).most_common(1)
    lines = []
    with results.kept_on_error():
        for split in [split for split in ("validation", "test") if split in rows]:
            outputs = trainer.predict(Rows(rows[split], shuffle=False), metric_key_prefix=split)
            scores = {name: round(outputs.metrics[f"{split}_{name}"], 4) for name in ("loss", "accuracy")}
            labels = np.array([question.label for question in splits[split]])
            floors = {
                "majority": {"accuracy": float((labels == most_frequent).mean())},
                "chance": {"accuracy": 1 / len(splits[split][0].choices)},
            }
            results[split] = {**scores, "questions": len(labels), "floors": floors}
            PartialState().print(f"\n{split}\n{score_table(scores, floors)}")
            shares = np.exp(outputs.predictions - outputs.predictions.max(1, keepdims=True))
            shares = (shares / shares.sum(1, keepdims=True)).round(4)
            lines += [
                json_text(
                    {
                        "split": split,
                        "text": question.text,
                        "choices": list(question.choices),
                        "gold": question.label,
                        "answer": int(of_one.argmax()),
                        "probabilities": of_one.tolist(),
                    }
                )
                for question, of_one in zip(splits[split], shares, strict=True)
            ]
    if trainer.is_world_process_zero():
        trainer.create_model_card()
        write_text(output_dir / "predictions.jsonl", "\n".join(lines) + "\n")
    if training_args.push_to_hub:
        trainer.push_to_hub()


if __name__ == "__main__":
    run(main)
