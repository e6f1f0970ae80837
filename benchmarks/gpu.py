"""Speed on a GPU compared with other libraries: BERT, GPT, recurrent models, ELMo, RNNsearch, decoding; 8 minutes.

    python benchmarks/gpu.py                       # all sections
    python benchmarks/gpu.py --sections bert gpt --seconds 200
    python benchmarks/gpu.py --dry_run             # tiny sizes on the CPU: shows that the script runs

Each section runs in a process of its own, since a GPU's error ends all that its process does there. It prints each
result as it comes, and stops after its share of the seconds. Rounds alternate between the sides; medians. "× peer" is
the speed as a multiple of the first line's. Steps are forward, backward, clipping at 1 and fused AdamW; dropout 0.1.
Tokens of the texts count, padding does not. The share of the peak counts the arithmetic that these tokens need.
"""

import argparse
import gc
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable


os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from torch import nn
from transformers import BertConfig, BertForPreTraining, GPT2Config, GPT2LMHeadModel, MarianConfig, MarianMTModel

import hf_lineage
from hf_lineage.data import PackingCollator, WithScoredPositions
from hf_lineage.inference.fast_decoding import fast_decoding


# seconds of each section, of 480 in all
SECTIONS = {"bert": 100, "gpt": 70, "recurrent": 130, "elmo": 30, "rnnsearch": 40, "decoding": 90}
ROUNDS = 5
# bf16 flops per second of an H100 or H200, dense
PEAK = 989e12


class Bench:
    """A section's device, sizes and clock."""

    def __init__(self, dry_run: bool, seconds: float, peak: float):
        self.device = "cpu" if dry_run else "cuda"
        self.dry_run, self.peak = dry_run, peak
        self.ends = time.monotonic() + seconds

    def size(self, full: int, tiny: int) -> int:
        """The size on a GPU, or in a dry run."""
        return tiny if self.dry_run else full

    def synchronize(self):
        if not self.dry_run:
            torch.cuda.synchronize()

    def seconds_of(self, call: Callable, times: int) -> float:
        self.synchronize()
        started = time.perf_counter()
        for _ in range(times):
            call()
        self.synchronize()
        return (time.perf_counter() - started) / times

    def compare(self, title: str, sides: dict[str, Callable], units: float, flops: float = 0.0):
        """Times the calls that the functions of `sides` make, and prints units per second; the first is the peer."""
        print(f"\n{title}", flush=True)
        calls, times, seconds = {}, {}, {}
        for name, make in sides.items():
            if time.monotonic() > self.ends:
                print(f"  {name}: no time left", flush=True)
                continue
            # a side that fails must not stop the others
            try:
                call = make()
                # compilers and libraries choose their code in the first calls
                for _ in range(1 if self.dry_run else 3):
                    call()
                once = self.seconds_of(call, 1)
            except Exception as error:
                print(
                    f"  {name}: {type(error).__name__}: {str(error).splitlines()[0][:150] if str(error) else ''}",
                    flush=True,
                )
                continue
            calls[name], seconds[name] = call, []
            times[name] = 1 if self.dry_run else max(1, min(30, round(0.15 / once)))
        for number in range(1 if self.dry_run else ROUNDS):
            for name, call in calls.items():
                if number == 0 or time.monotonic() < self.ends:
                    seconds[name].append(self.seconds_of(call, times[name]))
        peer = statistics.median(next(iter(seconds.values()))) if seconds else math.nan
        for name, values in seconds.items():
            median = statistics.median(values)
            line = f"  {name:56}{1000 * median:10.2f} ms{units / median:14,.0f}/s{peer / median:7.2f} × peer"
            print(line + (f"{flops / median / self.peak:7.1%} of the peak" if flops else ""), flush=True)
        calls.clear()
        gc.collect()
        if not self.dry_run:
            torch.cuda.empty_cache()


def training_step(model: nn.Module, batch: dict, device: str, dtype=torch.bfloat16, call: Callable | None = None):
    """A function that trains `model` on the batch once; `call` runs it, by default the model itself."""
    model = model.to(device).train()
    batch = {name: value.to(device) if torch.is_tensor(value) else value for name, value in batch.items()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step():
        with torch.autocast(device, torch.bfloat16, enabled=dtype is torch.bfloat16):
            outputs = (call or model)(**batch)
        (outputs if torch.is_tensor(outputs) else outputs.loss).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def compiled_blocks(model: nn.Module, blocks) -> nn.Module:
    for block in blocks:
        block.compile(dynamic=True)
    return model


def block_flops(layers: int, size: int, inner: int, tokens: int, pairs: float) -> float:
    """Flops of Transformer blocks, forward and backward; `pairs` of tokens attend to each other."""
    return 6 * layers * ((4 * size * size + 2 * size * inner) * tokens + 2 * size * pairs)


def bert(bench: Bench):
    """BERT-base on pairs of up to 128 and of up to 512 tokens."""
    for longest, number in ((128, 256), (512, 64)):
        bert_on_pairs(bench, bench.size(longest, longest // 8), bench.size(number, 4))


def bert_on_pairs(bench: Bench, longest: int, number: int):
    """Every second pair has `longest` tokens, the others any number from 8 on."""
    words, size, layers = bench.size(30_522, 300), bench.size(768, 32), bench.size(12, 2)
    heads, inner = bench.size(12, 2), bench.size(3_072, 64)
    shape = {"vocab_size": words, "hidden_size": size, "num_hidden_layers": layers, "num_attention_heads": heads}
    shape |= {"intermediate_size": inner}
    draw = torch.Generator().manual_seed(0)
    examples = []
    for i in range(number):
        length = longest if i % 2 else int(torch.randint(8, longest + 1, (1,), generator=draw))
        ids = torch.randint(5, words, (length,), generator=draw)
        masked = torch.rand(length, generator=draw) < 0.15
        masked[0] = True
        examples.append(
            {
                "input_ids": ids,
                "token_type_ids": (torch.arange(length) > length // 2).long(),
                "labels": ids.masked_fill(~masked, -100),
                "next_sentence_label": i % 2,
            }
        )
    lengths = [len(example["input_ids"]) for example in examples]
    scored = sum(int((example["labels"] != -100).sum()) for example in examples)
    flops = block_flops(layers, size, inner, sum(lengths), sum(n * n for n in lengths))
    flops += 6 * (size * size + size * words) * scored
    # as LineageTrainer gives it
    packed, padded = {**WithScoredPositions(PackingCollator())(examples), "max_length_q": max(lengths)}, {}
    for name, fill in (("input_ids", 0), ("token_type_ids", 0), ("labels", -100)):
        rows = [example[name] for example in examples]
        padded[name] = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=fill)
    padded["attention_mask"] = (torch.arange(longest) < torch.tensor(lengths)[:, None]).long()
    padded["next_sentence_label"] = torch.arange(number) % 2

    def ours(batch, is_compiled=False):
        model = hf_lineage.BERTForPreTraining(hf_lineage.BERTConfig(**shape))
        model = compiled_blocks(model, model.bert.encoder.layer) if is_compiled else model
        return training_step(model, batch, bench.device)

    theirs = BertConfig(**shape)
    sides = {
        "transformers, padded": lambda: training_step(BertForPreTraining(theirs), padded, bench.device),
        "ours, padded": lambda: ours(padded),
        "ours, packed (as the recipe does)": lambda: ours(packed),
    }
    if not bench.dry_run:
        sides["ours, packed, blocks compiled"] = lambda: ours(packed, True)
    title = f"BERT, masked words and next sentence, {number} pairs of up to {longest} tokens, bf16"
    bench.compare(title, sides, sum(lengths), flops)


def gpt(bench: Bench):
    """GPT-124M on blocks of 1,024 tokens."""
    words, size, layers = bench.size(40_478, 300), bench.size(768, 32), bench.size(12, 2)
    length, rows, heads = bench.size(1_024, 32), bench.size(16, 2), bench.size(12, 2)
    ids = torch.randint(words, (rows, length))
    batch = {"input_ids": ids, "labels": ids, "use_cache": False}
    # a causal attention needs half of all pairs
    flops = block_flops(layers, size, 4 * size, ids.numel(), rows * length * length / 2)
    flops += 6 * size * words * ids.numel()
    theirs = {"vocab_size": words, "n_embd": size, "n_layer": layers, "n_head": heads, "n_positions": length}

    def ours(is_compiled=False):
        config = hf_lineage.GPTConfig(
            vocab_size=words,
            hidden_size=size,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            intermediate_size=4 * size,
            max_position_embeddings=length,
        )
        model = hf_lineage.GPTForCausalLM(config)
        model = compiled_blocks(model, model.model.blocks) if is_compiled else model
        return training_step(model, batch, bench.device)

    def gpt2(is_compiled=False):
        model = GPT2LMHeadModel(GPT2Config(**theirs, bos_token_id=0, eos_token_id=0))
        return training_step(model, batch, bench.device, call=torch.compile(model) if is_compiled else None)

    sides = {"transformers' GPT-2": gpt2, "ours": ours}
    if not bench.dry_run:
        sides |= {"ours, blocks compiled": lambda: ours(True), "transformers' GPT-2, compiled": lambda: gpt2(True)}
    bench.compare(f"GPT, {rows} blocks of {length} tokens, bf16", sides, ids.numel(), flops)


class TorchLM(nn.Module):
    """A language model of torch.nn's modules."""

    def __init__(self, words: int, size: int, layers: int, kind: type = nn.LSTM):
        super().__init__()
        self.embedding, self.dropout = nn.Embedding(words, size), nn.Dropout(0.1)
        self.layers = kind(size, size, layers, batch_first=True, dropout=0.1)
        self.head = nn.Linear(size, words)

    def forward(self, input_ids, labels, use_cache=None):
        x, _ = self.layers(self.dropout(self.embedding(input_ids)))
        logits = self.head(self.dropout(x))[:, :-1]
        return nn.functional.cross_entropy(logits.flatten(0, 1).float(), labels[:, 1:].flatten())


def recurrent(bench: Bench):
    """Language models of two recurrent layers, compared with torch.nn's of the same shape."""
    words, size = bench.size(10_000, 300), bench.size(650, 32)
    ids = torch.randint(words, (bench.size(20, 3), bench.size(35, 5)))
    batch = {"input_ids": ids, "labels": ids, "use_cache": False}
    shape = {"vocab_size": words, "hidden_size": size, "num_hidden_layers": 2, "dropout": 0.1}

    def ours(kind: str, dtype, **fields):
        config = getattr(hf_lineage, f"{kind}Config")(**shape, **fields)
        return training_step(getattr(hf_lineage, f"{kind}ForCausalLM")(config), batch, bench.device, dtype)

    def in_a_loop(kind: str, dtype, **fields):
        """The same without fused steps."""
        step = ours(kind, dtype, **fields)

        def without_fused_steps():
            os.environ["HF_LINEAGE_FUSED"] = "0"
            try:
                step()
            finally:
                del os.environ["HF_LINEAGE_FUSED"]

        return without_fused_steps

    half = {"projection_size": size // 2}
    clips = {**half, "cell_clip": 3.0, "projection_clip": 3.0}
    # peer -> our cells of its kind
    families = {
        nn.LSTM: {
            "LSTM": ("LSTM", {}),
            "LSTM, peephole": ("LSTM", {"peephole": "diagonal"}),
            "LSTM, full peephole": ("LSTM", {"peephole": "full"}),
            "LSTM, coupled gates": ("LSTM", {"coupled_gates": "input"}),
            "LSTM, coupled gates with peephole": ("LSTM", {"coupled_gates": "input", "peephole": "diagonal"}),
            "LSTM, projection": ("LSTM", half),
            "LSTM, projection with clips": ("LSTM", clips),
        },
        nn.GRU: {
            "GRU, reset after the product": ("GRU", {}),
            "GRU, reset before it (the paper's)": ("GRU", {"reset_mode": "before"}),
        },
        nn.RNN: {
            "RNN, tanh": ("RNN", {"hidden_act": "tanh"}),
            "RNN, sigmoid": ("RNN", {"hidden_act": "sigmoid"}),
        },
    }
    rows, steps = ids.shape
    for dtype in (torch.bfloat16, torch.float32):
        for peer, variants in families.items():
            sides = {
                f"nn.{peer.__name__}": lambda peer=peer, dtype=dtype: training_step(
                    TorchLM(words, size, 2, peer), batch, bench.device, dtype
                )
            }
            for name, (kind, fields) in variants.items():
                sides[name] = lambda kind=kind, fields=fields, dtype=dtype: ours(kind, dtype, **fields)
                # without cuDNN's kernels: steps of one or two launches compared with steps of many
                if dtype is torch.bfloat16 and name.endswith(("LSTM, peephole", "clips", "(the paper's)")):
                    sides[f"{name}, HF_LINEAGE_FUSED=0"] = lambda kind=kind, fields=fields: in_a_loop(
                        kind, torch.bfloat16, **fields
                    )
            bench.compare(f"2 layers of {size} units, {rows} rows of {steps} tokens, {dtype}", sides, ids.numel())
    mask = (torch.arange(ids.shape[1]) < torch.linspace(2, ids.shape[1], len(ids))[:, None]).long()
    padded = {**batch, "attention_mask": mask}
    sides = {
        "LSTM without padding": lambda: ours("LSTM", torch.bfloat16),
        "LSTM, rows padded on the right": lambda: training_step(
            hf_lineage.LSTMForCausalLM(hf_lineage.LSTMConfig(**shape)), padded, bench.device
        ),
    }
    bench.compare("the same with padding; all tokens count", sides, ids.numel())
    large_recurrent(bench, words)


def large_recurrent(bench: Bench, words: int):
    """The large model of Zaremba et al. (2014), and AWD-LSTM with all its regularisers, compared with nn.LSTM."""
    awd = {"dropout_mask": "locked", "input_dropout": 0.4, "hidden_dropout": 0.25, "embedding_dropout": 0.1}
    awd |= {"weight_dropout": 0.5, "activation_penalty": 2.0, "change_penalty": 1.0}
    for name, size, layers, rows, steps, fields in (
        ("large", bench.size(1_500, 32), 2, bench.size(128, 3), bench.size(35, 5), {}),
        ("AWD-LSTM's regularisers", bench.size(1_150, 32), 3, bench.size(80, 3), bench.size(70, 5), awd),
    ):
        ids = torch.randint(words, (rows, steps))
        batch = {"input_ids": ids, "labels": ids, "use_cache": False}
        config = hf_lineage.LSTMConfig(
            vocab_size=words, hidden_size=size, num_hidden_layers=layers, **{"dropout": 0.1} | fields
        )
        sides = {
            "nn.LSTM": lambda size=size, layers=layers, batch=batch: training_step(
                TorchLM(words, size, layers), batch, bench.device
            ),
            f"LSTM, {name}": lambda config=config, batch=batch: training_step(
                hf_lineage.LSTMForCausalLM(config), batch, bench.device
            ),
        }
        title = f"{layers} layers of {size} units, {rows} rows of {steps} tokens, bf16"
        bench.compare(title, sides, ids.numel())


def elmo(bench: Bench):
    """ELMo's pre-training in the paper's size, and its recurrence compared with nn.LSTM with a projection."""
    words, rows, steps = bench.size(10_000, 300), bench.size(128, 2), bench.size(20, 5)
    size, projection = bench.size(4_096, 32), bench.size(512, 16)
    ids = torch.randint(words, (rows, steps))
    shape = {"vocab_size": words, "token_layer": "words", "hidden_size": size, "projection_size": projection}

    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(words, projection)
            options = {"num_layers": 2, "batch_first": True, "proj_size": projection}
            self.directions = nn.ModuleList(nn.LSTM(projection, size, **options) for _ in "12")
            self.head = nn.Linear(projection, words)

        def forward(self, input_ids, labels):
            x, losses = self.embedding(input_ids), []
            for layers, flips in zip(self.directions, (False, True), strict=True):
                y, _ = layers(x.flip(1) if flips else x)
                target = labels.flip(1) if flips else labels
                logits = self.head(y)[:, :-1].flatten(0, 1).float()
                losses.append(nn.functional.cross_entropy(logits, target[:, 1:].flatten()))
            return sum(losses)

    def ours(**fields):
        config = hf_lineage.ELMoConfig(**shape, output_layer="softmax", **fields)
        return training_step(hf_lineage.ELMoForPreTraining(config), {"input_ids": ids, "labels": ids}, bench.device)

    sides = {
        "nn.LSTM with proj_size, no clips": lambda: training_step(
            Both(), {"input_ids": ids, "labels": ids}, bench.device
        ),
        "ours, with the paper's clips": ours,
    }
    bench.compare(f"ELMo of words, {rows} rows of {steps} tokens, bf16", sides, ids.numel())


class TorchSearch(nn.Module):
    """RNNsearch written as a loop over nn.GRUCell."""

    def __init__(self, words: int, embedding: int, size: int):
        super().__init__()
        self.source, self.target = nn.Embedding(words, embedding), nn.Embedding(words, embedding)
        self.encoder = nn.GRU(embedding, size, batch_first=True, bidirectional=True)
        self.cell = nn.GRUCell(embedding + 2 * size, size)
        self.key, self.query = nn.Linear(2 * size, size, bias=False), nn.Linear(size, size, bias=False)
        self.energy, self.head = nn.Linear(size, 1, bias=False), nn.Linear(size, words)

    def forward(self, input_ids, labels):
        read, _ = self.encoder(self.source(input_ids))
        keys, words = self.key(read), self.target(labels)
        h, states = read.new_zeros(len(read), self.cell.hidden_size), []
        for word in words.unbind(1):
            weights = self.energy(torch.tanh(self.query(h)[:, None] + keys)).softmax(1)
            h = self.cell(torch.cat([word, (weights * read).sum(1)], dim=1), h)
            states.append(h)
        logits = self.head(torch.stack(states, dim=1))[:, :-1]
        return nn.functional.cross_entropy(logits.flatten(0, 1).float(), labels[:, 1:].flatten())


def rnnsearch(bench: Bench):
    """RNNsearch and Luong's model, compared with a loop over nn.GRUCell."""
    words, size, embedding = bench.size(30_000, 300), bench.size(1_000, 32), bench.size(620, 16)
    source, target = (torch.randint(5, words, (bench.size(80, 2), bench.size(30, 5))) for _ in "12")
    batch = {"input_ids": source, "labels": target}
    shape = {"vocab_size": words, "hidden_size": size, "embedding_size": embedding}

    def ours(kind, dtype):
        config = getattr(hf_lineage, f"{kind}Config")(**shape)
        model = getattr(hf_lineage, f"{kind}ForConditionalGeneration")(config)
        return training_step(model, batch, bench.device, dtype)

    for dtype in (torch.float32, torch.bfloat16):
        sides = {
            "loop over nn.GRUCell": lambda dtype=dtype: training_step(
                TorchSearch(words, embedding, size), batch, bench.device, dtype
            ),
            "RNNsearch": lambda dtype=dtype: ours("RNNSearch", dtype),
            "Luong": lambda dtype=dtype: ours("Luong", dtype),
        }
        bench.compare(f"{size} units, {len(source)} pairs of {source.shape[1]} words, {dtype}", sides, target.numel())


def decoding(bench: Bench):
    """Decoding in bf16 at batch 1 and 64, prompts of 32 tokens, greedy, and with 4 beams."""
    words, size, layers = bench.size(40_478, 300), bench.size(768, 32), bench.size(12, 2)
    heads, new = bench.size(12, 2), bench.size(64, 4)
    blocks = {"num_hidden_layers": layers, "num_attention_heads": heads, "intermediate_size": 4 * size}
    shape = {"vocab_size": words, "hidden_size": size}

    def decoder(model, prompt, **options):
        model = model.to(bench.device, torch.bfloat16).eval()
        model.generation_config.eos_token_id = None
        model.generation_config.pad_token_id = 0
        settings = {"attention_mask": torch.ones_like(prompt), "max_new_tokens": new, "do_sample": False, **options}
        return lambda: model.generate(prompt, **settings)

    def gpt2():
        sizes = {"vocab_size": words, "n_embd": size, "n_layer": layers, "n_head": heads, "n_positions": 512}
        return GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=0))

    def lineage_gpt():
        return hf_lineage.GPTForCausalLM(hf_lineage.GPTConfig(**shape, **blocks))

    def lstm():
        return hf_lineage.LSTMForCausalLM(hf_lineage.LSTMConfig(**shape))

    def transformer():
        config = hf_lineage.TransformerConfig(**shape, **blocks, decoder_layers=layers)
        return hf_lineage.TransformerForConditionalGeneration(config)

    def rnnsearch_model():
        config = hf_lineage.RNNSearchConfig(**shape, embedding_size=size)
        return hf_lineage.RNNSearchForConditionalGeneration(config)

    def marian():
        config = MarianConfig(
            vocab_size=words,
            d_model=size,
            encoder_layers=layers,
            decoder_layers=layers,
            encoder_attention_heads=heads,
            decoder_attention_heads=heads,
            encoder_ffn_dim=4 * size,
            decoder_ffn_dim=4 * size,
            pad_token_id=0,
            decoder_start_token_id=1,
        )
        return MarianMTModel(config)

    for batch in (1, bench.size(64, 2)):
        prompt = torch.randint(5, words, (batch, bench.size(32, 8)), device=bench.device)
        fast = {"custom_generate": fast_decoding}
        sides = {
            "transformers' GPT-2": lambda prompt=prompt: decoder(gpt2(), prompt),
            "GPT": lambda prompt=prompt: decoder(lineage_gpt(), prompt),
            "GPT, fast_decoding": lambda prompt=prompt, fast=fast: decoder(lineage_gpt(), prompt, **fast),
            "LSTM": lambda prompt=prompt: decoder(lstm(), prompt),
            "LSTM, fast_decoding": lambda prompt=prompt, fast=fast: decoder(lstm(), prompt, **fast),
        }
        # on a GPU a static cache compiles the step by itself
        static = {"cache_implementation": "static"}
        sides |= {
            "transformers' GPT-2, static cache": lambda p=prompt, s=static: decoder(gpt2(), p, **s),
            "GPT, static cache": lambda p=prompt, s=static: decoder(lineage_gpt(), p, **s),
            "LSTM, static cache": lambda p=prompt, s=static: decoder(lstm(), p, **s),
        }
        bench.compare(f"Continuations of {new} tokens, batch {batch}, bf16", sides, batch * new)
        sides = {
            "transformers' Marian": lambda prompt=prompt: decoder(marian(), prompt),
            "Transformer": lambda prompt=prompt: decoder(transformer(), prompt),
            "Transformer, fast_decoding": lambda prompt=prompt, fast=fast: decoder(transformer(), prompt, **fast),
            "transformers' Marian, static cache": lambda p=prompt, s=static: decoder(marian(), p, **s),
            "Transformer, static cache": lambda p=prompt, s=static: decoder(transformer(), p, **s),
        }
        sides |= {
            "RNNsearch": lambda prompt=prompt: decoder(rnnsearch_model(), prompt),
            "RNNsearch, fast_decoding": lambda prompt=prompt, fast=fast: decoder(rnnsearch_model(), prompt, **fast),
        }
        bench.compare(f"Translations of {new} tokens, batch {batch}, bf16", sides, batch * new)
    beams = {"num_beams": 4}
    sides = {
        "transformers' Marian": lambda: decoder(marian(), prompt, **beams),
        "Transformer": lambda: decoder(transformer(), prompt, **beams),
        "Transformer, fast_decoding": lambda: decoder(transformer(), prompt, **beams, **fast),
    }
    bench.compare(f"Translations of {new} tokens, batch {batch}, 4 beams, bf16", sides, batch * new)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--seconds", type=float, default=sum(SECTIONS.values()), help="for all sections together")
    parser.add_argument("--peak", type=float, default=PEAK, help="the card's bf16 flops per second")
    parser.add_argument("--dry_run", action="store_true", help="tiny sizes on the CPU, one round")
    parser.add_argument("--in_this_process", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if not args.dry_run and not torch.cuda.is_available():
        print("there is no GPU, so nothing is measured; --dry_run shows on a CPU that the script runs")
        return
    share, ends = args.seconds / sum(SECTIONS[name] for name in args.sections), time.monotonic() + args.seconds
    if args.in_this_process:
        [name] = args.sections
        torch.manual_seed(0)
        torch.set_float32_matmul_precision("high")
        globals()[name](Bench(args.dry_run, args.seconds, args.peak))
        return
    card = "CPU, a dry run: the numbers say nothing" if args.dry_run else torch.cuda.get_device_name()
    print(f"{card}; torch {torch.__version__}, CUDA {torch.version.cuda}", flush=True)
    for name in args.sections:
        seconds = SECTIONS[name] * share
        command = [sys.executable, __file__, "--sections", name, "--in_this_process", "--peak", str(args.peak)]
        command += ["--seconds", str(seconds)] + (["--dry_run"] if args.dry_run else [])
        try:
            # a side that compiles may pass its section's end, but not that of all
            left = max(1.0, ends - time.monotonic())
            status = subprocess.run(command, timeout=min(1.5 * seconds + 60, left)).returncode
        except subprocess.TimeoutExpired:
            status = "stopped: no time left"
        if status:
            print(f"section {name} did not finish ({status})", flush=True)


if __name__ == "__main__":
    main()
