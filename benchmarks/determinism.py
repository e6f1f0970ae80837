"""What it costs that every random choice about data is a function of (seed, epoch, example), per training step.

    python benchmarks/determinism.py                      # --steps 200

Such a choice makes a generator of its own (`hf_lineage.data.randomness.generator`), where one generator for the whole
run would do. The table says which share of a whole step's CPU time, its data included, goes into making them. The
models are small, so their steps are short: BERT's masks, blocks of GPT, the windows and negatives of word2vec, and the
coins of scheduled sampling, one generator per sentence. One thread.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path


os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")

import numpy as np
import torch
from transformers import TrainerCallback, default_data_collator

import hf_lineage
from hf_lineage.data import (
    ContiguousBlocks,
    Masking,
    PackingCollator,
    TokenBuckets,
    TokenStream,
    TranslationPairs,
    WordFile,
    WordWindows,
    grammar_corpus,
)
from hf_lineage.data.randomness import EpochDataset, generator
from hf_lineage.tokenization import train_word_level, translation_tokenizer
from hf_lineage.training import (
    FastPath,
    LineageTrainer,
    LineageTrainingArguments,
    TranslationTrainer,
    TranslationTrainingArguments,
    Word2VecTrainer,
)


WORDS = 4_000


class Clock(TrainerCallback):
    """CPU seconds of the steps after the first ten, and of the generators made in them."""

    def __init__(self):
        self.making, self.made = 0.0, 0

    def generator(self, *key):
        started = time.process_time()
        made = generator(*key)
        self.making += time.process_time() - started
        self.made += 1
        return made

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 10:
            self.started, self.making, self.made = time.process_time(), 0.0, 0
        self.seconds = time.process_time() - self.started if state.global_step > 10 else 0.0


class MaskedTexts(EpochDataset):
    """Texts of 64 random words, each masked as in BERT's pre-training."""

    def __init__(self):
        super().__init__()
        self.texts = np.random.default_rng(0).integers(5, WORDS, (10_000, 64))
        self.masking = Masking(4, WORDS, (0, 1, 2, 3, 4), probability=0.4, max_predictions=None)

    def __len__(self):
        return len(self.texts)

    def example(self, index, generator):
        ids, labels = self.masking(self.texts[index], generator)
        return {"input_ids": torch.from_numpy(ids), "labels": torch.from_numpy(labels)}


def bert(settings, folder):
    sizes = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 512}
    model = hf_lineage.BERTForMaskedLM(hf_lineage.BERTConfig(vocab_size=WORDS, max_position_embeddings=128, **sizes))
    args = LineageTrainingArguments(**settings, per_device_train_batch_size=16)
    return LineageTrainer(model, args, train_dataset=MaskedTexts(), data_collator=PackingCollator())


def gpt(settings, folder):
    sizes = {"hidden_size": 160, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 640}
    model = hf_lineage.GPTForCausalLM(hf_lineage.GPTConfig(vocab_size=WORDS, max_position_embeddings=64, **sizes))
    tokens = np.random.default_rng(0).integers(5, WORDS, 500_000).astype(np.int32)
    data = ContiguousBlocks(TokenStream(tokens, np.array([1]), len(tokens), len(tokens), 0), 32)
    args = LineageTrainingArguments(**settings, per_device_train_batch_size=4)
    return LineageTrainer(model, args, train_dataset=data, data_collator=default_data_collator)


def word2vec(settings, folder):
    file = folder / "words.ids"
    np.random.default_rng(0).zipf(1.2, 4_000_000).clip(max=WORDS - 1).astype(np.int32).tofile(file)
    words, path = WordFile(file, WORDS), FastPath("torch", 64, 64)
    model = hf_lineage.Word2VecForPreTraining(hf_lineage.Word2VecConfig(vocab_size=WORDS, hidden_size=100))
    model.set_word_counts(torch.from_numpy(words.counts))
    data = WordWindows(words, block_size=5_000, chunk=path.chunk, negatives_per_chunk=64)
    args = LineageTrainingArguments(**settings, per_device_train_batch_size=1)
    return Word2VecTrainer(model, args, train_dataset=data, path=path)


def scheduled_sampling(settings, folder):
    corpus = grammar_corpus("train", 2_000)
    tokenizer = translation_tokenizer(train_word_level([*corpus["source"], *corpus["target"]], show_progress=False))
    marks = {name: getattr(tokenizer, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    sizes = {"vocab_size": len(tokenizer), "embedding_size": 64, "hidden_size": 64, "num_hidden_layers": 1}
    model = hf_lineage.LuongForConditionalGeneration(
        hf_lineage.LuongConfig(**sizes, **marks, decoder_start_token_id=tokenizer.bos_token_id)
    )
    args = TranslationTrainingArguments(
        **settings,
        per_device_train_batch_size=1,
        tokens_per_update=1_024,
        scheduled_sampling="linear",
        sampling_c=0.01,
        sampling_least=0.5,
    )
    pairs = TranslationPairs(corpus, tokenizer, show_progress=False)
    data = TokenBuckets(pairs, args.tokens_per_update, tokenizer.pad_token_id, number_pairs=True)
    return TranslationTrainer(model=model, args=args, train_dataset=data, data_collator=data.collate)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=200)
    steps = parser.parse_args().steps
    print(f"{'':20}{'ms per step':>12}{'generators':>12}{'µs for each':>13}{'share of the step':>19}")
    for make in (bert, gpt, word2vec, scheduled_sampling):
        clock = Clock()
        with tempfile.TemporaryDirectory() as folder:
            settings = {
                "output_dir": folder,
                "max_steps": steps + 10,
                "save_strategy": "no",
                "logging_steps": steps,
                "report_to": "none",
                "disable_tqdm": True,
                "use_cpu": True,
                "precision": "fp32",
                "remove_unused_columns": False,
            }
            trainer = make(settings, Path(folder))
            trainer.add_callback(clock)
            users = [module for module in [*sys.modules.values()] if getattr(module, "generator", None) is generator]
            for module in users:
                if module.__name__ != __name__:
                    module.generator = clock.generator
            try:
                trainer.train()
            finally:
                for module in users:
                    module.generator = generator
        print(
            f"{make.__name__:20}{clock.seconds / steps * 1e3:>12.2f}{clock.made / steps:>12.1f}"
            f"{clock.making / max(clock.made, 1) * 1e6:>13.1f}{clock.making / clock.seconds:>19.2%}"
        )


if __name__ == "__main__":
    main()
