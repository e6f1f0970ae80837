r"""Pretrain BERT on masked words and next sentences: on pairs of 128 tokens, in the last steps of 512.

    python recipes/pretrain_bert.py recipes/configs/bert_tiny.yaml --output_dir runs/bert
    accelerate launch --config_file recipes/accelerate/multi_gpu.yaml recipes/pretrain_bert.py \
        recipes/configs/bert_base.yaml --output_dir runs/bert --corpus my_books/ --sample_by paragraph

A document of the corpus is a text with its sentences in order (with --sample_by paragraph: lines between blank lines,
or every 10 lines of a file that has none).
After an interruption, run the same command again: training continues from the last complete checkpoint in output_dir.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path

from transformers import AutoConfig, AutoModelForPreTraining, pipeline, set_seed
from transformers import DataCollatorForTokenClassification as PaddingCollator

import hf_lineage  # noqa: F401 - registers the stations
from hf_lineage.arguments import DataArguments, GrowthArguments, ModelArguments, parse, refuse_epochs, run
from hf_lineage.data import (
    Masking,
    PackingCollator,
    SentencePairs,
    StreamedSentencePairs,
    WithoutBlanks,
    batch_sizes,
    encode_sentences,
    encoded_sentence_pairs,
    growing_data,
    load_splits,
    short_sentences,
    with_a_mask,
)
from hf_lineage.metrics import measure_bert_pretraining
from hf_lineage.reports import plot_learning_curves, record_attention, write_attention_report
from hf_lineage.tokenization import open_tokenizer, train_wordpiece
from hf_lineage.training import (
    BertAdam,
    BERTPretrainingTrainer,
    ExpectedCurve,
    LineageTrainingArguments,
    Results,
    RunFacts,
    last_complete_checkpoint,
    loss_by_frequency,
    prepare_output_dir,
)


@dataclass
class BERTPretrainingArguments:
    """Arguments of BERT's pre-training alone; `block_size` is the length of a pair."""

    packing: bool = field(default=True, metadata={"help": "Join the pairs of a batch in one row without padding."})
    encoded_corpus: str | None = field(
        default=None,
        metadata={"help": "Folder of `hf_lineage scale sentences`: the training text, each process its own files."},
    )
    duplicates: int = field(
        default=10, metadata={"help": "Times each document is cut into pairs; with streaming: once per pass."}
    )
    short_probability: float = field(default=0.1, metadata={"help": "Share of documents cut into shorter pairs."})
    language: str | None = field(
        default=None,
        metadata={"help": "Language of the text, such as de, for cutting sentences; default: by its writing system."},
    )
    whole_words: bool = field(default=False, metadata={"help": "Mask whole words, not pieces."})
    mask_probability: float = field(
        default=0.15, metadata={"help": "Share of a training pair's tokens to predict; held-out pairs have 0.15."}
    )
    last_mask_probability: float | None = field(
        default=None,
        metadata={"help": "The share at the end of training, which starts at mask_probability and moves evenly."},
    )
    mask_share: float = field(default=0.8, metadata={"help": "Share of these tokens that become [MASK] in training."})
    random_share: float = field(
        default=0.1, metadata={"help": "Share of these tokens that become a random token in training."}
    )
    dynamic_masking: bool = field(
        default=False, metadata={"help": "Draw new masks in each epoch (always when streamed)."}
    )
    paper_exact: bool = field(
        default=False,
        metadata={"help": "Use BertAdam, without bias correction, as released."},
    )
    vocab_size: int = field(default=8_000, metadata={"help": "Size of the WordPiece vocabulary trained here."})
    prompts: list[str] | None = field(
        default=None,
        metadata={"help": "Texts whose [MASK] the trained model fills in; default: sentences of the test text."},
    )
    picture: str | None = field(
        default=None, metadata={"help": "Text whose attention is drawn; default: a sentence of the test text."}
    )


ARGUMENTS = (ModelArguments, DataArguments, BERTPretrainingArguments, GrowthArguments, LineageTrainingArguments)


def main():
    # 1. arguments: flags beat the YAML file, which beats the defaults
    model_args, data_args, bert_args, growth, training_args = parse(*ARGUMENTS, description=__doc__)
    model_args.check(AutoModelForPreTraining, "lineage_bert", "bert")
    growth.check(training_args, data_args.block_size)
    set_seed(training_args.seed)
    output_dir = prepare_output_dir(
        training_args.output_dir,
        training_args.overwrite_output_dir,
        is_main_process=training_args.process_index == 0,
    )
    training_args.prediction_loss_only = True
    if data_args.document_packing:
        raise ValueError("document_packing is for causal language models; for BERT use packing, which joins pairs")
    if bert_args.encoded_corpus:
        if not model_args.tokenizer_name:
            raise ValueError("encoded_corpus needs tokenizer_name, the tokenizer that encoded it")
        # the corpus is then only for the held-out texts
        data_args.streaming = True
    if data_args.streaming and training_args.max_steps <= 0:
        raise ValueError("streaming: a streamed corpus has no known end; set max_steps")
    if data_args.streaming and growth.is_used:
        raise ValueError(
            "long_block_size and first_batch_size need a corpus in memory: leave out streaming, or train on long "
            "pairs in a second run, with model_name_or_path and a larger block_size"
        )
    if (last_share := bert_args.last_mask_probability) is not None:
        if data_args.streaming or not bert_args.dynamic_masking:
            raise ValueError(
                "last_mask_probability needs new masks in each epoch and a known end: set dynamic_masking, and leave "
                "out streaming"
            )
        if not 0 <= last_share <= 1:
            raise ValueError(f"last_mask_probability is {last_share}; it must lie in [0, 1]")
        refuse_epochs(training_args, "last_mask_probability makes one epoch of the whole run")

    # 2. tokenizer and data: the first process does the work, the others read its cache
    with training_args.main_process_first(desc="tokenizer and data"):
        corpora = load_splits(**data_args.text, streaming=data_args.streaming)
        if model_args.tokenizer_name:
            tokenizer = open_tokenizer(model_args.tokenizer_name)
        else:
            tokenizer = train_wordpiece((row["text"] for row in corpora["train"]), bert_args.vocab_size)
        workers = data_args.preprocessing_num_workers
        streams = {
            split: encode_sentences(corpus, tokenizer, language=bert_args.language, num_proc=workers)
            for split, corpus in corpora.items()
            if not (data_args.streaming and split == "train")
        }

    def pairs(split, length, probability=0.15, **settings):
        # held-out pairs are masked as in the paper, so that runs with other shares compare
        shares, most = {}, probability
        if split == "train":
            shares = {"mask_share": bert_args.mask_share, "random_share": bert_args.random_share}
            most = max(probability, last_share or 0.0)
        shares |= {"probability": probability, "max_predictions": math.ceil(most * length)}
        masking = Masking.of(tokenizer, bert_args.whole_words, **shares)
        settings |= {"masking": masking, "short_probability": bert_args.short_probability, "seed": training_args.seed}
        if split not in streams and bert_args.encoded_corpus:
            settings["duplicates"] = bert_args.duplicates
            return encoded_sentence_pairs(bert_args.encoded_corpus, tokenizer, length, **settings).repeat(None)
        if split not in streams:
            settings |= {"language": bert_args.language, "passes": None}
            return StreamedSentencePairs(corpora[split], tokenizer, length, **settings)
        return SentencePairs(streams[split], tokenizer, length, **settings)

    train_settings = {}
    if data_args.streaming:
        # each process makes its own batches: a batch joined in one row cannot be split among processes
        training_args.accelerator_config.dispatch_batches = False
    else:
        train_settings = {"duplicates": bert_args.duplicates, "dynamic_masking": bert_args.dynamic_masking}
        train_settings["show_progress"] = not training_args.disable_tqdm
    train_data = pairs("train", data_args.block_size, bert_args.mask_probability, **train_settings)
    pairs_per_step = training_args.rows_per_update
    if growth.is_used or last_share is not None:
        # short and long pairs, small and whole batches make one epoch of max_steps under one schedule
        if training_args.max_steps <= 0:
            # a long pair is as much text as several short ones
            tokens = training_args.num_train_epochs * len(train_data) * data_args.block_size
            training_args.max_steps = growth.steps_for(tokens, pairs_per_step, data_args.block_size)
        sizes = batch_sizes(training_args.max_steps, pairs_per_step, growth.first_batch_size, growth.growth_steps)
        steps, parts = growth.steps(training_args.max_steps), [train_data]
        if growth.long_block_size:
            share = bert_args.mask_probability if last_share is None else last_share
            parts.append(pairs("train", growth.long_block_size, share, **train_settings))
        if last_share is not None:
            train_data.move_masking(last_share, int(sizes[: steps[0]].sum()))
        train_data = growing_data(parts, steps, pairs_per_step, sizes)
    once = {"duplicates": 1, "shuffle": False}
    held_out = {split: pairs(split, data_args.block_size, **once) for split in ("validation", "test")}

    # 3. model
    if model_args.model_name_or_path:
        model = AutoModelForPreTraining.from_pretrained(model_args.model_name_or_path)
    else:
        fields = {"model_type": model_args.model_type}
        if model_args.config_name:
            fields = AutoConfig.from_pretrained(model_args.config_name).to_dict()
        fields |= {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
        fields |= model_args.config_overrides or {}
        model = AutoModelForPreTraining.from_config(AutoConfig.for_model(**fields))
    tokenizer.model_max_length = model.config.max_position_embeddings
    growth.check_longest(model.config.max_position_embeddings)

    # 4. trainer
    collator = PackingCollator() if bert_args.packing else PaddingCollator(tokenizer)
    callbacks = []
    if growth.expected_curve:
        counted = streams.get("train", streams["validation"]).tokens
        # of masked words, and of the pairs, which are as often random as not
        chance = loss_by_frequency(counted, streams["validation"].tokens, len(tokenizer))

        def tokens_after(step):
            last = max(step, training_args.max_steps)
            return growth.tokens_until(last, pairs_per_step, data_args.block_size)[step - 1]

        folder = Path(__file__).parent / "configs"
        callbacks.append(ExpectedCurve(growth.expected_curve, chance + math.log(2), tokens_after, folder))
    optimizer = None
    if bert_args.paper_exact:
        betas = (training_args.adam_beta1, training_args.adam_beta2)
        optimizer = (BertAdam, {"lr": training_args.learning_rate, "betas": betas, "eps": training_args.adam_epsilon})
    trainer = BERTPretrainingTrainer(
        model=model,
        args=training_args,
        train_dataset=train_data,
        eval_dataset=held_out["validation"],
        data_collator=WithoutBlanks(collator) if growth.first_batch_size else collator,
        processing_class=tokenizer,
        optimizer_cls_and_kwargs=optimizer,
        callbacks=callbacks,
    )
    texts = corpora["test"][:100]["text"]
    sentences = short_sentences(texts, tokenizer, 2, bert_args.language)
    prompts = bert_args.prompts or [with_a_mask(sentence, tokenizer) for sentence in sentences]
    trainer.facts = RunFacts(
        data_args.corpus,
        prompts[0],
        language=bert_args.language or (None if data_args.corpus else "en"),
        base_model=model_args.model_name_or_path,
        texts=texts,
    )

    # 5. train
    trainer.train(training_args.resume_from_checkpoint or last_complete_checkpoint(output_dir))

    # 6. save: every head of BERT, and transformers' BertModel, opens output_dir
    trainer.save_model()

    # 7. evaluate; fill masks; draw the attention
    if trainer.is_world_process_zero():
        log = trainer.state.log_history
        results = Results(
            output_dir / "results.json",
            model_type=model.config.model_type,
            parameters=model.num_parameters(),
            train_seconds=round(trainer.train_seconds, 1),
            steps=trainer.state.global_step,
            train_curve=[(row["step"], row["loss"]) for row in log if "loss" in row],
            validation_curve=[(row["step"], row["eval_loss"]) for row in log if "eval_loss" in row],
        )
        with results.kept_on_error():
            for split, data in held_out.items():
                results[split] = measure_bert_pretraining(model, data)
            fill = pipeline("fill-mask", model=str(output_dir), device="cpu")
            results["samples"] = [(text, [guess["token_str"] for guess in fill(text)]) for text in prompts]
            plot_learning_curves({output_dir.name: results}, output_dir / "learning_curves.png")
            drawn = record_attention(output_dir, bert_args.picture or sentences[0])
            write_attention_report(output_dir / "attention.html", drawn)
        trainer.create_model_card()
        test = results["test"]
        print(
            trainer.last_lines(
                f"test perplexity of masked words {test['masked_word_perplexity']:.1f} (by frequency alone "
                f"{test['masked_word_frequency_perplexity']:.1f}), next sentence {test['next_sentence_accuracy']:.1%} "
                f"(majority {test['next_sentence_majority']:.1%})"
            )
        )
    if training_args.push_to_hub:
        trainer.push_to_hub()


if __name__ == "__main__":
    run(main)
