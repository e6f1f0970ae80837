"""Greedy decoding: `generate(custom_generate=fast_decoding)` against plain generate(), interleaved, one thread.

    python benchmarks/decoding.py

A GPT of 4 layers of 256 units, with 10,000 words and random weights, continues a prompt of 16 tokens by 96 tokens.
Every round checks that both ways give the same tokens. The table has tokens per CPU-second; the last line has the
ratio of the medians for each batch size.
"""

import time
from dataclasses import dataclass, field
from statistics import median

import torch
from transformers import set_seed

from hf_lineage import GPTConfig, GPTForCausalLM
from hf_lineage.arguments import parse
from hf_lineage.inference.fast_decoding import fast_decoding


@dataclass
class BenchmarkArguments:
    """What is decoded, and how often."""

    batch_sizes: list[int] = field(default_factory=lambda: [1, 16], metadata={"help": "Rows decoded at once."})
    prompt_tokens: int = field(default=16, metadata={"help": "Tokens of each prompt."})
    new_tokens: int = field(default=96, metadata={"help": "Tokens to decode."})
    rounds: int = field(default=7, metadata={"help": "Rounds; each runs both ways."})


def main():
    (args,) = parse(BenchmarkArguments)
    torch.set_num_threads(1)
    set_seed(0)
    config = GPTConfig(
        vocab_size=10_000,
        hidden_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=1_024,
        # with tied embeddings, a model that has learnt nothing repeats its input
        tie_word_embeddings=False,
    )
    model = GPTForCausalLM(config).eval()
    ways = {"generate()": {}, "fast_decoding": {"custom_generate": fast_decoding}}
    print(f"{'batch':>6} {'':<15}{'tokens/CPU-s':>13}{'min':>8}{'max':>8}")
    ratios = []
    for batch in args.batch_sizes:
        prompts = torch.randint(config.vocab_size, (batch, args.prompt_tokens))
        options = {"attention_mask": torch.ones_like(prompts), "max_new_tokens": args.new_tokens, "do_sample": False}
        rates, tokens = {way: [] for way in ways}, {}
        for repetition in range(1 + args.rounds):
            for way, setting in ways.items():
                started = time.process_time()
                tokens[way] = model.generate(prompts, **options, **setting)
                rate = batch * args.new_tokens / (time.process_time() - started)
                # the first time warms up
                rates[way] += [rate] if repetition else []
            if not torch.equal(*tokens.values()):
                raise AssertionError("the tokens differ")
        for way, values in rates.items():
            print(f"{batch:>6} {way:<15}{median(values):>13.0f}{min(values):>8.0f}{max(values):>8.0f}")
        different = len(tokens["fast_decoding"][:, args.prompt_tokens :].unique())
        ratios.append(f"{median(rates['fast_decoding']) / median(rates['generate()']):.2f} at batch {batch}")
        print(f"{batch:>6} {different} different tokens, the same from both")
    print(f"fast_decoding / generate(): {', '.join(ratios)}")


if __name__ == "__main__":
    main()
