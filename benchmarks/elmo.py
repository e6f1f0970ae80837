"""ELMo's speed: each part against what a user would write or choose instead; rounds alternate.

    OMP_NUM_THREADS=1 python benchmarks/elmo.py [--rounds 5] [--claims lstmp steps vocabulary threads sampled features]

lstmp       the LSTM with projection and both clips, forward and backward, against nn.LSTM(proj_size=...) without clips
steps       tokens per second of training against a plain version: one cell call per step, all characters
vocabulary  token vectors kept for the vocabulary against the character convolutions of every token
threads     both directions at once in two threads against one after the other (wall seconds; needs two idle cores)
sampled     sampled softmax of 8,192 draws against the full one, 200,000 words, 640 tokens, forward and backward
features    an epoch over kept layers against an epoch that computes them

Ratios are medians over the rounds; seconds are CPU-seconds unless a line says otherwise. Measured, one core, 5 rounds:
lstmp 0.91, steps 3.51, vocabulary 106, sampled 25.4, features 14.2; threads 1.93. With 32 streams `steps` is 2.7: the
matrix products alone take 250 of our 384 ms, at the best rate of that core, 105 GFLOP per second.
"""

import argparse
import statistics
import tempfile
import time

import datasets
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

from hf_lineage import ELMoConfig, ELMoForPreTraining, ELMoForSequenceClassification, ELMoModel
from hf_lineage.data import KeptLayers
from hf_lineage.models.output_layers import sampled_softmax_loss
from hf_lineage.models.recurrent_cells import LSTMCell
from hf_lineage.tokenization import elmo_tokenizer


# the paper's model with a quarter of its filters, cells and outputs
SIZES = {
    "character_size": 16,
    "cnn_filters": [[1, 8], [2, 8], [3, 16], [4, 32], [5, 64], [6, 128], [7, 256]],
    "hidden_size": 1024,
    "projection_size": 128,
    "dropout": 0.0,
}
VOCABULARY = 20_000


def zipf(batch: int, time_steps: int) -> torch.Tensor:
    """Word numbers as natural text has them, [B, T]."""
    return (torch.rand(batch, time_steps).mul(torch.tensor(float(VOCABULARY)).log()).exp() - 1).long()


def words(ids: torch.Tensor) -> torch.Tensor:
    """Letters of these words [B, T, C]: five to nine per word."""
    table = torch.full((VOCABULARY, 50), 261)
    generator = torch.Generator().manual_seed(0)
    letters = torch.randint(98, 124, (VOCABULARY, 9), generator=generator)
    lengths = torch.randint(5, 10, (VOCABULARY,), generator=generator)
    table[:, 0] = 259
    table[:, 1:10] = torch.where(torch.arange(9) < lengths[:, None], letters, 261)
    table[torch.arange(VOCABULARY), lengths + 1] = 260
    return table[ids]


def run_backward(output: torch.Tensor):
    output.sum().backward()


def lstmp():
    ours = LSTMCell(128, 1024, projection_size=128, cell_clip=3.0, projection_clip=3.0)
    for parameter in ours.parameters():
        nn.init.uniform_(parameter, -0.05, 0.05)
    peer = nn.LSTM(128, 1024, proj_size=128, batch_first=True)
    x = torch.randn(32, 20, 128)
    return lambda: run_backward(ours(x)[0]), lambda: run_backward(peer(x)[0])


def steps():
    """A training step of the published batch, 128 streams of 20 words, read by both directions.

    The peer calls a cell once per step, and the convolutions once per token and direction, as the published program
    does. Both use a sampled softmax of 1,024 words.
    """
    model = ELMoForPreTraining(ELMoConfig(vocab_size=VOCABULARY, output_layer="sampled", **SIZES)).train()
    text, negatives = zipf(128, 22), zipf(1, 1024)[0]
    inputs = {"char_ids": words(text[:, :-2]), "backward_char_ids": words(text[:, 2:].flip(1))}
    labels = {"shift_labels": text[:, 1:-1], "backward_shift_labels": text[:, 1:-1].flip(1)}

    def ours():
        model(**inputs, **labels, negative_ids=negatives).loss.backward()

    def peer():
        bilm, losses = model.model, []
        for stack, name in ((bilm.forward_layers, ""), (bilm.backward_layers, "backward_")):
            x = bilm.token_layer.vectors(inputs[f"{name}char_ids"].flatten(0, 1)).view(128, 20, -1)
            for i, layer in enumerate(stack):
                state, outputs = layer.cell.initial_state(x), []
                for t in range(x.shape[1]):
                    projected = nn.functional.linear(x[:, t], layer.cell.weight_ih, layer.cell.bias)
                    state = layer.cell.step(projected, state)
                    outputs.append(state[0])
                y = torch.stack(outputs, dim=1)
                x = y + x if i else y
            targets, head = labels[f"{name}shift_labels"].flatten(), model.lm_head
            losses.append(sampled_softmax_loss(x.flatten(0, 1), targets, head.weight, head.bias, negatives).mean())
        (sum(losses) / 2).backward()

    return ours, peer


def vocabulary():
    model = ELMoModel(ELMoConfig(vocab_size=VOCABULARY, **SIZES)).eval()
    ids = zipf(32, 20)
    characters = words(ids)
    kept = model.vocabulary_vectors(words(torch.arange(VOCABULARY)[None])[0])
    with torch.no_grad():
        torch.testing.assert_close(kept[ids], model.token_vectors(char_ids=characters), rtol=0, atol=1e-5)
    no_gradient = torch.no_grad()
    return (
        no_gradient(lambda: model.token_vectors(inputs_embeds=kept[ids])),
        no_gradient(lambda: model.token_vectors(char_ids=characters)),
    )


def threads():
    torch.set_num_threads(1)
    model = ELMoModel(ELMoConfig(vocab_size=VOCABULARY, **SIZES)).eval()
    x = torch.randn(32, 40, 128)

    def run(parallel):
        model.parallel_directions = parallel
        model.read(x, x)

    no_gradient = torch.no_grad()
    return no_gradient(lambda: run(True)), no_gradient(lambda: run(False))


def sampled():
    size, num_words = 128, 200_000
    layer = nn.Linear(size, num_words)
    x, targets = torch.randn(640, size, requires_grad=True), zipf(1, 640)[0]
    negatives = (torch.rand(8192).mul(torch.tensor(float(num_words)).log()).exp() - 1).long()

    def ours():
        layer.zero_grad(set_to_none=True)
        sampled_softmax_loss(x, targets, layer.weight, layer.bias, negatives).mean().backward()

    def peer():
        layer.zero_grad(set_to_none=True)
        cross_entropy(layer(x), targets).backward()

    return ours, peer


def features():
    vocabulary = ["<S>", "</S>", "<UNK>", *(f"word{i}" for i in range(500))]
    tokenizer = elmo_tokenizer(vocabulary)
    texts = [" ".join(f"word{i}" for i in row.tolist()) for row in zipf(128, 20) % 500]
    data = datasets.Dataset.from_dict({"text": texts, "labels": [i % 2 for i in range(len(texts))]})
    config = ELMoConfig(vocab_size=len(vocabulary), task_size=32, freeze_bilm=True, num_labels=2, **SIZES)
    model = ELMoForSequenceClassification(config).train()
    kept = KeptLayers(data, model.model, tokenizer, tempfile.mkdtemp())

    def ours():
        for batch in DataLoader(kept, 32, collate_fn=kept.collate):
            model(**batch).loss.backward()

    def peer():
        for batch in DataLoader(data, 32):
            labels = batch.pop("labels")
            model(**tokenizer(batch["text"], padding=True, return_tensors="pt"), labels=labels).loss.backward()

    return ours, peer


CLAIMS = {
    # what is compared, and whether wall seconds count
    lstmp: ("LSTMP with clips : nn.LSTM(proj_size) without, seconds (goal: at most 1.1)", False, False),
    steps: ("one cell call per step : ours, seconds per training step (goal: at least 3)", True, False),
    vocabulary: ("characters : kept token vectors, seconds", True, False),
    threads: ("one direction after the other : two threads, wall seconds", True, True),
    sampled: ("full softmax : sampled, 200,000 words, seconds (goal: at least 15)", True, False),
    features: ("epoch with the language model : over kept layers, seconds (goal: at least 10)", True, False),
}


def measure(function, clock) -> float:
    started = clock()
    function()
    return clock() - started


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--claims", nargs="*", default=[claim.__name__ for claim in CLAIMS])
    args = parser.parse_args()
    ratios = {}
    print(f"{'claim':<12}{'ours, ms':>12}{'peer, ms':>12}{'ratio':>8}   what")
    for claim, (what, peer_first, is_wall) in CLAIMS.items():
        if claim.__name__ not in args.claims:
            continue
        torch.manual_seed(0)
        ours, peer = claim()
        clock = time.perf_counter if is_wall else time.process_time
        times = []
        for _ in range(args.rounds + 1):
            times.append((measure(ours, clock), measure(peer, clock)))
        mine, theirs = (statistics.median(column) for column in zip(*times[1:], strict=True))  # the first one warms up
        ratio = theirs / mine if peer_first else mine / theirs
        ratios[claim.__name__] = ratio
        print(f"{claim.__name__:<12}{1e3 * mine:>12.1f}{1e3 * theirs:>12.1f}{ratio:>8.2f}   {what}", flush=True)
    print(", ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items()))


if __name__ == "__main__":
    main()
