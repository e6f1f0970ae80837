r"""Pretrain ELMo, a bidirectional language model: it reads sentences in both directions and carries its states.

    python recipes/pretrain_bilm.py recipes/configs/elmo_tiny.yaml --output_dir runs/elmo
    accelerate launch --config_file recipes/accelerate/cpu_2procs.yaml recipes/pretrain_bilm.py \
        recipes/configs/elmo_tiny.yaml --output_dir runs/elmo --corpus my_texts/

A row of the corpus is a sentence with white space between words. After an interruption, run the same command again:
training continues from the last complete checkpoint in output_dir.
"""

from dataclasses import dataclass, field

import torch
from transformers import AutoConfig, AutoModelForPreTraining, set_seed

import hf_lineage  # noqa: F401 - registers the stations
from hf_lineage.arguments import DataArguments, ModelArguments, parse, run
from hf_lineage.data import (
    BidirectionalStreams,
    encode_bilm_corpus,
    load_splits,
    recurring_word,
    segment_words,
    segmentation_of,
)
from hf_lineage.metrics import measure_bilm_perplexity
from hf_lineage.text_parts import LONGEST
from hf_lineage.tokenization import elmo_tokenizer, open_tokenizer, train_word_level
from hf_lineage.training import (
    LineageTrainingArguments,
    Results,
    RunFacts,
    TruncatedBPTTTrainer,
    last_complete_checkpoint,
    prepare_output_dir,
)


MARKS = {"bos_token": "<S>", "eos_token": "</S>", "unk_token": "<UNK>"}


@dataclass
class BiLMArguments:
    """Arguments of a bidirectional language model alone."""

    vocab_size: int | None = field(
        default=20_000, metadata={"help": "Words to predict, the most frequent ones; all others are one symbol."}
    )
    split_punctuation: bool = field(
        default=False, metadata={"help": "Cut off punctuation marks as words, in texts that are not tokenized."}
    )
    num_negatives: int = field(
        default=0, metadata={"help": "Words drawn per step for the sampled softmax; 0: the full softmax."}
    )
    restart_share: float = field(
        default=0.0,
        metadata={"help": "Share of training blocks that begin with empty states, as separate sentences do."},
    )
    adagrad_accumulator: float = field(
        default=1.0, metadata={"help": "Value from which Adagrad's sums of squares start (optim: adagrad)."}
    )


ARGUMENTS = (ModelArguments, DataArguments, BiLMArguments, LineageTrainingArguments)


def main():
    # 1. arguments: flags beat the YAML file, which beats the defaults
    model_args, data_args, bilm_args, training_args = parse(*ARGUMENTS, description=__doc__)
    model_args.check(AutoModelForPreTraining, "lineage_elmo")
    set_seed(training_args.seed)
    output_dir = prepare_output_dir(
        training_args.output_dir,
        training_args.overwrite_output_dir,
        is_main_process=training_args.process_index == 0,
    )

    # 2. tokenizer and data
    with training_args.main_process_first(desc="corpus"):
        corpora = load_splits(**data_args.text, longest=LONGEST)
        way = segmentation_of(corpora, data_args.word_segmentation)
        corpora = segment_words(corpora, way)
    is_shown = training_args.process_index == 0 and not training_args.disable_tqdm
    if model_args.tokenizer_name:
        tokenizer = open_tokenizer(model_args.tokenizer_name)
    else:
        texts = (row["text"] for row in corpora["train"])
        words = train_word_level(
            texts,
            bilm_args.vocab_size,
            split_punctuation=bilm_args.split_punctuation,
            split_characters=way == "characters",
            special_tokens=MARKS,
            show_progress=is_shown,
        )
        tokenizer = elmo_tokenizer(words)
    streams = {
        split: encode_bilm_corpus(corpus, tokenizer, show_progress=is_shown) for split, corpus in corpora.items()
    }

    # 3. model
    if model_args.model_name_or_path:
        model = AutoModelForPreTraining.from_pretrained(model_args.model_name_or_path)
    else:
        fields = {"model_type": model_args.model_type}
        if model_args.config_name:
            fields = AutoConfig.from_pretrained(model_args.config_name).to_dict()
        fields |= {"vocab_size": len(tokenizer), "max_characters": tokenizer.max_characters_per_token}
        fields |= model_args.config_overrides or {}
        model = AutoModelForPreTraining.from_config(AutoConfig.for_model(**fields))

    # 4. trainer
    options = {"characters": model.config.token_layer == "characters"}
    num_streams = training_args.train_batch_size * training_args.world_size
    train_data = BidirectionalStreams(
        streams["train"],
        num_streams * training_args.gradient_accumulation_steps,
        data_args.block_size,
        num_negatives=bilm_args.num_negatives,
        vocab_size=len(tokenizer),
        restart_share=bilm_args.restart_share,
        seed=training_args.seed,
        **options,
    )
    # a small held-out text has room for fewer streams
    room = streams["validation"].num_predictions // (data_args.block_size * training_args.world_size)
    training_args.per_device_eval_batch_size = max(1, min(training_args.per_device_eval_batch_size, room))
    eval_data = BidirectionalStreams(
        streams["validation"],
        training_args.eval_batch_size * training_args.world_size,
        data_args.block_size,
        **options,
    )
    adagrad = (
        torch.optim.Adagrad,
        {"lr": training_args.learning_rate, "initial_accumulator_value": bilm_args.adagrad_accumulator},
    )
    trainer = TruncatedBPTTTrainer(
        model=model,
        args=training_args,
        train_dataset=train_data,
        eval_dataset=eval_data,
        data_collator=BidirectionalStreams.collate,
        processing_class=tokenizer,
        optimizer_cls_and_kwargs=adagrad if training_args.optim == "adagrad" else None,
    )
    texts = corpora["test"][:1_000]["text"]
    word, pair = recurring_word(texts) or (None, [])
    trainer.facts = RunFacts(
        data_args.corpus,
        {"word": word, "texts": pair} if word else " ".join(texts[0].split()[:5]),
        language=None if data_args.corpus else "en",
        base_model=model_args.model_name_or_path,
        texts=texts,
    )

    # 5. train
    trainer.train(training_args.resume_from_checkpoint or last_complete_checkpoint(output_dir))

    # 6. save: AutoModel.from_pretrained(output_dir) opens it, and so does any head
    trainer.save_model()

    # 7. evaluate each word of the held-out texts once per direction
    if trainer.is_world_process_zero():
        tokens_per_update = train_data.num_streams * data_args.block_size
        results = Results(
            output_dir / "results.json",
            model_type=model.config.model_type,
            parameters=model.num_parameters(),
            trained_tokens=trainer.state.global_step * tokens_per_update,
            tokens_per_epoch=len(train_data) * data_args.block_size,
            tokens_dropped=train_data.num_dropped,
            train_seconds=round(trainer.train_seconds, 1),
        )
        with results.kept_on_error():
            for split in ("validation", "test"):
                results[split] = measure_bilm_perplexity(model, streams[split], show_progress=is_shown)
        trainer.create_model_card()
        test = results["test"]
        print(
            trainer.last_lines(
                f"test perplexity {test['forward_perplexity']:.1f} forward, {test['backward_perplexity']:.1f} backward"
            )
        )
    if training_args.push_to_hub:
        trainer.push_to_hub()


if __name__ == "__main__":
    run(main)
