r"""Fine-tune any station that `AutoModelForQuestionAnswering` opens to find answers in a text.

    python recipes/finetune_question_answering.py recipes/configs/finetune_question_answering.yaml \
        --model_name_or_path runs/bert --dataset squad/ --output_dir runs/bert_squad
    python recipes/finetune_question_answering.py recipes/configs/finetune_question_answering.yaml \
        --model_name_or_path runs/bert_zh --dataset cmrc/ --output_dir runs/bert_cmrc

The data set is a folder with files train, validation and optionally test, a file per split (--train_file, …), or a
name on the Hub: SQuAD's .json (v1.1 or v2.0), or rows with question, context and answers {"text", "answer_start"} (in
.csv and .tsv as JSON, or the columns answer and answer_start). Answers are pieces of the text by their characters. If
some questions have no answer, the threshold for an empty answer is searched on the validation text. After an
interruption, run the same command again.
"""

from collections import Counter
from dataclasses import dataclass, field

from accelerate import PartialState
from transformers import (
    AutoModelForQuestionAnswering,
    set_seed,
)
from transformers import DataCollatorWithPadding as PaddingCollator

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
    question_rows,
    read_questions,
    splits_for_training,
    task_tokenizer,
    without_secret_test,
)
from hf_lineage.data.cjk import written_language
from hf_lineage.files import write_json
from hf_lineage.metrics import best_null_threshold, find_answers, score_answers
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
class AnswerArguments:
    """Which columns hold questions, texts and answers, how they are read, and which spans are answers."""

    question_field: str = field(default="question", metadata={"help": "Column with the questions."})
    context_field: str = field(default="context", metadata={"help": "Column with the texts that answer them."})
    answers_field: str | None = field(
        default=None, metadata={"help": "Column with the answers; default: answers, else answer (and answer_start)."}
    )
    max_length: int = field(default=384, metadata={"help": "Tokens in a row of question and text."})
    stride: int | None = field(
        default=None,
        metadata={"help": "Tokens by which the rows of a long text overlap; default: 128, less in short rows."},
    )
    max_question_length: int = field(default=64, metadata={"help": "Tokens after which a question is cut."})
    n_best: int = field(default=20, metadata={"help": "Answers that predictions.jsonl has for each question."})
    max_answer_length: int = field(default=30, metadata={"help": "Tokens in the longest answer."})
    chinese: bool | None = field(
        default=None,
        metadata={
            "help": "Score as CMRC 2018 does, by characters; default: if most letters are Chinese (a line says)."
        },
    )

    def __post_init__(self):
        for name in ("n_best", "max_answer_length", "max_question_length"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")


ARGUMENTS = (FineTuningArguments, AnswerArguments, SplitArguments, GridArguments, LineageTrainingArguments)


def main():
    # flags beat the YAML file, which beats the defaults; one run, or several: --seeds, --learning_rates, …
    finetune_all(finetune, *parse(*ARGUMENTS, description=__doc__))


def finetune(
    tuning: FineTuningRun,
    model_args: FineTuningArguments,
    args: AnswerArguments,
    data_args: SplitArguments,
    training_args: LineageTrainingArguments,
):
    # 1. what is trained
    set_seed(training_args.seed)
    config, tokenizer = open_for_task(AutoModelForQuestionAnswering, model_args)

    # 2. data: rows of question and text, long texts in several
    found = read_questions(
        data_args.source, args.question_field, args.context_field, args.answers_field, encoding=data_args.encoding
    )
    splits = splits_for_training(data_args.source, found, data_args.validation_split)
    # the answers of public test sets may be secret
    splits = without_secret_test(splits, lambda question: question.answers)
    splits = tuning.rows_of(splits, data_args.validation_split)
    [(name, times)] = Counter(question.id for question in splits["validation"]).most_common(1)
    if times > 1:
        raise ValueError(
            f"the id {name!r} stands in the train and in the validation questions, which folds join: give each "
            "question its own id"
        )
    chinese = args.chinese
    if chinese is None:
        chinese = written_language(question.context for question in splits["validation"][:1_000]) == "zh"
        by = "characters, as in CMRC 2018" if chinese else "words between blanks, as in SQuAD"
        PartialState().print(f"Answers are scored by {by}; --chinese {str(not chinese).lower()} changes this")
    refuse_texts_without_blanks(tokenizer, (question.context for question in splits["train"]))
    if config.model_type == "lineage_gpt":
        tokenizer = task_tokenizer(tokenizer)
    # positions are those of rows that are padded behind
    tokenizer.padding_side = "right"
    limit = min(args.max_length, getattr(config, "max_position_embeddings", args.max_length))
    encoded, windows = {}, {}
    for split, of_split in splits.items():
        encoded[split], windows[split] = question_rows(
            tokenizer, of_split, limit, args.stride, args.max_question_length
        )
    gold = {split: [[text for text, _ in question.answers] for question in splits[split]] for split in splits}
    some_have_none = not all(answers for split in splits for answers in gold[split])

    # 3. model: a new output layer on the pretrained body
    model, transfer = load_for_task(
        AutoModelForQuestionAnswering, model_args, tokenizer, pad_token_id=tokenizer.pad_token_id
    )
    PartialState().print(transfer.report())

    # 4. trainer
    def answers(split, outputs, null_threshold):
        return find_answers(
            splits[split],
            windows[split],
            *outputs.predictions[:2],
            n_best=args.n_best,
            max_answer_length=args.max_answer_length,
            null_threshold=null_threshold,
        )

    def scores_of(split, found):
        return score_answers(gold[split], [each["answer"] for each in found], chinese=chinese)

    rows, collator = tuning.inputs(transfer, encoded, PaddingCollator(tokenizer))
    trainer = LineageTrainer(
        model=model,
        args=training_args,
        train_dataset=Rows(rows["train"], seed=training_args.seed),
        eval_dataset=Rows(rows["validation"], shuffle=False),
        data_collator=collator,
        processing_class=tokenizer,
        compute_metrics=lambda outputs: scores_of(
            "validation", answers("validation", outputs, 0.0 if some_have_none else None)
        ),
        transfer=transfer,
        callbacks=model_args.callbacks(),
    )
    first = splits["validation"][0]
    sample = {"question": first.question, "context": first.context}
    facts = RunFacts(
        data_args.dataset or data_args.train_file,
        sample,
        base_model=model_args.model_name_or_path,
        texts=[question.context for question in splits["validation"][:100]],
    )

    # 5. train and save: AutoModelForQuestionAnswering.from_pretrained(output_dir) opens it
    tuning.train(trainer, facts)

    # 6. evaluate
    threshold = None
    trainer.compute_metrics = None
    with tuning.results.kept_on_error():
        for split in tuning.scored(rows):
            outputs = trainer.predict(Rows(rows[split], shuffle=False), metric_key_prefix=split)
            if some_have_none and split == "validation":
                found = answers(split, outputs, None)
                texts, odds = ([each[name] for each in found] for name in ("answer", "null_odds"))
                threshold = best_null_threshold(gold[split], texts, odds, chinese=chinese)
                tuning.results["null_threshold"] = threshold
            found = answers(split, outputs, threshold)
            floors = {"the whole text": [question.context for question in splits[split]]}
            if some_have_none:
                floors["no answer"] = [""] * len(splits[split])
            floors = {name: score_answers(gold[split], texts, chinese=chinese) for name, texts in floors.items()}
            scores = {"loss": outputs.metrics[f"{split}_loss"], **scores_of(split, found)}
            predictions = [
                {"id": question.id, "question": question.question, "context": question.context, "gold": of_one}
                | score_answers([of_one], [each["answer"]], chinese=chinese)
                | each
                for question, of_one, each in zip(splits[split], gold[split], found, strict=True)
            ]
            counts = {"questions": len(splits[split]), "rows": len(rows[split])}
            tuning.report(split, scores, floors, predictions, "f1", **counts)
            if trainer.is_world_process_zero():
                # as SQuAD's own script reads them
                files = {"predictions": "answer"} | ({"null_odds": "null_odds"} if some_have_none else {})
                for file, name in files.items():
                    by_id = {line["id"]: line[name] for line in predictions}
                    write_json(tuning.folder / f"{split}_{file}.json", by_id)
    tuning.finish()


if __name__ == "__main__":
    run(main)
