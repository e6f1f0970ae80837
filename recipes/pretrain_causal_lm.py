r"""Pretrain a causal language model: any station that `AutoModelForCausalLM` opens.

    python recipes/pretrain_causal_lm.py recipes/configs/lstm_tiny.yaml --output_dir runs/lstm
    accelerate launch --config_file recipes/accelerate/cpu_2procs.yaml recipes/pretrain_causal_lm.py \
        recipes/configs/gpt_tiny.yaml --output_dir runs/gpt --corpus my_texts/

After an interruption, run the same command again: training continues from the last complete checkpoint in output_dir.
"""

import inspect
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    EarlyStoppingCallback,
    default_data_collator,
    set_seed,
)

import hf_lineage  # noqa: F401 - registers the stations
from hf_lineage.arguments import DataArguments, GrowthArguments, ModelArguments, parse, run
from hf_lineage.data import (
    BlocksWithNegatives,
    ContiguousBlocks,
    PackedDocuments,
    ParallelStreams,
    StreamedBlocks,
    VariableStreams,
    WithoutBlanks,
    batch_sizes,
    encode_corpus,
    encoded_blocks,
    growing_data,
    load_splits,
    segment_words,
    segmentation_of,
)
from hf_lineage.metrics import measure_perplexity
from hf_lineage.text_parts import LONGEST
from hf_lineage.tokenization import TRAINERS, causal_tokenizer, is_word_level, open_tokenizer
from hf_lineage.training import (
    ExpectedCurve,
    LineageTrainer,
    LineageTrainingArguments,
    Results,
    RunFacts,
    TruncatedBPTTTrainer,
    last_complete_checkpoint,
    loss_by_frequency,
    prepare_output_dir,
)


@dataclass
class LanguageModelArguments:
    """Arguments of language-model pretraining alone."""

    tokenizer_kind: Literal["wordpiece", "byte_pairs", "word_level", "character"] = field(
        default="wordpiece",
        metadata={
            "help": "Tokenizer to train unless tokenizer_name is given; byte_pairs and characters decode exactly."
        },
    )
    vocab_size: int | None = field(default=8_000, metadata={"help": "Vocabulary size of the tokenizer trained here."})
    min_frequency: int | None = field(
        default=None, metadata={"help": "How often a word must occur to become a token."}
    )
    special_tokens: dict | str | None = field(
        default=None,
        metadata={"help": "Special tokens by role, for the tokenizer trained here; default: BERT's five."},
    )
    encoded_corpus: str | None = field(
        default=None,
        metadata={"help": "Folder of `hf_lineage scale encode`: the training text, each process its own files."},
    )
    train_tokens: int | None = field(
        default=None,
        metadata={"help": "Training tokens in place of num_train_epochs: an equal budget for all models."},
    )
    carry_state: bool | None = field(
        default=None,
        metadata={"help": "Truncated BPTT that carries the state; default: for recurrent models."},
    )
    variable_blocks: bool = field(
        default=False,
        metadata={"help": "Truncated BPTT on blocks whose length varies around block_size (Merity et al., 2017)."},
    )
    early_stopping_patience: int | None = field(
        default=None,
        metadata={"help": "Stop after this many evaluations without gain (with load_best_model_at_end)."},
    )


ARGUMENTS = (ModelArguments, DataArguments, LanguageModelArguments, GrowthArguments, LineageTrainingArguments)


def main():
    # 1. arguments: flags beat the YAML file, which beats the defaults
    model_args, data_args, lm_args, growth, training_args = parse(*ARGUMENTS, description=__doc__)
    model_class = model_args.check(AutoModelForCausalLM)
    growth.check(training_args, data_args.block_size)
    if lm_args.encoded_corpus:
        if not model_args.tokenizer_name:
            raise ValueError("encoded_corpus needs tokenizer_name, the tokenizer that encoded it")
        # the corpus is then only for the held-out texts
        data_args.streaming = True
        # each process reads its own files
        training_args.accelerator_config.dispatch_batches = False
    if data_args.streaming and training_args.max_steps <= 0 and not lm_args.train_tokens:
        raise ValueError("a streamed corpus has no known end; set train_tokens or max_steps")
    if growth.is_used and data_args.streaming:
        raise ValueError("long_block_size and first_batch_size need a corpus in memory: leave out streaming")
    if data_args.document_packing and "position_ids" not in inspect.signature(model_class.forward).parameters:
        raise ValueError(
            f"document_packing needs a model that takes position_ids, which {model_class.__name__} does not"
        )
    set_seed(training_args.seed)
    output_dir = prepare_output_dir(
        training_args.output_dir,
        training_args.overwrite_output_dir,
        is_main_process=training_args.process_index == 0,
    )

    # 2. tokenizer and data: the first process does the work, the others read its cache
    with training_args.main_process_first(desc="tokenizer and data"):
        corpora = load_splits(**data_args.text, streaming=data_args.streaming, longest=LONGEST)
        if model_args.tokenizer_name:
            tokenizer = open_tokenizer(model_args.tokenizer_name)
            reads_words = is_word_level(tokenizer)
        else:
            reads_words = lm_args.tokenizer_kind == "word_level"
        way = segmentation_of(corpora, data_args.word_segmentation) if reads_words else "none"
        corpora = segment_words(corpora, way)
        if not model_args.tokenizer_name:
            train = TRAINERS[lm_args.tokenizer_kind]
            texts = (row["text"] for row in corpora["train"])
            options = {} if lm_args.min_frequency is None else {"min_frequency": lm_args.min_frequency}
            if way == "characters":
                options["split_characters"] = True
            tokenizer = train(texts, lm_args.vocab_size, special_tokens=lm_args.special_tokens, **options)
        tokenizer = causal_tokenizer(tokenizer, (row["text"] for row in corpora["train"]))
        streams = {
            split: encode_corpus(corpus, tokenizer, num_proc=data_args.preprocessing_num_workers)
            for split, corpus in corpora.items()
            if not (data_args.streaming and split == "train")
        }

    # 3. model
    if model_args.model_name_or_path:
        model = AutoModelForCausalLM.from_pretrained(model_args.model_name_or_path)
    else:
        fields = {"model_type": model_args.model_type}
        if model_args.config_name:
            fields = AutoConfig.from_pretrained(model_args.config_name).to_dict()
        fields |= {"vocab_size": len(tokenizer)} | (model_args.config_overrides or {})
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**fields))
    if positions := getattr(model.config, "max_position_embeddings", None):
        tokenizer.model_max_length = positions
    # NNLM's window: each block holds the whole context of its first prediction, so no state is carried
    context_size = getattr(model.config, "context_size", 1)
    carry_state = lm_args.carry_state
    if carry_state is None:
        carry_state = model._is_stateful and context_size == 1 and not data_args.streaming

    # 4. trainer
    block_size = data_args.block_size
    batch_size = training_args.rows_per_update

    # the context at a block's start is read, not predicted; streams predict each of their tokens
    only_read = 0 if carry_state else context_size

    growth.check_longest(positions)

    def tokens_until(steps):
        """Tokens predicted after each update, int64 [steps]."""
        return growth.tokens_until(steps, batch_size, data_args.block_size, only_read)

    if lm_args.train_tokens:
        training_args.max_steps = growth.steps_for(lm_args.train_tokens, batch_size, block_size, only_read)
    if lm_args.variable_blocks and not carry_state:
        raise ValueError("variable_blocks is for truncated BPTT; it needs a recurrent model and carry_state")
    if growth.is_used and carry_state:
        raise ValueError(
            "long_block_size and first_batch_size are for blocks that are read by themselves; this model carries its "
            "state from block to block: leave them out, or set carry_state to false"
        )
    if carry_state:
        trainer_class = TruncatedBPTTTrainer
        num_streams = training_args.train_batch_size * training_args.world_size
        sizes = (num_streams * training_args.gradient_accumulation_steps, block_size)
        if lm_args.variable_blocks:
            train_data = VariableStreams(streams["train"], *sizes, seed=training_args.seed)
        else:
            train_data = ParallelStreams(streams["train"], *sizes)
        # a small held-out text has room for fewer streams
        room = (len(streams["validation"].tokens) - 1) // (block_size * training_args.world_size)
        training_args.per_device_eval_batch_size = max(1, min(training_args.per_device_eval_batch_size, room))
        eval_data = ParallelStreams(
            streams["validation"], training_args.eval_batch_size * training_args.world_size, block_size
        )
    else:
        trainer_class = LineageTrainer
        options = {"seed": training_args.seed, "context_size": context_size}
        if lm_args.encoded_corpus:
            blocks = encoded_blocks(lm_args.encoded_corpus, tokenizer, block_size, context_size=context_size)
            train_data = blocks.repeat(None)
        elif data_args.streaming:
            train_data = StreamedBlocks(corpora["train"], tokenizer, block_size, passes=None, **options)
        else:

            def blocks_of(length):
                if data_args.document_packing:
                    return PackedDocuments(streams["train"], length, seed=training_args.seed)
                if getattr(model.config, "objective", None) in ("sampled_softmax", "nce"):
                    negatives = {"vocab_size": len(tokenizer), "num_negatives": model.config.num_negatives}
                    return BlocksWithNegatives(streams["train"], length, **negatives, **options)
                return ContiguousBlocks(streams["train"], length, **options)

            train_data = blocks_of(block_size)
            if growth.is_used:
                # short and long blocks, small and whole batches make one epoch of max_steps
                parts = [train_data, *([blocks_of(growth.long_block_size)] if growth.long_block_size else [])]
                if training_args.max_steps <= 0:
                    tokens = len(train_data) * (block_size - only_read)
                    tokens *= training_args.num_train_epochs
                    training_args.max_steps = growth.steps_for(tokens, batch_size, block_size, only_read)
                steps = training_args.max_steps
                sizes = batch_sizes(steps, batch_size, growth.first_batch_size, growth.growth_steps)
                train_data = growing_data(parts, growth.steps(steps), batch_size, sizes)
        block_size = growth.long_block_size or block_size
        eval_data = ContiguousBlocks(streams["validation"], block_size, shuffle=False, context_size=context_size)
    callbacks = []
    if lm_args.early_stopping_patience:
        callbacks.append(EarlyStoppingCallback(lm_args.early_stopping_patience))
    if growth.expected_curve:
        counted = streams.get("train", streams["validation"]).tokens
        chance = loss_by_frequency(counted, streams["validation"].tokens, len(tokenizer))
        folder = Path(__file__).parent / "configs"
        callbacks.append(
            ExpectedCurve(
                growth.expected_curve,
                chance,
                lambda step: tokens_until(max(step, training_args.max_steps))[step - 1],
                folder,
            )
        )
    trainer = trainer_class(
        model=model,
        args=training_args,
        train_dataset=train_data,
        eval_dataset=eval_data,
        data_collator=WithoutBlanks(default_data_collator) if growth.first_batch_size else default_data_collator,
        processing_class=tokenizer,
        callbacks=callbacks,
    )
    trainer.facts = RunFacts(
        data_args.corpus,
        " ".join(corpora["test"][0]["text"].split()[:3])[:40],
        language=None if data_args.corpus else "en",
        base_model=model_args.model_name_or_path,
        texts=corpora["test"][:100]["text"],
    )

    # 5. train
    trainer.train(training_args.resume_from_checkpoint or last_complete_checkpoint(output_dir))

    # 6. save: AutoModelForCausalLM.from_pretrained(output_dir) opens it
    trainer.save_model()

    # 7. evaluate each token of the held-out texts once
    if trainer.is_world_process_zero():
        log, steps = trainer.state.log_history, trainer.state.global_step
        until = [0, *tokens_until(max(steps, training_args.max_steps)).tolist()]
        results = Results(
            output_dir / "results.json",
            model_type=model.config.model_type,
            parameters=model.num_parameters(),
            trained_tokens=until[steps],
            train_seconds=round(trainer.train_seconds, 1),
            train_curve=[(until[row["step"]], row["loss"]) for row in log if "loss" in row],
            validation_curve=[(until[row["step"]], row["eval_loss"]) for row in log if "eval_loss" in row],
        )
        with results.kept_on_error():
            for split in ("validation", "test"):
                results[split] = measure_perplexity(
                    model, streams[split], block_size=block_size, show_progress=not training_args.disable_tqdm
                )
        trainer.create_model_card()
        test = results["test"]
        print(
            trainer.last_lines(
                f"test perplexity {test['perplexity_per_token']:.1f} per token, {test['perplexity_per_word']:.1f} per "
                f"word; {test['bits_per_character']:.3f} bits per character"
            )
        )
    if training_args.push_to_hub:
        trainer.push_to_hub()


if __name__ == "__main__":
    run(main)
