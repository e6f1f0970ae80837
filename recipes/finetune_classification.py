r"""Fine-tune any station that `AutoModelForSequenceClassification` opens to label texts or pairs of texts.

    python recipes/finetune_classification.py recipes/configs/finetune_pairs.yaml \
        --model_name_or_path runs/bert --dataset my_labels/ --output_dir runs/bert_labels
    python recipes/finetune_classification.py recipes/configs/finetune_pairs.yaml \
        --model_name_or_path runs/bert --dataset nyu-mll/glue:rte --output_dir runs/bert_rte --seed 1
    python recipes/finetune_classification.py recipes/configs/finetune_gpt.yaml --model_name_or_path runs/gpt \
        --dataset nyu-mll/glue:sst2 --output_dir runs/gpt_sst2 --config_overrides '{"lm_loss_weight": 0}'

The data set is a folder with files train, validation and optionally test (.jsonl, .json, .csv, .tsv, also .gz;
.parquet), a file per split (--train_file, --validation_file, --test_file), or a name on the Hub. Labels are classes,
several classes per row (lists) or numbers; a printed line says which, and --problem_type overrules it. A saved head
of another size starts anew. --seeds, --learning_rates, --folds and --label_counts make several runs of one command.
After an interruption, run the same command again: it continues from the last complete checkpoint in output_dir.
"""

import inspect
from dataclasses import dataclass, field

import datasets
from accelerate import PartialState
from transformers import (
    AutoModelForSequenceClassification,
    set_seed,
)
from transformers import DataCollatorWithPadding as PaddingCollator

import hf_lineage  # noqa: F401 - registers the stations
from hf_lineage.arguments import (
    FineTuningArguments,
    GridArguments,
    LabelledDataArguments,
    parse,
    run,
)
from hf_lineage.data import (
    PackingCollator,
    Rows,
    TaskCollator,
    TaskInputs,
    load_labelled,
    task_tokenizer,
)
from hf_lineage.metrics import classification_floors, score_classification
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


# the first that the labels allow is that by which runs are compared
SCORES = ("accuracy", "spearman")
# columns of the usual data sets, tried in this order
TEXT_FIELDS = (
    ["sentence1", "sentence2"],
    ["premise", "hypothesis"],
    ["question1", "question2"],
    ["question", "sentence"],
    ["sentence"],
    ["text"],
)


@dataclass
class ClassificationArguments:
    """Which texts, and how they are read."""

    text_fields: list[str] | None = field(
        default=None, metadata={"help": "One or two columns with texts; default: the usual names."}
    )
    max_length: int = field(default=128, metadata={"help": "Longest text or pair, in tokens."})
    task_tokens: bool | None = field(
        default=None,
        metadata={"help": "Put start, delimiter and extract tokens around the texts; default: for GPT only."},
    )
    both_orders: bool = field(
        default=False, metadata={"help": "Read each pair in both orders and add their vectors (GPT's similarity)."}
    )
    packing: bool = field(
        default=True, metadata={"help": "Join texts in one row without padding, where the model can."}
    )
    floors: bool = field(default=True, metadata={"help": "Score the most frequent class and TF-IDF too."})

    def __post_init__(self):
        if self.text_fields is not None and len(self.text_fields) not in (1, 2):
            raise ValueError(f"text_fields is {' '.join(self.text_fields)}; give one or two columns")


ARGUMENTS = (
    FineTuningArguments,
    ClassificationArguments,
    LabelledDataArguments,
    GridArguments,
    LineageTrainingArguments,
)


def main():
    # flags beat the YAML file, which beats the defaults; one run, or several: --seeds, --learning_rates, …
    finetune_all(finetune, *parse(*ARGUMENTS, description=__doc__))


def finetune(
    tuning: FineTuningRun,
    model_args: FineTuningArguments,
    args: ClassificationArguments,
    data_args: LabelledDataArguments,
    training_args: LineageTrainingArguments,
):
    # 1. what is trained
    set_seed(training_args.seed)
    config, tokenizer = open_for_task(AutoModelForSequenceClassification, model_args)
    if args.both_orders and config.model_type != "lineage_gpt":
        raise ValueError(
            f"both_orders is for GPT, which reads from left to right, not {config.model_type}: leave it out"
        )

    # 2. data: texts, and labels that are classes or numbers
    with training_args.main_process_first(desc="data"):
        data = load_labelled(
            data_args.source,
            data_args.label_field,
            args.text_fields,
            TEXT_FIELDS,
            data_args.validation_split,
            problem_type=data_args.problem_type,
            encoding=data_args.encoding,
            folds=tuning.fold is not None,
        )
        fields, labels = data.text_fields, data.labels
        if args.both_orders and len(fields) != 2:
            raise ValueError(
                f"both_orders reads pairs, but text_fields is {fields}: name two columns, or leave it out"
            )
        if labels.problem_type == "tagging":
            raise ValueError(f"{data_args.label_field} has a tag per word: recipes/finetune_tagging.py trains taggers")
        raw = datasets.DatasetDict(tuning.rows_of(data.splits, data_args.validation_split))
        refuse_texts_without_blanks(tokenizer, raw["train"][fields[0]])
        if config.model_type == "lineage_gpt" if args.task_tokens is None else args.task_tokens:
            tokenizer = task_tokenizer(tokenizer)
        limit = min(args.max_length, tokenizer.model_max_length)
        # a recurrent model has no limit
        limit = min(limit, getattr(config, "max_position_embeddings", limit))

        in_both_orders = TaskInputs(tokenizer, "similarity", fields, limit) if args.both_orders else None

        def encode(batch):
            if in_both_orders:
                rows = [dict(zip(batch, row, strict=True)) for row in zip(*batch.values(), strict=True)]
                pairs = [in_both_orders(row) for row in rows]
                encoded = {name: [pair[name] for pair in pairs] for name in pairs[0]}
            else:
                texts = (batch[field] for field in fields)
                encoded = tokenizer(*texts, is_split_into_words=data.are_words, truncation=True, max_length=limit)
            return {**encoded, "labels": list(map(labels.encode, batch[data_args.label_field]))}

        columns = [*fields, data_args.label_field]
        encoded = raw.map(encode, batched=True, remove_columns=columns, desc="Tokenizing")

    # 3. model: a new output layer on the pretrained body
    model, transfer = load_for_task(
        AutoModelForSequenceClassification,
        model_args,
        tokenizer,
        **labels.config,
        pad_token_id=tokenizer.pad_token_id,
    )
    PartialState().print(transfer.report())

    # 4. trainer
    can_pack = args.packing and "cu_seq_lens_q" in inspect.signature(model.forward).parameters
    if args.both_orders:
        collator = TaskCollator(tokenizer)
    elif can_pack and transfer.mode != "features":
        collator = PackingCollator()
    else:
        collator = PaddingCollator(tokenizer)
    rows, collator = tuning.inputs(transfer, encoded, collator)
    trainer = LineageTrainer(
        model=model,
        args=training_args,
        train_dataset=Rows(rows["train"], seed=training_args.seed),
        eval_dataset=Rows(rows["validation"], shuffle=False),
        data_collator=collator,
        processing_class=tokenizer,
        compute_metrics=lambda outputs: score_classification(outputs.predictions, outputs.label_ids),
        transfer=transfer,
        callbacks=model_args.callbacks(),
    )

    def texts_of(split):
        columns = [raw[split][field][:] for field in fields]
        return [[" ".join(text) if data.are_words else text for text in column] for column in columns]

    texts = texts_of("validation")
    sample = [column[0] for column in texts]
    if args.both_orders:
        sample = {"both_orders": sample}
    else:
        sample = sample[0] if len(sample) == 1 else dict(zip(("text", "text_pair"), sample, strict=True))
    data_name = data_args.dataset or data_args.train_file
    facts = RunFacts(data_name, sample, base_model=model_args.model_name_or_path, texts=texts[0][:100])

    # 5. train and save: AutoModelForSequenceClassification.from_pretrained(output_dir) opens it
    tuning.train(trainer, facts, problem_type=labels.problem_type)

    # 6. evaluate
    trainer.compute_metrics = None
    with tuning.results.kept_on_error():
        for split in tuning.scored(rows):
            outputs = trainer.predict(Rows(rows[split], shuffle=False), metric_key_prefix=split)
            scores = score_classification(outputs.predictions, outputs.label_ids)
            texts, gold = texts_of(split), encoded[split]["labels"][:]
            floors = {}
            if args.floors:
                train = texts_of("train"), encoded["train"]["labels"][:]
                floors = classification_floors(*train, texts, gold, labels.problem_type)
                if "TF-IDF" not in floors:
                    PartialState().print(
                        f"{split}: TF-IDF is no floor, since the training rows have one class or no words"
                    )
            answers = [
                {"texts": list(of_row), **answer}
                for *of_row, answer in zip(*texts, labels.answers(outputs.predictions, gold), strict=True)
            ]
            main = next(name for name in SCORES if name in scores)
            tuning.report(split, {"loss": outputs.metrics[f"{split}_loss"], **scores}, floors, answers, main)
    tuning.finish()


if __name__ == "__main__":
    run(main)
