r"""Fine-tune any station that `AutoModelForTokenClassification` opens to tag words: parts of speech, named entities.

    python recipes/finetune_tagging.py recipes/configs/finetune_tagging.yaml --model_name_or_path runs/bert \
        --dataset en_ewt/ --label_field upos --output_dir runs/bert_upos
    python recipes/finetune_tagging.py recipes/configs/finetune_tagging.yaml --model_name_or_path runs/lstm \
        --train_file train.conll --validation_file dev.conll --output_dir runs/lstm_ner --use_crf true

The data set is a folder with files train, validation and optionally test, a file per split (--train_file, …), or a
name on the Hub. Formats: .jsonl with lists of tokens and tags, .csv and .tsv with such lists as JSON, .conllu, .conll
(a word per line, the tag in the last column), .parquet. A word's first token has its tag. Scores count every word:
accuracy, and whole entities if the tags mark them. The table also scores the most frequent tag, and each word's most
frequent tag in training. After an interruption, run the same command again. Needs the extra finetune.
"""

from dataclasses import dataclass, field

import numpy as np
from accelerate import PartialState
from transformers import (
    AutoModelForTokenClassification,
    DataCollatorForTokenClassification,
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
from hf_lineage.data import Rows, load_labelled, tagged_rows
from hf_lineage.data.blocks import IGNORED
from hf_lineage.metrics import majority_tags, score_tags
from hf_lineage.training import (
    FineTuningRun,
    LineageTrainer,
    LineageTrainingArguments,
    RunFacts,
    finetune_all,
    load_for_task,
    open_for_task,
)


# columns of the usual data sets, tried in this order
TEXT_FIELDS = (["tokens"], ["words"])
TAG_FIELDS = ("label", "tags", "ner_tags", "ner", "upos", "pos_tags", "pos", "labels")


@dataclass
class TaggingArguments:
    """How words are read and tagged."""

    text_field: str | None = field(
        default=None, metadata={"help": "Column with lists of words; default: tokens or words."}
    )
    label_field: str | None = field(
        default=None, metadata={"help": "Column with lists of tags; default: label, tags, ner_tags, ner, upos, …"}
    )
    max_length: int | None = field(
        default=None,
        metadata={"help": "Longest row in tokens; longer texts become several rows; default: the model's."},
    )
    label_all_tokens: bool = field(
        default=False, metadata={"help": "Train on all tokens of a word, not on the first alone (I- follows B-)."}
    )
    use_crf: bool = field(default=False, metadata={"help": "Score the tags of a text together, by a linear chain."})

    def __post_init__(self):
        if self.use_crf and self.label_all_tokens:
            raise ValueError("use_crf and label_all_tokens exclude each other: a chain has one tag per word")


ARGUMENTS = (FineTuningArguments, TaggingArguments, SplitArguments, GridArguments, LineageTrainingArguments)


def main():
    # flags beat the YAML file, which beats the defaults; one run, or several: --seeds, --learning_rates, …
    finetune_all(finetune, *parse(*ARGUMENTS, description=__doc__))


def finetune(
    tuning: FineTuningRun,
    model_args: FineTuningArguments,
    args: TaggingArguments,
    data_args: SplitArguments,
    training_args: LineageTrainingArguments,
):
    # 1. what is trained
    set_seed(training_args.seed)
    config, tokenizer = open_for_task(AutoModelForTokenClassification, model_args)

    # 2. data: a tag per word
    with training_args.main_process_first(desc="data"):
        data = load_labelled(
            data_args.source,
            args.label_field or TAG_FIELDS,
            args.text_field and [args.text_field],
            TEXT_FIELDS,
            data_args.validation_split,
            encoding=data_args.encoding,
            folds=tuning.fold is not None,
        )
        labels, (text_field,) = data.labels, data.text_fields
        if labels.problem_type != "tagging":
            raise ValueError(
                f"{data.label_field} has no list of tags per row, or {' '.join(data.text_fields)} no list of words "
                '(in .csv and .tsv write JSON, such as ["a", "b"]): use recipes/finetune_classification.py for texts'
            )
        raw = tuning.rows_of(data.splits, data_args.validation_split)
        # a recurrent model has no limit
        limits = (args.max_length, getattr(config, "max_position_embeddings", None), tokenizer.model_max_length)
        limit = min(number for number in limits if number is not None)
        limit = limit if limit < 1e9 else None
        number_of = {name: number for number, name in enumerate(labels.names)}
        continuing = {
            number: number_of.get("I-" + name[2:], number) if name.startswith("B-") else number
            for name, number in number_of.items()
        }

        def encode(batch, continuing=None):
            # a word of blanks is still a word
            texts = [[word if word.strip() else "_" for word in words] for words in batch[text_field]]
            tags = [labels.encode(of_words) for of_words in batch[data.label_field]]
            return tagged_rows(tokenizer, texts, tags, limit, continuing)

        def encoded(split, **options):
            return raw[split].map(
                encode, batched=True, batch_size=None, remove_columns=raw[split].column_names, fn_kwargs=options
            )

        train = encoded("train", continuing=continuing if args.label_all_tokens else None)
        parts = {split: encoded(split) for split in ("validation", "test") if split in raw}

    # 3. model: a new output layer on the pretrained body
    model, transfer = load_for_task(
        AutoModelForTokenClassification,
        model_args,
        tokenizer,
        **labels.config,
        pad_token_id=tokenizer.pad_token_id,
        # transformers' own models have no such field
        **({"use_crf": args.use_crf} if hasattr(config, "use_crf") else {}),
    )
    if args.use_crf and getattr(model, "crf", None) is None:
        raise ValueError(f"use_crf is True, but a {model.config.model_type} has no chain of tags: set it to False")
    PartialState().print(transfer.report())
    texts = {split: raw[split][text_field][:] for split in raw}
    names = dict(zip(labels.classes, labels.names, strict=True))
    gold = {split: [[names[tag] for tag in tags] for tags in raw[split][data.label_field]] for split in raw}
    most_frequent, by_word = majority_tags(texts["train"], gold["train"])

    # 4. trainer
    def decoded(logits, labels):
        """The best labels and their probabilities, of a chain the marginal ones [2, B, T]."""
        logits = logits[0] if isinstance(logits, tuple) else logits
        mask = labels != IGNORED
        if hasattr(model, "decode"):
            best, shares = model.decode(logits, mask), model.probabilities(logits, mask)
        else:
            best, shares = logits.argmax(2), logits.float().softmax(2)
        return best, shares.gather(2, best.clamp(min=0)[..., None])[..., 0]

    def answers(split, outputs):
        """Tag and probability of every word of each text; a word without a token has the most frequent tag."""
        tags = [[most_frequent] * len(words) for words in texts[split]]
        shares = [[None] * len(words) for words in texts[split]]
        best, probabilities = outputs.predictions
        for row, of_row in enumerate(parts[split].select_columns(["text", "words"])):
            places = np.flatnonzero(outputs.label_ids[row] != IGNORED)
            for place, word in zip(places, of_row["words"], strict=True):
                tags[of_row["text"]][word] = labels.names[best[row, place]]
                shares[of_row["text"]][word] = round(float(probabilities[row, place]), 4)
        return tags, shares

    rows = {split: part.remove_columns(["text", "words"]) for split, part in {"train": train, **parts}.items()}
    rows, collator = tuning.inputs(transfer, rows, DataCollatorForTokenClassification(tokenizer))
    trainer = LineageTrainer(
        model=model,
        args=training_args,
        train_dataset=Rows(rows["train"], seed=training_args.seed),
        eval_dataset=Rows(rows["validation"], shuffle=False),
        data_collator=collator,
        processing_class=tokenizer,
        compute_metrics=lambda outputs: score_tags(gold["validation"], answers("validation", outputs)[0]),
        preprocess_logits_for_metrics=decoded,
        transfer=transfer,
        callbacks=model_args.callbacks(),
    )
    data_name, sample = data_args.dataset or data_args.train_file, list(texts["validation"][0])
    shown = ["".join(words) for words in texts["validation"][:100]]
    facts = RunFacts(data_name, sample, base_model=model_args.model_name_or_path, texts=shown)

    # 5. train and save: AutoModelForTokenClassification.from_pretrained(output_dir) opens it
    tuning.train(trainer, facts)

    # 6. evaluate
    trainer.compute_metrics = None
    with tuning.results.kept_on_error():
        for split in tuning.scored(rows):
            outputs = trainer.predict(Rows(rows[split], shuffle=False), metric_key_prefix=split)
            tags, shares = answers(split, outputs)
            scores = {"loss": outputs.metrics[f"{split}_loss"], **score_tags(gold[split], tags)}
            words = [[by_word.get(word, most_frequent) for word in of_text] for of_text in texts[split]]
            floors = {
                "majority": score_tags(gold[split], [[most_frequent] * len(of_text) for of_text in texts[split]]),
                "majority of the word": score_tags(gold[split], words),
            }
            predictions = [
                dict(zip(("tokens", "gold", "answer", "probabilities"), of_text, strict=True))
                for of_text in zip(texts[split], gold[split], tags, shares, strict=True)
            ]
            tuning.report(
                split,
                scores,
                floors,
                predictions,
                "f1" if "f1" in scores else "accuracy",
                words=sum(map(len, texts[split])),
                words_without_answer=sum(share is None for of_text in shares for share in of_text),
                texts_in_several_rows=len(parts[split]) - len(texts[split]),
            )
    tuning.finish()


if __name__ == "__main__":
    run(main)
