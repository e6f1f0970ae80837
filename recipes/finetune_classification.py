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
of another size starts anew. After an interruption, run the same command again: training continues from the last
complete checkpoint in output_dir.
"""

import inspect
from dataclasses import dataclass, field

from accelerate import PartialState
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    set_seed,
)
from transformers import DataCollatorWithPadding as PaddingCollator

import hf_lineage  # noqa: F401 - registers the stations
from hf_lineage.arguments import FineTuningArguments, LabelledDataArguments, parse, run, saved_config
from hf_lineage.data import (
    PackingCollator,
    Rows,
    TaskCollator,
    TaskInputs,
    load_labelled,
    task_tokenizer,
)
from hf_lineage.metrics import classification_floors, score_classification, score_table
from hf_lineage.training import (
    LineageTrainer,
    LineageTrainingArguments,
    Results,
    RunFacts,
    last_complete_checkpoint,
    load_for_task,
    prepare_output_dir,
)


# those of the last line
SCORES = ("accuracy", "f1", "micro_f1", "matthews_correlation", "pearson", "spearman")
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
    floors: bool = field(default=True, metadata={"help": "Score the most frequent class and TF-IDF beside the model."})


ARGUMENTS = (FineTuningArguments, ClassificationArguments, LabelledDataArguments, LineageTrainingArguments)


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
        )
        fields, labels = data.text_fields, data.labels
        if labels.problem_type == "tagging":
            raise ValueError(f"{data_args.label_field} has a tag per word: recipes/finetune_tagging.py trains taggers")
        data.splits["train"] = model_args.drawn(data.splits["train"])
        tokenizer = AutoTokenizer.from_pretrained(model_args.model_name_or_path)
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
        encoded = data.splits.map(encode, batched=True, remove_columns=columns, desc="Tokenizing")

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
    if args.both_orders:
        collator = TaskCollator(tokenizer)
    elif args.packing and "cu_seq_lens_q" in inspect.signature(model.forward).parameters:
        collator = PackingCollator()
    else:
        collator = PaddingCollator(tokenizer)
    trainer = LineageTrainer(
        model=model,
        args=training_args,
        train_dataset=Rows(encoded["train"], seed=training_args.seed),
        eval_dataset=Rows(encoded["validation"], shuffle=False),
        data_collator=collator,
        processing_class=tokenizer,
        compute_metrics=lambda outputs: score_classification(outputs.predictions, outputs.label_ids),
        transfer=transfer,
        callbacks=model_args.callbacks(),
    )
    sample = [data.splits["validation"][0][field] for field in fields]
    sample = [" ".join(text) if data.are_words else text for text in sample]
    trainer.facts = RunFacts(
        data_args.dataset or data_args.train_file,
        sample[0] if len(sample) == 1 else dict(zip(("text", "text_pair"), sample, strict=True)),
        base_model=model_args.model_name_or_path,
    )

    def texts_and_labels(split):
        columns = [data.splits[split][field][:] for field in fields]
        texts = [[" ".join(text) if data.are_words else text for text in column] for column in columns]
        return texts, encoded[split]["labels"][:]

    # 5. train and save: AutoModelForSequenceClassification.from_pretrained(output_dir) opens it
    trainer.train(training_args.resume_from_checkpoint or last_complete_checkpoint(output_dir))
    trainer.save_model()

    # 6. evaluate
    results = Results(
        output_dir / "results.json",
        is_writer=trainer.is_world_process_zero(),
        model_type=model.config.model_type,
        problem_type=labels.problem_type,
        transfer=model_args.transfer,
        parameters=transfer.counts(),
        seed=training_args.seed,
    )
    with results.kept_on_error():
        for split in [split for split in ("validation", "test") if split in encoded]:
            scores = trainer.predict(Rows(encoded[split], shuffle=False), metric_key_prefix=split).metrics
            scores = {key.removeprefix(f"{split}_"): round(value, 4) for key, value in scores.items()}
            if args.floors and trainer.is_world_process_zero():
                floors = classification_floors(
                    *texts_and_labels("train"), *texts_and_labels(split), labels.problem_type
                )
                results[split] = {**scores, "floors": floors}
                print(f"\n{split}\n{score_table(scores, floors)}")
            else:
                results[split] = scores
    if trainer.is_world_process_zero():
        trainer.create_model_card()
        split = "test" if "test" in results else "validation"
        scores = {name: value for name, value in results[split].items() if name in SCORES}
        print(trainer.last_lines(f"{split} " + ", ".join(f"{name} {value:.4f}" for name, value in scores.items())))
    if training_args.push_to_hub:
        trainer.push_to_hub()


if __name__ == "__main__":
    run(main)
