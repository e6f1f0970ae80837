r"""Judge minimal pairs, such as BLiMP's: which of two sentences is more likely to a saved language model?

    python recipes/evaluate_minimal_pairs.py --pairs blimp/ --models runs/gpt runs/lstm runs/bert \
        --output_dir runs/blimp --limit_per_phenomenon 100
    python recipes/evaluate_minimal_pairs.py --pairs my_pairs.jsonl --models runs/gpt --output_dir runs/pairs

`pairs` is a jsonl file, or a folder of them, with the fields sentence_good, sentence_bad and UID. Causal models judge
by log-probability, masked models by pseudo-log-likelihood (--word_l2r: Kauf and Ivanova's), ELMo by both directions.
Writes results.json and, with matplotlib, accuracy.png.
"""

from dataclasses import dataclass, field
from pathlib import Path

from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForPreTraining,
    PreTrainedConfig,
)

import hf_lineage  # noqa: F401 - registers the stations
from hf_lineage.arguments import check_opens, parse, run, saved_config, tokenizer_of_model
from hf_lineage.data import pair_files, read_minimal_pairs
from hf_lineage.files import save_figure
from hf_lineage.metrics import measure_minimal_pairs
from hf_lineage.tokenization import refuse_texts_without_blanks
from hf_lineage.training import Results, last_lines, page_command, prepare_output_dir


@dataclass
class MinimalPairsArguments:
    """Which models and which pairs."""

    models: list[str] = field(metadata={"help": "Saved models with their tokenizers (folders or Hub names)."})
    pairs: str = field(metadata={"help": "A .jsonl or .jsonl.gz file, or a folder of them."})
    output_dir: str = field(metadata={"help": "Folder for results.json and accuracy.png."})
    group_by: str = field(default="UID", metadata={"help": "Field that names the phenomenon."})
    limit_per_phenomenon: int | None = field(
        default=None, metadata={"help": "Use only the first pairs of each phenomenon."}
    )
    word_l2r: bool = field(
        default=False, metadata={"help": "Masked models: hide the later tokens of the scored token's word too."}
    )
    overwrite_output_dir: bool = field(default=False, metadata={"help": "Replace the results of an older run."})
    batch_size: int = field(default=64, metadata={"help": "Sentences per batch (masked models: masked tokens)."})
    device: str = field(default="cpu", metadata={"help": "Device of the models, such as cuda."})
    disable_tqdm: bool = field(default=False, metadata={"help": "Show no progress bars."})


ARGUMENTS = (MinimalPairsArguments,)


def main():
    # 1. arguments
    (args,) = parse(*ARGUMENTS, description=__doc__)
    # a wrong path stops the run before anything is made
    pair_files(args.pairs)
    openers = {name: opener_of(saved_config(name, "models"), name) for name in args.models}
    tokenizers = {name: tokenizer_of_model(name, "models") for name in args.models}
    output_dir = prepare_output_dir(args.output_dir, args.overwrite_output_dir)

    # 2. pairs
    rows = read_minimal_pairs(args.pairs, group_by=args.group_by, limit=args.limit_per_phenomenon)
    for tokenizer in tokenizers.values():
        refuse_texts_without_blanks(tokenizer, (row["sentence_good"] for row in rows))

    # 3. models
    results = Results(output_dir / "results.json")
    with results.kept_on_error():
        for name in args.models:
            model = openers[name].from_pretrained(name).to(args.device)
            settings = {"group_by": args.group_by, "batch_size": args.batch_size, "word_l2r": args.word_l2r}
            settings["show_progress"] = not args.disable_tqdm
            result = measure_minimal_pairs(model, tokenizers[name], rows, **settings)
            results[name] = {"model_type": model.config.model_type, "parameters": model.num_parameters(), **result}
            print(f"{name}: {result['accuracy']:.4f} of {result['pairs']:,} pairs")

        # 4. plot
        plot(results, output_dir / "accuracy.png")
    best = max(results, key=lambda name: results[name]["accuracy"])
    shown = output_dir / "accuracy.png"
    shown = shown if shown.is_file() else results.path
    print(last_lines(output_dir, f"accuracy {results[best]['accuracy']:.4f} ({best})", page_command(shown)))


def opener_of(config: PreTrainedConfig, name: str):
    """The Auto class that opens a saved model with the head that judges.

    Raises:
        ValueError: it has no such head.
    """
    is_masked = type(config) in AutoModelForMaskedLM._model_mapping and not any(
        architecture.endswith(("ForCausalLM", "LMHeadModel")) for architecture in config.architectures or ()
    )
    opener = AutoModelForMaskedLM if is_masked else AutoModelForCausalLM
    if config.model_type == "lineage_elmo":
        opener = AutoModelForPreTraining
    check_opens(opener, config, name, "models")
    return opener


def plot(results: dict, path: Path):
    """A row per phenomenon, a point per model; chance is 0.5."""
    try:
        from matplotlib import pyplot
    except ImportError:
        print("accuracy.png needs matplotlib: pip install 'hf_lineage[demo]'")
        return
    phenomena = list(next(iter(results.values()))["by_phenomenon"])
    figure, axes = pyplot.subplots(figsize=(8, 1 + 0.2 * len(phenomena)), layout="constrained")
    for name, result in results.items():
        values = [result["by_phenomenon"][phenomenon] for phenomenon in phenomena]
        axes.plot(values, phenomena, "o", alpha=0.7, label=f"{name}: {result['accuracy']:.3f}")
    axes.axvline(0.5, color="grey", linewidth=1)
    axes.set(xlim=(0, 1), xlabel="accuracy")
    axes.invert_yaxis()
    axes.grid(axis="y", linewidth=0.3)
    axes.legend(fontsize="small")
    save_figure(figure, path)
    pyplot.close(figure)


if __name__ == "__main__":
    run(main)
