r"""Compare a saved causal language model with n-gram models of the same text, and mix them.

    python recipes/evaluate_language_model.py --model_name_or_path runs/mlp9 --corpus brown/ --sample_by document
    python recipes/evaluate_language_model.py --model_name_or_path runs/lstm --neural_cache true \
        --output_dir runs/lstm_with_cache

Any model that `AutoModelForCausalLM` opens will do; models whose tokens are words fit best. The n-gram models are
counted on the training split, in the model's own tokens:

trigram      interpolated (Jelinek and Mercer, 1980), its weights fitted to the validation split
Kneser-Ney   modified, of order 5 (Chen and Goodman, 1999)

Bengio et al. (2003) mix the trigram with their network, half and half; a second mixture has a weight learned on the
validation split. Every token counts equally. A recurrent model can also adapt to the text it reads: by a neural cache
(`--neural_cache true`) or by dynamic evaluation (`--dynamic_learning_rate 0.1`). Choose their settings on the
validation text. Prints a table, and writes it to evaluation.json in the model's folder.
"""

from dataclasses import dataclass, field
from pathlib import Path

from transformers import AutoModelForCausalLM

import hf_lineage  # noqa: F401 - registers the stations
from hf_lineage.arguments import DataArguments, check_opens, parse, run, saved_config, tokenizer_of_model
from hf_lineage.data import encode_corpus, load_splits, segment_words
from hf_lineage.metrics import (
    dynamic_log_probabilities,
    log_probabilities,
    neural_cache_log_probabilities,
    perplexity_of,
)
from hf_lineage.metrics.ngrams import InterpolatedTrigram, KneserNey, mixture, mixture_weight
from hf_lineage.text_parts import LONGEST
from hf_lineage.tokenization import is_word_level
from hf_lineage.training import Results, code_for, last_lines, prepare_output_dir


@dataclass
class EvaluationArguments:
    """Which model, and which models to compare it with."""

    model_name_or_path: str = field(metadata={"help": "A saved model with its tokenizer (folder or Hub name)."})
    output_dir: str | None = field(
        default=None, metadata={"help": "Folder for evaluation.json; default: the model's folder."}
    )
    neural_cache: bool = field(
        default=False, metadata={"help": "Add a neural cache (Grave et al., 2017); recurrent models only."}
    )
    cache_window: int = field(default=500, metadata={"help": "Tokens that the neural cache remembers."})
    cache_share: float = field(default=0.1, metadata={"help": "Weight λ of the neural cache."})
    cache_sharpness: float = field(default=0.3, metadata={"help": "Sharpness θ of the neural cache."})
    dynamic_learning_rate: float | None = field(
        default=None,
        metadata={"help": "Add dynamic evaluation (Krause et al., 2018) at this rate; recurrent models only."},
    )
    dynamic_decay: float = field(
        default=0.0, metadata={"help": "Decay λ of dynamic evaluation, towards the saved weights."}
    )
    dynamic_block_size: int = field(default=5, metadata={"help": "Tokens between the updates of dynamic evaluation."})
    ngram_order: int = field(default=5, metadata={"help": "Words in an n-gram of the Kneser-Ney model."})
    overwrite_output_dir: bool = field(default=False, metadata={"help": "Replace the results of an older run."})
    disable_tqdm: bool = field(default=False, metadata={"help": "Show no progress bars."})


ARGUMENTS = (DataArguments, EvaluationArguments)


def main():
    # 1. arguments, model and data
    data_args, args = parse(*ARGUMENTS, description=__doc__)
    folder = Path(args.output_dir or args.model_name_or_path)
    prepare_output_dir(folder, args.overwrite_output_dir, finished=("evaluation.json",))
    check_opens(AutoModelForCausalLM, saved_config(args.model_name_or_path), args.model_name_or_path)
    tokenizer = tokenizer_of_model(args.model_name_or_path)
    model = AutoModelForCausalLM.from_pretrained(args.model_name_or_path)
    corpora = load_splits(**data_args.text, longest=LONGEST)
    if is_word_level(tokenizer):
        corpora = segment_words(corpora, data_args.word_segmentation)
    streams = {
        split: encode_corpus(corpus, tokenizer, num_proc=data_args.preprocessing_num_workers)
        for split, corpus in corpora.items()
    }

    # 2. n-gram models of the same tokens
    train, validation = streams["train"].tokens, streams["validation"].tokens
    vocab_size = len(tokenizer)
    trigram = InterpolatedTrigram(train, vocab_size, validation)
    kneser_ney = KneserNey(train, vocab_size, args.ngram_order)

    # 3. log-probabilities of the held-out texts, alone and mixed; weights are fitted to the validation text
    network, kn, weights = type(model).__name__, f"Kneser-Ney, order {args.ngram_order}", {}
    results = Results(folder / "evaluation.json")

    with results.kept_on_error():
        for split in ("validation", "test"):
            log_p = {
                network: log_probabilities(
                    model, streams[split], block_size=data_args.block_size, show_progress=not args.disable_tqdm
                ),
                "interpolated trigram": trigram.log_probabilities(streams[split].tokens),
                kn: kneser_ney.log_probabilities(streams[split].tokens),
            }
            if args.neural_cache:
                log_p[f"{network} with a neural cache"] = neural_cache_log_probabilities(
                    model,
                    streams[split],
                    window=args.cache_window,
                    share=args.cache_share,
                    sharpness=args.cache_sharpness,
                    block_size=data_args.block_size,
                    show_progress=not args.disable_tqdm,
                )
            if args.dynamic_learning_rate is not None:
                log_p[f"{network}, evaluated dynamically"] = dynamic_log_probabilities(
                    model,
                    streams[split],
                    learning_rate=args.dynamic_learning_rate,
                    decay=args.dynamic_decay,
                    block_size=args.dynamic_block_size,
                    show_progress=not args.disable_tqdm,
                )
            for other in ("interpolated trigram", kn):
                if split == "validation":
                    weights[other] = mixture_weight(log_p[network], log_p[other])
                log_p[f"{network} and {other}, half each"] = mixture(log_p[network], log_p[other])
                learned = f"{network} ({weights[other]:.2f}) and {other}"
                log_p[learned] = mixture(log_p[network], log_p[other], weights[other])
            for name, values in log_p.items():
                results[name] = {**results.get(name, {}), split: perplexity_of(values, streams[split])}

    # 4. the table
    print(f"\n{'perplexity per token':<60}{'validation':>12}{'test':>12}")
    for name, splits in results.items():
        print(f"{name:<60}" + "".join(f"{splits[split]['perplexity_per_token']:>12.1f}" for split in splits))
    best = min(results, key=lambda name: results[name]["validation"]["perplexity_per_token"])
    test = results[best]["test"]["perplexity_per_token"]
    sample = " ".join(corpora["test"][0]["text"].split()[:3])[:40]
    code = "; ".join(code_for(model, args.model_name_or_path, sample))
    score = f"test perplexity {test:.1f} per token, of the best on the validation text ({best})"
    print(last_lines(folder / "evaluation.json", score, ["python", "-c", code]))


if __name__ == "__main__":
    run(main)
