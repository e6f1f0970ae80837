"""Greedy translation: `generate(custom_generate=PreparedDecoding(model))` against CTranslate2 in fp32, interleaved.

    pip install --no-deps ctranslate2
    python benchmarks/translation_decoding.py

A Transformer of 6 + 6 layers of 512 units, with 32,000 words and random weights, goes to CTranslate2 in Marian's
layout. Sources have 24 tokens, translations 32, on one thread. Every round checks that CTranslate2,
PreparedDecoding and plain generate() give the same tokens. The table has tokens per CPU-second; the last line has the
ratio of the medians for each batch size.
"""

import importlib.util
import os
import tempfile
import time
from dataclasses import dataclass, field
from statistics import median


os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")

import torch
from transformers import set_seed

from hf_lineage import TransformerConfig, TransformerForConditionalGeneration
from hf_lineage.arguments import parse
from hf_lineage.converters import to_marian
from hf_lineage.inference.fast_decoding import PreparedDecoding


START, END, UNKNOWN = 0, 1, 2


@dataclass
class BenchmarkArguments:
    """What is translated, and how often."""

    batch_sizes: list[int] = field(default_factory=lambda: [1, 16], metadata={"help": "Sentences at once."})
    source_tokens: int = field(default=24, metadata={"help": "Tokens of each source."})
    new_tokens: int = field(default=32, metadata={"help": "Tokens of each translation."})
    rounds: int = field(default=5, metadata={"help": "Rounds; each runs all ways."})


def convert(model: TransformerForConditionalGeneration, folder: str):
    """CTranslate2's copy of the model; the names of its tokens are their numbers."""
    import ctranslate2
    from ctranslate2.converters.transformers import BartLoader

    theirs = to_marian(model)
    theirs.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    # CTranslate2's loader of Marian replaces the vector of the start token by zeros; its loader of BART does not
    theirs.config.normalize_before = theirs.config.normalize_embedding = False
    loader = BartLoader()
    specification = loader.get_model_spec(theirs)
    loader.set_vocabulary(specification, [str(token) for token in range(model.config.vocab_size)])
    specification.config.eos_token, specification.config.unk_token = str(END), str(UNKNOWN)
    specification.config.decoder_start_token = str(START)
    specification.validate()
    specification.save(folder)
    return ctranslate2.Translator(folder, device="cpu", compute_type="float32", inter_threads=1, intra_threads=1)


def main():
    (args,) = parse(BenchmarkArguments)
    if importlib.util.find_spec("ctranslate2") is None:
        print("nothing measured: pip install ctranslate2")
        return
    torch.set_num_threads(1)
    set_seed(0)
    config = TransformerConfig(
        vocab_size=32_000,
        position_layout="concatenated",
        layer_norm_eps=1e-5,
        pad_token_id=None,
        bos_token_id=START,
        eos_token_id=END,
        decoder_start_token_id=START,
    )
    model = TransformerForConditionalGeneration(config).eval()
    # weights of its own: with tied ones, a model that has learnt nothing repeats its input
    model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.lm_head.weight) * 512**-0.5)
    length = args.new_tokens
    options = {"max_new_tokens": length, "min_new_tokens": length, "do_sample": False, "num_beams": 1}
    with tempfile.TemporaryDirectory() as folder:
        translator, prepared = convert(model, folder), PreparedDecoding(model)

        def translate(sources):
            rows = [[str(token) for token in row] for row in sources.tolist()]
            lengths = {"max_decoding_length": length, "min_decoding_length": length}
            results = translator.translate_batch(rows, beam_size=1, max_batch_size=0, **lengths)
            return torch.tensor([[int(token) for token in result.hypotheses[0]] for result in results])

        def generate(sources, **setting):
            mask = torch.ones_like(sources)
            return model.generate(sources, attention_mask=mask, **options, **setting)[:, 1:]

        ways = {
            "CTranslate2": translate,
            "generate()": generate,
            "PreparedDecoding": lambda sources: generate(sources, custom_generate=prepared),
        }
        print(f"{'batch':>6} {'':<18}{'tokens/CPU-s':>13}{'min':>8}{'max':>8}")
        ratios = []
        for batch in args.batch_sizes:
            sources = torch.randint(3, config.vocab_size, (batch, args.source_tokens))
            rates, tokens = {way: [] for way in ways}, {}
            for repetition in range(1 + args.rounds):
                for way, translated in ways.items():
                    started = time.process_time()
                    tokens[way] = translated(sources)
                    rate = batch * length / (time.process_time() - started)
                    # the first time warms up
                    rates[way] += [rate] if repetition else []
                if not all(torch.equal(tokens["CTranslate2"], others) for others in tokens.values()):
                    raise AssertionError("the tokens differ")
            for way, values in rates.items():
                print(f"{batch:>6} {way:<18}{median(values):>13.0f}{min(values):>8.0f}{max(values):>8.0f}")
            print(f"{batch:>6} {len(tokens['CTranslate2'].unique())} different tokens, the same from all")
            ratio = median(rates["PreparedDecoding"]) / median(rates["CTranslate2"])
            ratios.append(f"{ratio:.2f} at batch {batch}")
    print(f"PreparedDecoding / CTranslate2: {', '.join(ratios)}")


if __name__ == "__main__":
    main()
