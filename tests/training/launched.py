"""What the tests of several processes start by `accelerate launch`: trains small models on fixed data.

    accelerate launch ... tests/training/launched.py FOLDER STEPS STATION ... [--accumulate N] [--die_at STEP] [--push]
        [--compiled]

The rank 0 of all processes writes the losses of each station to FOLDER/STATION/losses.json. An update has 8 rows,
however many processes share them. A checkpoint is saved every second step, and the newest one is continued.
With --die_at, the second process ends after that step without a word, once. With --push, the model goes to the Hub as
me/STATION with each checkpoint and at the end. With --compiled the blocks are compiled, but no code is generated.
"""

import argparse
import json
import os
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import DistributedType
from transformers import TrainerCallback

import hf_lineage
from hf_lineage.data import (
    PackingCollator,
    ParallelStreams,
    TokenStream,
    TranslationPackingCollator,
    WordFile,
    WordWindows,
)
from hf_lineage.training import (
    FastPath,
    LineageTrainer,
    LineageTrainingArguments,
    TruncatedBPTTTrainer,
    Word2VecTrainer,
    compiled_blocks,
    last_complete_checkpoint,
)


ROWS, WORDS = 8, 30
SIZES = {"vocab_size": WORDS, "hidden_size": 16, "num_hidden_layers": 2, "dropout": 0.0}
BLOCKS = {"num_attention_heads": 2, "intermediate_size": 24, "attention_dropout": 0.0}


class Die(TrainerCallback):
    """Ends the second process after a step, if it has not ended before."""

    def __init__(self, step: int, mark: Path):
        self.step, self.mark = step, mark

    def on_step_end(self, args, state, control, **kwargs):
        if args.process_index == 1 and state.global_step == self.step and not self.mark.exists():
            self.mark.touch()
            os._exit(13)


def texts(number: int) -> list[torch.Tensor]:
    """Texts of 3 to 7 words."""
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(3, WORDS, (3 + i % 5,), generator=generator) for i in range(number)]


def trainer_of(station: str, args: LineageTrainingArguments, folder: Path) -> LineageTrainer:
    torch.manual_seed(0)
    if station == "LSTM":
        model = hf_lineage.LSTMForCausalLM(hf_lineage.LSTMConfig(**SIZES))
        tokens = torch.cat(texts(45)).numpy().astype(np.int32)
        stream = TokenStream(tokens, np.array([1]), len(tokens), len(tokens), 0)
        return TruncatedBPTTTrainer(model, args, train_dataset=ParallelStreams(stream, ROWS, 5))
    if station == "Word2Vec":
        model = hf_lineage.Word2VecForPreTraining(hf_lineage.Word2VecConfig(vocab_size=WORDS, hidden_size=16))
        return word2vec_trainer(model, args, folder)
    if station == "BERT":
        model = hf_lineage.BERTForPreTraining(hf_lineage.BERTConfig(**SIZES, **BLOCKS))
        data = [{"input_ids": ids, "labels": ids, "next_sentence_label": i % 2} for i, ids in enumerate(texts(29))]
        return LineageTrainer(model, args, train_dataset=data, data_collator=PackingCollator())
    if station == "Transformer":
        config = hf_lineage.TransformerConfig(**SIZES, **BLOCKS, decoder_layers=2)
        data = [{"input_ids": ids, "labels": ids.flip(0)[: 1 + i % 4]} for i, ids in enumerate(texts(29))]
        model = hf_lineage.TransformerForConditionalGeneration(config)
        return LineageTrainer(model, args, train_dataset=data, data_collator=TranslationPackingCollator())
    model = hf_lineage.GPTForCausalLM(hf_lineage.GPTConfig(**SIZES, **BLOCKS, embedding_dropout=0.0))
    data = [{"input_ids": ids, "labels": ids} for ids in texts(29)]
    return LineageTrainer(model, args, train_dataset=data, data_collator=PackingCollator())


def word2vec_trainer(model, args: LineageTrainingArguments, folder: Path) -> Word2VecTrainer:
    file = folder / f"words{args.process_index}.ids"
    torch.cat(texts(400)).numpy().astype(np.int32).tofile(file)
    words, path = WordFile(file, WORDS), FastPath("torch", 4, 4)
    model.set_word_counts(torch.from_numpy(words.counts))
    data = WordWindows(words, subsample=0, block_size=100, chunk=path.chunk, negatives_per_chunk=4)
    args.per_device_train_batch_size = 1
    return Word2VecTrainer(model, args, train_dataset=data, path=path, average_steps=2)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("steps", type=int)
    parser.add_argument("stations", nargs="+")
    parser.add_argument("--accumulate", type=int, default=1)
    parser.add_argument("--die_at", type=int)
    parser.add_argument("--push", action="store_true")
    parser.add_argument("--compiled", action="store_true")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    compiled_blocks.OPTIONS["backend"] = "aot_eager"
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    # DeepSpeed runs on what it takes for an accelerator: DS_ACCELERATOR=cpu
    is_deepspeed = os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true"
    for station in given.stations:
        args = LineageTrainingArguments(
            output_dir=str(given.folder / station),
            use_cpu=not is_deepspeed,
            precision="fp32",
            compile_blocks="always" if given.compiled else "never",
            max_steps=given.steps,
            save_steps=2,
            logging_steps=1,
            learning_rate=1e-2,
            per_device_train_batch_size=ROWS // processes // given.accumulate,
            gradient_accumulation_steps=given.accumulate,
            # what another number of steps changes
            lr_scheduler_type="constant",
            ignore_changed=["max_steps"] if (given.folder / station).exists() else None,
            report_to="none",
            disable_tqdm=True,
            remove_unused_columns=False,
            push_to_hub=given.push,
            hub_model_id=f"me/{station}",
            hub_always_push=True,
        )
        if os.environ.get("ACCELERATE_USE_FSDP") == "true":
            # accelerate shards on accelerators only: to it these processes of a CPU are some
            PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
        trainer = trainer_of(station, args, given.folder)
        if given.die_at is not None:
            trainer.add_callback(Die(given.die_at, given.folder / "died"))
        trainer.train(last_complete_checkpoint(args.output_dir))
        trainer.push_to_hub() if given.push else trainer.save_model()
        if trainer.is_world_process_zero():
            losses = {row["step"]: row["loss"] for row in trainer.state.log_history if "loss" in row}
            report = {
                "losses": losses,
                "sharded": trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled,
                "processes": args.world_size,
            }
            report["graphs"] = torch._dynamo.utils.counters["stats"]["unique_graphs"]
            (given.folder / station / "losses.json").write_text(json.dumps(report))
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
