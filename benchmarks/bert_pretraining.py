"""BERT pre-training: tokens per second against transformers' BertForPreTraining, and the share of the machine's roof.

    python benchmarks/bert_pretraining.py                 # one thread; --threads 2, --rounds 9, --steps 4

4 layers of 256 units, 4 heads, 1,024 inner units, 30,522 words, batches of 32 pairs whose lengths are uniform from 12
to 128 (about 45 % padding), dropout 0.1; in fp32 and, where the CPU multiplies in it, in bf16. Each side is trained by
its Trainer as a user would start it: transformers' model by transformers' Trainer with a collator that pads, ours by
LineageTrainer with PackingCollator; both have fused AdamW and gradients clipped at 1. Tokens of the texts count,
padding does not. Rounds alternate; each starts from the same weights and reads the same pairs. A first run without
dropout compares the losses of both.

The roof is the rate of a 1,024³ matrix product of torch, measured right after each run. The arithmetic is what the
model needs: 6 flops per weight and token (in the output layer, per weight and masked word), and the attention.
"""

import argparse
import os
import statistics
import tempfile
import time


os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")

import numpy as np
import torch
from tokenizers import Tokenizer, models
from transformers import (
    BertConfig,
    BertForPreTraining,
    DataCollatorWithPadding,
    PreTrainedTokenizerFast,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from hf_lineage import BERTConfig
from hf_lineage import BERTForPreTraining as LineageBERT
from hf_lineage.data import Masking, PackingCollator
from hf_lineage.training import LineageTrainer, LineageTrainingArguments
from hf_lineage.training.precision import cpu_has_bfloat16


SIZES = {"num_hidden_layers": 4, "hidden_size": 256, "num_attention_heads": 4, "intermediate_size": 1024}
BATCH, LONGEST = 32, 128
CLS, SEP, MASK = 101, 102, 103
SETTINGS = {
    "per_device_train_batch_size": BATCH,
    "learning_rate": 1e-4,
    "optim": "adamw_torch_fused",
    "save_strategy": "no",
    "logging_steps": 1,
    "disable_tqdm": True,
    "report_to": "none",
    "use_cpu": True,
    "remove_unused_columns": False,
    "train_sampling_strategy": "sequential",
}


def pairs(number: int) -> list[dict]:
    """Examples as SentencePairs gives them, of random words."""
    draw, masking, examples = np.random.default_rng(0), Masking(MASK, 30_522, (CLS, SEP)), []
    for _ in range(number):
        length = int(draw.integers(12, LONGEST + 1))
        ids = draw.integers(1_000, 30_522, size=length)
        ids[[0, length // 2, -1]] = CLS, SEP, SEP
        masked, labels = masking(ids, draw)
        segments = (np.arange(length) > length // 2).astype(np.int64)
        values = {"input_ids": masked, "token_type_ids": segments, "labels": labels}
        examples.append({name: torch.from_numpy(value) for name, value in values.items()})
        examples[-1]["next_sentence_label"] = int(draw.integers(2))
    return examples


class PadWithLabels(DataCollatorWithPadding):
    """transformers' padding collator, which here pads the labels too."""

    def __call__(self, examples):
        batch = super().__call__([{k: v for k, v in example.items() if k != "labels"} for example in examples])
        labels = [example["labels"] for example in examples]
        batch["labels"] = torch.nn.utils.rnn.pad_sequence(labels, batch_first=True, padding_value=-100)
        return batch


class Clock(TrainerCallback):
    """Wall and CPU seconds of all steps except the first, which warms up."""

    def on_step_end(self, arguments, state, control, **kwargs):
        if state.global_step == 1:
            self.started = time.perf_counter(), time.process_time()
        self.seconds = time.perf_counter() - self.started[0], time.process_time() - self.started[1]


def run(
    side: str, precision: str, examples: list[dict], folder: str, dropout: float = 0.1
) -> tuple[tuple[float, float], list[float]]:
    """Seconds (wall, CPU) of all steps but the first, and the losses."""
    set_seed(0)
    settings = {"output_dir": folder, "max_steps": len(examples) // BATCH, "bf16": precision == "bf16", **SETTINGS}
    drops = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    theirs, clock = BertForPreTraining(BertConfig(**SIZES, **drops)), Clock()
    if side == "transformers":
        trainer = Trainer(
            theirs,
            TrainingArguments(**settings),
            data_collator=PadWithLabels(PAD),
            train_dataset=examples,
            callbacks=[clock],
        )
    else:
        ours = LineageBERT(BERTConfig(**SIZES, **drops))
        ours.load_state_dict(theirs.state_dict())
        trainer = LineageTrainer(
            ours,
            LineageTrainingArguments(**settings, precision=precision),
            data_collator=PackingCollator(),
            train_dataset=examples,
            callbacks=[clock],
        )
    trainer.train()
    return clock.seconds, [row["loss"] for row in trainer.state.log_history if "loss" in row]


def flops(examples: list[dict]) -> float:
    """Arithmetic that a step over the examples needs, forward and backward."""
    d, layers, inner = SIZES["hidden_size"], SIZES["num_hidden_layers"], SIZES["intermediate_size"]
    lengths = [len(example["input_ids"]) for example in examples]
    masked = sum(int((example["labels"] != -100).sum()) for example in examples)
    encoder = layers * (4 * d * d + 2 * d * inner) * sum(lengths)
    attention = layers * 2 * d * sum(length * length for length in lengths)
    heads = (d * d + d * 30_522) * masked + (d * d + 2 * d) * len(examples)
    return 6 * (encoder + attention + heads)


def roof() -> float:
    """Flops per CPU-second of a large fp32 matrix product, the median of several."""
    a, b, rates = torch.rand(1024, 1024), torch.rand(1024, 1024), []
    torch.mm(a, b)
    for _ in range(9):
        started = time.process_time()
        for _ in range(4):
            torch.mm(a, b)
        rates.append(4 * 2 * 1024**3 / (time.process_time() - started))
    return statistics.median(rates)


PAD = PreTrainedTokenizerFast(
    tokenizer_object=Tokenizer(models.WordLevel({"[PAD]": 0})),
    pad_token="[PAD]",
    model_input_names=["input_ids", "token_type_ids", "attention_mask"],
)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3, help="timed steps per round; one more step warms up")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    examples = pairs(BATCH * (args.steps + 1))
    timed = examples[BATCH:]
    tokens = sum(len(example["input_ids"]) for example in timed)
    width = [max(len(e["input_ids"]) for e in timed[i : i + BATCH]) for i in range(0, len(timed), BATCH)]
    print(f"{tokens:,} tokens in {args.steps} steps, {1 - tokens / (BATCH * sum(width)):.0%} padding when padded")
    precisions = ("fp32", "bf16") if cpu_has_bfloat16() else ("fp32",)
    sides = [(side, precision) for precision in precisions for side in ("transformers", "hf_lineage")]
    with tempfile.TemporaryDirectory() as folder:
        for precision in precisions:
            losses = [run(side, precision, examples, folder, 0.0)[1] for side, own in sides if own == precision]
            difference = max(abs(a - b) for a, b in zip(*losses, strict=True))
            print(f"largest difference of the losses without dropout, {precision}: {difference:.1e}")
        wall, cpu, roofs = ({side: [] for side in sides} for _ in range(3))
        for _ in range(args.rounds):
            for side in sides:
                seconds = run(*side, examples, folder)[0]
                wall[side].append(seconds[0])
                cpu[side].append(seconds[1])
                roofs[side].append(roof())
    print(f"{'':20}{'tokens/s':>10}{'per CPU-second':>16}{'of the fp32 roof':>18}   medians of {args.rounds} rounds")
    for side in sides:
        shares = [flops(timed) / seconds / top for seconds, top in zip(cpu[side], roofs[side], strict=True)]
        speed, per_cpu = (tokens / statistics.median(values[side]) for values in (wall, cpu))
        print(f"{' '.join(side):20}{speed:>10,.0f}{per_cpu:>16,.0f}{statistics.median(shares):>18.0%}")
    # each against transformers in fp32, and ours also against transformers in the same precision
    compared = [(side, sides[0]) for side in sides[1:]]
    compared += [(("hf_lineage", precision), ("transformers", precision)) for precision in precisions[1:]]
    for side, peer in compared:
        ratios = [a / b for a, b in zip(cpu[peer], cpu[side], strict=True)]
        print(
            f"{' '.join(side)}: tokens per CPU-second, times {' '.join(peer)}: "
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}); wall time: "
            f"{statistics.median(wall[peer]) / statistics.median(wall[side]):.2f}"
        )


if __name__ == "__main__":
    main()
