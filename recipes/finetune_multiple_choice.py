r"""Fine-tune any station that `AutoModelForMultipleChoice` opens to choose among texts.

    python recipes/finetune_multiple_choice.py recipes/configs/finetune_multiple_choice.yaml \
        --model_name_or_path runs/bert --dataset copa/ --output_dir runs/bert_copa
    python recipes/finetune_multiple_choice.py recipes/configs/finetune_multiple_choice.yaml \
        --model_name_or_path runs/lstm --dataset codah/ --output_dir runs/lstm_codah --transfer frozen

The data set is a folder with files train, validation and optionally test, a file per split (--train_file, …), or a
name on the Hub. Rows have a text, choices (a list, which .csv and .tsv have as JSON, or a column each) and label, the
number of the right choice or its letter: the columns of COPA, CODAH, SWAG and CommonsenseQA are known, others are
named. After an interruption, run the same command again.
"""

from dataclasses import dataclass, field

import datasets
import torch
from accelerate import PartialState
from transformers import (
    AutoModelForMultipleChoice,
    set_seed,
)

import hf_lineage  # noqa: F401 - registers the stations
from hf_lineage.arguments import (
    FineTuningArguments,
    GridArguments,
    SplitArguments,
    parse,
    run,
)
from hf_lineage.data import (
    Rows,
    TaskCollator,
    read_choice_questions,
    splits_for_training,
    task_tokenizer,
    without_secret_test,
)
from hf_lineage.metrics import choice_floors
from hf_lineage.tokenization import refuse_texts_without_blanks
from hf_lineage.training import (
    FineTuningRun,
    LineageTrainer,
    LineageTrainingArguments,
    RunFacts,
    finetune_all,
    load_for_task,
    open_for_task,
)


@dataclass
class ChoiceArguments:
    """Which columns hold the text, the choices and the label, and how they are read."""

    text_fields: list[str] | None = field(
        default=None, metadata={"help": "Columns that make up the text; default: the usual names."}
    )
    choice_fields: list[str] | None = field(
        default=None,
        metadata={"help": "A column with lists of choices, or a column per choice; default: usual names."},
    )
    label_field: str | None = field(
        default=None,
        metadata={
            "help": "The column with the number or the letter of the right choice; default: label or answerKey."
        },
    )
    max_length: int = field(default=128, metadata={"help": "Longest text with a choice, in tokens."})


ARGUMENTS = (FineTuningArguments, ChoiceArguments, SplitArguments, GridArguments, LineageTrainingArguments)


def main():
    # flags beat the YAML file, which beats the defaults; one run, or several: --seeds, --learning_rates, …
    finetune_all(finetune, *parse(*ARGUMENTS, description=__doc__))


def finetune(
    tuning: FineTuningRun,
    model_args: FineTuningArguments,
    args: ChoiceArguments,
    data_args: SplitArguments,
    training_args: LineageTrainingArguments,
):
    # 1. what is trained
    set_seed(training_args.seed)
    config, tokenizer = open_for_task(AutoModelForMultipleChoice, model_args)

    # 2. data: each choice is read with its text
    found = read_choice_questions(
        data_args.source, args.text_fields, args.choice_fields, args.label_field, encoding=data_args.encoding
    )
    splits = splits_for_training(data_args.source, found, data_args.validation_split)
    # the labels of public test sets may be secret
    splits = without_secret_test(splits, lambda question: question.label)
    splits = tuning.rows_of(splits, data_args.validation_split)
    refuse_texts_without_blanks(tokenizer, (question.text for question in splits["train"]))
    if config.model_type == "lineage_gpt":
        tokenizer = task_tokenizer(tokenizer)
    limit = min(args.max_length, getattr(config, "max_position_embeddings", args.max_length))

    def encode(question):
        texts = [question.text] * len(question.choices)
        row = tokenizer(texts, list(question.choices), truncation=True, max_length=limit)
        return {**row, "labels": question.label}

    encoded = {split: datasets.Dataset.from_list(list(map(encode, splits[split]))) for split in splits}

    # 3. model: a new output layer on the pretrained body
    model, transfer = load_for_task(
        AutoModelForMultipleChoice, model_args, tokenizer, pad_token_id=tokenizer.pad_token_id
    )
    PartialState().print(transfer.report())

    # 4. trainer
    rows, collator = tuning.inputs(transfer, encoded, TaskCollator(tokenizer))
    trainer = LineageTrainer(
        model=model,
        args=training_args,
        train_dataset=Rows(rows["train"], seed=training_args.seed),
        eval_dataset=Rows(rows["validation"], shuffle=False),
        data_collator=collator,
        processing_class=tokenizer,
        compute_metrics=lambda outputs: {
            "accuracy": float((outputs.predictions.argmax(1) == outputs.label_ids).mean())
        },
        transfer=transfer,
        callbacks=model_args.callbacks(),
    )
    first = splits["validation"][0]
    sample = {"text": first.text, "choices": list(first.choices)}
    facts = RunFacts(
        data_args.dataset or data_args.train_file,
        sample,
        base_model=model_args.model_name_or_path,
        texts=[question.text for question in splits["validation"][:100]],
    )

    # 5. train and save: AutoModelForMultipleChoice.from_pretrained(output_dir) opens it
    tuning.train(trainer, facts)

    # 6. evaluate
    with tuning.results.kept_on_error():
        for split in tuning.scored(rows):
            outputs = trainer.predict(Rows(rows[split], shuffle=False), metric_key_prefix=split)
            scores = {name: outputs.metrics[f"{split}_{name}"] for name in ("loss", "accuracy")}
            floors = choice_floors(splits["train"], splits[split])
            shares = torch.tensor(outputs.predictions).softmax(1)
            answers = [
                {
                    "text": question.text,
                    "choices": list(question.choices),
                    "gold": question.label,
                    "answer": int(of_one.argmax()),
                    "probability": round(float(of_one.max()), 4),
                    "probabilities": [round(share, 4) for share in of_one.tolist()],
                }
                for question, of_one in zip(splits[split], shares, strict=True)
            ]
            tuning.report(split, scores, floors, answers, "accuracy", questions=len(splits[split]))
    tuning.finish()


if __name__ == "__main__":
    run(main)
