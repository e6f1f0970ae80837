r"""Train a task's own network on the layers of a frozen ELMo, computed once: labels of texts, or of each word.

    python recipes/train_on_elmo.py recipes/configs/elmo_features.yaml --model_name_or_path runs/elmo \
        --dataset nyu-mll/glue:sst2 --layers_dir runs/layers --output_dir runs/elmo_sst2
    python recipes/train_on_elmo.py recipes/configs/elmo_features.yaml --model_name_or_path runs/elmo \
        --dataset NER --label_field ner --features none --layers_dir runs/layers --output_dir runs/words_ner

The network is a bidirectional LSTM over [x; ELMo] (Peters et al., 2018, section 3.3): x is a word's own vector,
learned with the task; ELMo is a learned mix of the layers. `--features none` holds the mix at zero, so the same
network reads x alone: the difference is ELMo's gain. Lists of words with lists of labels train a tagger, with a CRF
if config_overrides has use_crf; its F1 is that of whole entities. If the tokenizer cuts a word, the first
piece has the tag. Needs the extra finetune.

The data set is a folder with files train, validation and optionally test (.jsonl, .json, .csv, .tsv, also .gz;
.parquet), a file per split (--train_file, --validation_file, --test_file), or a name on the Hub. After an
interruption, run the same command again: training continues from the last complete checkpoint in output_dir.
"""

from dataclasses import dataclass, field
from typing import Literal

from accelerate import PartialState
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    set_seed,
)

import hf_lineage  # noqa: F401 - registers the stations
from hf_lineage.arguments import (
    LabelledDataArguments,
    check_opens,
    check_overrides,
    parse,
    run,
    saved_config,
    tokenizer_of_model,
)
from hf_lineage.data import KeptLayers, Rows, draw_rows, load_labelled
from hf_lineage.data.blocks import IGNORED
from hf_lineage.metrics import score_classification, score_tags
from hf_lineage.training import (
    LineageTrainer,
    LineageTrainingArguments,
    Results,
    RunFacts,
    last_complete_checkpoint,
    prepare_output_dir,
    with_new_head,
)


# those of the last line
SCORES = ("accuracy", "f1", "micro_f1", "matthews_correlation", "pearson", "spearman")
# columns of the usual data sets, tried in this order
TEXT_FIELDS = (["tokens"], ["sentence"], ["text"])


@dataclass
class FeatureArguments:
    """Which language model, which texts, and whether the task reads its layers."""

    model_name_or_path: str = field(metadata={"help": "A pretrained ELMo (folder or Hub name)."})
    features: Literal["elmo", "none"] = field(
        default="elmo", metadata={"help": "elmo: the task reads words and layers; none: words only."}
    )
    text_field: str | None = field(
        default=None, metadata={"help": "Column with texts or lists of words; default: tokens, sentence or text."}
    )
    num_train: int | None = field(
        default=None, metadata={"help": "Training rows, the same for every seed; default: all."}
    )
    layers_dir: str | None = field(
        default=None, metadata={"help": "Folder of the layers, for other runs too; default: in output_dir."}
    )
    config_overrides: dict | None = field(
        default=None, metadata={"help": 'Fields of the task\'s network, such as {"task_size": 64, "use_crf": true}.'}
    )


ARGUMENTS = (FeatureArguments, LabelledDataArguments, LineageTrainingArguments)


def main():
    # 1. arguments: flags beat the YAML file, which beats the defaults
    args, data_args, training_args = parse(*ARGUMENTS, description=__doc__)
    config = saved_config(args.model_name_or_path)
    check_opens(AutoModelForSequenceClassification, config, args.model_name_or_path)
    check_overrides(config, config.to_dict(), args.config_overrides or {})
    tokenizer = tokenizer_of_model(args.model_name_or_path)
    data_args.check_files()
    set_seed(training_args.seed)
    output_dir = prepare_output_dir(
        training_args.output_dir,
        training_args.overwrite_output_dir,
        is_main_process=training_args.process_index == 0,
    )

    # 2. data: one label per text, or one per word
    label_field = data_args.label_field
    with training_args.main_process_first(desc="data"):
        data = load_labelled(
            data_args.source,
            label_field,
            args.text_field and [args.text_field],
            TEXT_FIELDS,
            data_args.validation_split,
            problem_type=data_args.problem_type,
            encoding=data_args.encoding,
        )
    raw, labels, (text_field,) = data.splits, data.labels, data.text_fields
    if args.num_train is not None and args.num_train > (there := len(raw["train"])):
        PartialState().print(f"num_train is {args.num_train}, but there are only {there} training rows: all are taken")
    raw["train"] = draw_rows(raw["train"], args.num_train)
    is_tagging = labels.problem_type == "tagging"

    def with_numbers(row: dict) -> dict:
        if is_tagging:
            # a word of blanks is still a word
            return {
                text_field: [word if word.strip() else "_" for word in row[text_field]],
                "labels": labels.encode(row[label_field]),
            }
        return {"labels": labels.encode(row[label_field])}

    # 3. model: the task's network around the language model
    auto_class = AutoModelForTokenClassification if is_tagging else AutoModelForSequenceClassification
    settings = {**labels.config, "freeze_bilm": True, **(args.config_overrides or {})}
    model, new = with_new_head(auto_class, args.model_name_or_path, **settings)
    PartialState().print(f"Weights that start anew: {', '.join(new) or 'none, the head is the saved one'}")
    if args.features == "none":
        for mix in model.model.mixes:
            mix.gamma.data.zero_()
            mix.requires_grad_(False)

    # 4. the language model reads each text once
    language_model = AutoModel.from_pretrained(args.model_name_or_path).to(training_args.device)
    with training_args.main_process_first(desc="layers"):
        kept = {}
        for split in (split for split in ("train", "validation", "test") if split in raw):
            rows = raw[split].map(with_numbers, desc="Labels")
            rows = rows.select_columns([text_field, "labels"])
            folder = args.layers_dir or output_dir / "layers"
            tag_columns = ["labels"] if is_tagging else []
            kept[split] = KeptLayers(
                rows, language_model, tokenizer, folder, text_column=text_field, tag_columns=tag_columns
            )

    # 5. trainer
    def decoded(logits, labels):
        return model.decode(logits, labels != IGNORED)

    def names_of(rows, label_ids) -> list[list[str]]:
        return [
            [labels.names[number] for number in row[of_row != IGNORED]]
            for row, of_row in zip(rows, label_ids, strict=True)
        ]

    def score(outputs) -> dict[str, float]:
        if is_tagging:
            return score_tags(
                *(names_of(rows, outputs.label_ids) for rows in (outputs.label_ids, outputs.predictions))
            )
        return score_classification(outputs.predictions, outputs.label_ids)

    trainer = LineageTrainer(
        model=model,
        args=training_args,
        train_dataset=Rows(kept["train"], seed=training_args.seed),
        eval_dataset=Rows(kept["validation"], shuffle=False),
        data_collator=kept["train"].collate,
        processing_class=tokenizer,
        compute_metrics=score,
        preprocess_logits_for_metrics=decoded if is_tagging else None,
    )
    texts = raw["validation"][:100][text_field]
    sample = texts[0]
    texts = [text if isinstance(text, str) else " ".join(text) for text in texts]
    trainer.facts = RunFacts(
        data_args.dataset or data_args.train_file, sample, base_model=args.model_name_or_path, texts=texts
    )

    # 6. train and save: the auto class opens output_dir, language model included
    trainer.train(training_args.resume_from_checkpoint or last_complete_checkpoint(output_dir))
    trainer.save_model()

    # 7. evaluate
    results = Results(
        output_dir / "results.json",
        is_writer=trainer.is_world_process_zero(),
        model_type=model.config.model_type,
        problem_type=labels.problem_type,
        features=args.features,
        seed=training_args.seed,
        learning_parameters=sum(p.numel() for p in model.parameters() if p.requires_grad),
        # share of each layer that the task reads
        mixes=[[round(share, 3) for share in mix.weights.softmax(0).tolist()] for mix in model.model.mixes],
    )
    with results.kept_on_error():
        for split in [split for split in ("validation", "test") if split in kept]:
            scores = trainer.predict(Rows(kept[split], shuffle=False), metric_key_prefix=split).metrics
            scores = {key.removeprefix(f"{split}_"): round(value, 4) for key, value in scores.items()}
            results[split] = scores | (counts_of_words(raw[split][text_field], kept[split]) if is_tagging else {})
    if trainer.is_world_process_zero():
        trainer.create_model_card()
        split = "test" if "test" in results else "validation"
        scores = {name: value for name, value in results[split].items() if name in SCORES}
        print(trainer.last_lines(f"{split} " + ", ".join(f"{name} {value:.4f}" for name, value in scores.items())))
    if training_args.push_to_hub:
        trainer.push_to_hub()


def counts_of_words(texts: list[list[str]], rows: KeptLayers) -> dict[str, int]:
    """All words, and those not scored: the tokenizer drops them."""
    words = sum(map(len, texts))
    scored = sum(int((labels != IGNORED).sum()) for labels in rows.rows["labels"])
    return {"words": words, "words_not_scored": words - scored}


if __name__ == "__main__":
    run(main)
