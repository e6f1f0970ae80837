r"""Train an encoder-decoder to translate: any station that `AutoModelForSeq2SeqLM` opens.

    python recipes/pretrain_translation.py recipes/configs/transformer_tiny.yaml --output_dir runs/transformer
    accelerate launch --config_file recipes/accelerate/cpu_2procs.yaml recipes/pretrain_translation.py \
        recipes/configs/multi30k_transformer.yaml --corpus multi30k/ --output_dir runs/multi30k

After an interruption, run the same command again: training continues from the last complete checkpoint in output_dir.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from transformers import AutoConfig, AutoModelForSeq2SeqLM, set_seed

import hf_lineage  # noqa: F401 - registers the stations
from hf_lineage.arguments import ModelArguments, parse, run
from hf_lineage.data import (
    PairCollator,
    TokenBuckets,
    TranslationPairs,
    WordSegmentation,
    load_parallel_splits,
    segment_words,
    segmentation_of,
)
from hf_lineage.data.cjk import numbers_of_words
from hf_lineage.inference.given_alignment import NoAttentionError, align
from hf_lineage.metrics import (
    BLEU,
    AlignmentErrorRate,
    bleu_of_generated,
    bleu_tokenizer,
    generated_texts,
    is_lowercasing,
    parse_links,
    perplexities,
)
from hf_lineage.reports import bleu_by_length, plot_bleu_by_length, plot_learning_curves, write_alignment_report
from hf_lineage.tokenization import TRAINERS, is_word_level, open_tokenizer, translation_tokenizer
from hf_lineage.training import (
    Results,
    RunFacts,
    TranslationTrainer,
    TranslationTrainingArguments,
    last_complete_checkpoint,
    prepare_output_dir,
)


@dataclass
class TranslationArguments:
    """Which sentence pairs, which tokens, which scores."""

    corpus: str | None = field(
        default=None,
        metadata={
            "help": "A file, a folder with <split>.jsonl or <split>.<language> files, or a Hub name; default: the "
            "grammar."
        },
    )
    source_language: str = field(default="zh", metadata={"help": "Field (or file ending) of the source."})
    target_language: str = field(default="en", metadata={"help": "Field (or file ending) of the target."})
    validation_split: str = field(default="validation", metadata={"help": "Name of the validation split."})
    test_split: str = field(default="test", metadata={"help": "Name of the test split."})
    validation_share: float = field(
        default=0.05, metadata={"help": "Share of the pairs for each held-out split that the corpus lacks."}
    )
    word_segmentation: WordSegmentation = field(
        default="auto",
        metadata={"help": "Words of text without blanks, for models of words: by rjieba (extra zh) or characters."},
    )
    max_length: int | None = field(
        default=None, metadata={"help": "Longest side of a training pair, in tokens; longer pairs are left out."}
    )
    packing: bool = field(
        default=False,
        metadata={"help": "Join the pairs of a training batch in one row without padding; Transformer only."},
    )
    tokenizer_kind: Literal["byte_pairs", "wordpiece", "word_level", "character"] = field(
        default="byte_pairs",
        metadata={
            "help": "Tokenizer of both languages to train unless tokenizer_name is given. byte_pairs decode exactly; "
            "for wordpiece, rules learned from the training text put the blanks around punctuation."
        },
    )
    vocab_size: int | None = field(default=8_000, metadata={"help": "Vocabulary size of the tokenizer trained here."})
    min_frequency: int = field(
        default=2, metadata={"help": "How often a word or a pair of pieces must occur to become a token."}
    )
    lowercase: bool = field(
        default=False, metadata={"help": "Lower-case the text and both sides of BLEU (case:lc in its signature)."}
    )
    test_num_beams: int | None = field(
        default=None, metadata={"help": "Beams for the test text; default: generation_num_beams, as in evaluations."}
    )
    bleu_tokenize: str | None = field(
        default=None, metadata={"help": "sacrebleu's tokenizer; default: by target_language, such as zh, else 13a."}
    )
    length_bounds: list[int] = field(
        default_factory=lambda: [5, 10, 15, 20, 25],
        metadata={"help": "Bounds of source length, in words, for BLEU by length."},
    )
    compare_with: list[str] | None = field(
        default=None, metadata={"help": "Folders of finished runs to plot with this one in bleu_by_length.png."}
    )


ARGUMENTS = (ModelArguments, TranslationArguments, TranslationTrainingArguments)


def main():
    # 1. arguments: flags beat the YAML file, which beats the defaults
    model_args, data_args, training_args = parse(*ARGUMENTS, description=__doc__)
    others = [Path(folder) / "results.json" for folder in data_args.compare_with or ()]
    if missing := [str(path) for path in others if not path.is_file()]:
        raise FileNotFoundError(f"compare_with: {', '.join(missing)} not found: name folders of finished runs")
    model_args.check(AutoModelForSeq2SeqLM)
    set_seed(training_args.seed)
    output_dir = prepare_output_dir(
        training_args.output_dir,
        training_args.overwrite_output_dir,
        is_main_process=training_args.process_index == 0,
    )
    show_progress = not training_args.disable_tqdm

    # 2. sentence pairs and the tokenizer of both languages: the first process does the work, the others read its cache
    with training_args.main_process_first(desc="corpus and tokenizer"):
        corpora = load_parallel_splits(
            data_args.corpus,
            validation_split=data_args.validation_split,
            test_split=data_args.test_split,
            validation_share=data_args.validation_share,
            source_language=data_args.source_language,
            target_language=data_args.target_language,
        )
        if model_args.tokenizer_name:
            tokenizer = open_tokenizer(model_args.tokenizer_name)
            reads_words = is_word_level(tokenizer)
        else:
            reads_words = data_args.tokenizer_kind == "word_level"
        sides = ("source", "target") if reads_words else ()
        ways = {side: segmentation_of(corpora, data_args.word_segmentation, column=side) for side in sides}
        for side, way in ways.items():
            corpora = segment_words(corpora, way, column=side)
        if not model_args.tokenizer_name:
            settings = {"min_frequency": data_args.min_frequency, "lowercase": data_args.lowercase}
            if data_args.tokenizer_kind == "wordpiece":
                # accents tell words apart in the languages that have them
                settings |= {"strip_accents": False}
            # the words that rjieba cuts hold several characters
            if "characters" in ways.values() and "rjieba" not in ways.values():
                settings["split_characters"] = True
            train = TRAINERS[data_args.tokenizer_kind]
            texts = (row[side] for row in corpora["train"] for side in ("source", "target"))
            tokenizer = train(texts, data_args.vocab_size, show_progress=show_progress, **settings)
        tokenizer = translation_tokenizer(tokenizer, corpora["train"]["target"])
    pairs = {
        split: TranslationPairs(corpus, tokenizer, data_args.max_length if split == "train" else None, show_progress)
        for split, corpus in corpora.items()
    }

    # 3. model
    if model_args.model_name_or_path:
        model = AutoModelForSeq2SeqLM.from_pretrained(model_args.model_name_or_path)
    else:
        fields = {"model_type": model_args.model_type}
        if model_args.config_name:
            fields = AutoConfig.from_pretrained(model_args.config_name).to_dict()
        fields |= {
            "vocab_size": len(tokenizer),
            "pad_token_id": tokenizer.pad_token_id,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "decoder_start_token_id": tokenizer.bos_token_id,
        }
        fields |= model_args.config_overrides or {}
        model = AutoModelForSeq2SeqLM.from_config(AutoConfig.for_model(**fields))

    # 4. trainer: an update sees the same sentences, whatever the number of processes
    bleu = {
        "tokenize": data_args.bleu_tokenize or bleu_tokenizer(data_args.target_language),
        "lowercase": data_args.lowercase or is_lowercasing(tokenizer),
    }

    def scorer(split):
        return bleu_of_generated(tokenizer, corpora[split]["target"][:], **bleu)

    parts = training_args.world_size * training_args.gradient_accumulation_steps
    trainer = TranslationTrainer(
        model=model,
        args=training_args,
        train_dataset=TokenBuckets(
            pairs["train"],
            training_args.tokens_per_update,
            tokenizer.pad_token_id,
            parts,
            training_args.seed,
            number_pairs=training_args.scheduled_sampling is not None,
            packing=data_args.packing,
        ),
        eval_dataset=pairs["validation"],
        data_collator=PairCollator(tokenizer.pad_token_id),
        processing_class=tokenizer,
        compute_metrics=scorer("validation"),
    )
    trainer.facts = RunFacts(
        data_args.corpus,
        corpora["test"][0]["source"],
        default_data="a synthetic grammar of Chinese and English",
        language=[data_args.source_language, data_args.target_language],
        base_model=model_args.model_name_or_path,
    )

    # 5. train
    trainer.train(training_args.resume_from_checkpoint or last_complete_checkpoint(output_dir))

    # 6. save: AutoModelForSeq2SeqLM.from_pretrained(output_dir) and pipeline("translation", output_dir) open it
    trainer.save_model()

    # 7. translate the test text, and align it by the attention
    log = trainer.state.log_history
    results = Results(
        output_dir / "results.json",
        is_writer=trainer.is_world_process_zero(),
        model_type=model.config.model_type,
        parameters=model.num_parameters(),
        train_seconds=round(trainer.train_seconds, 1),
        train_curve=[(row["step"], row["loss"]) for row in log if "loss" in row],
        validation_curve=[(row["step"], row["eval_loss"], row.get("eval_bleu")) for row in log if "eval_loss" in row],
    )
    trainer.compute_metrics = scorer("test")
    beams = {} if data_args.test_num_beams is None else {"num_beams": data_args.test_num_beams}
    with results.kept_on_error():
        answers = trainer.predict(pairs["test"], **beams)
        results["test"] = {name.removeprefix("test_"): value for name, value in answers.metrics.items()}
        if trainer.is_world_process_zero():
            references, texts = corpora["test"]["target"][:], generated_texts(tokenizer, answers.predictions)
            labels = [row["labels"] for row in pairs["test"]]
            # the end of a sentence counts as a word and as a character, as it counts as a token
            perplexity = perplexities(
                nll=results["test"]["loss"] * sum(map(len, labels)),
                num_tokens=sum(map(len, labels)),
                num_words=sum(numbers_of_words(references)) + len(references),
                num_characters=sum(map(len, references)) + len(references),
                num_unknown=sum(int((row == tokenizer.unk_token_id).sum()) for row in labels),
            )
            signature = BLEU().compute(predictions=texts, references=references, **bleu)["signature"]
            results["test"] = results["test"] | {"bleu_signature": signature} | perplexity
            lengths = numbers_of_words(corpora["test"]["source"][:])
            results["bleu_by_length"] = bleu_by_length(texts, references, lengths, data_args.length_bounds, **bleu)
            gold = corpora["test"]["alignment"][:] if "alignment" in corpora["test"].column_names else None
            # all sentences where the alignment is known, else a few to look at
            texts = corpora["test"][: len(gold or range(20))]
            try:
                found = align(model, tokenizer, texts["source"], texts["target"], by_token=gold is None)
            except NoAttentionError:
                found = []
            if found and gold:
                results["alignment"] = AlignmentErrorRate().compute(
                    predictions=[alignment.links() for alignment in found], references=gold
                )

            # 8. draw
            finished = {path.parent.name: json.loads(path.read_text(encoding="utf-8")) for path in others}
            runs = {output_dir.name: results, **finished}
            plot_bleu_by_length(
                {name: run["bleu_by_length"] for name, run in runs.items()}, output_dir / "bleu_by_length.png"
            )
            plot_learning_curves(runs, output_dir / "learning_curves.png")
            if found:
                links = [parse_links(pair) for pair in gold[:20]] if gold else None
                write_alignment_report(
                    output_dir / "alignments.html", "What the model attends to", found[:20], gold=links
                )
    if trainer.is_world_process_zero():
        trainer.create_model_card()
        score = f"test BLEU {results['test']['bleu']:.1f}"
        if "alignment" in results:
            score += f", alignment error rate {results['alignment']['aer']:.1%}"
        print(trainer.last_lines(score))
    if training_args.push_to_hub:
        trainer.push_to_hub()


if __name__ == "__main__":
    run(main)
