"""The lineage run: every causal language model of the package, trained alike on the same real text and compared.

    python recipes/lineage.py --output_dir runs/lineage
    python recipes/lineage.py --output_dir runs/mine --corpus my_texts/ --tokens 300_000

Each station gets the same tokens, in the same order, and about the same number of parameters. It is trained with
recipes/pretrain_causal_lm.py, reopened from its folder as a user would, and prompted. word2vec, which says nothing, is
trained on the same text by recipes/pretrain_word2vec.py, and shows its words instead. The table and the samples go to
report.html; the exit status is not 0 if any step of any station failed.
"""

import json
import runpy
import sys
import traceback
from dataclasses import dataclass, field
from pathlib import Path

from tqdm.auto import tqdm
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer, pipeline, set_seed

from hf_lineage import LINEAGE, Word2VecConfig
from hf_lineage.arguments import parse
from hf_lineage.data import load_corpus
from hf_lineage.reports import known_groups, word_vectors_section, write_lineage_report
from hf_lineage.tokenization import train_wordpiece
from hf_lineage.word_vectors import WordVectors


PRETRAIN = Path(__file__).with_name("pretrain_causal_lm.py")
PRETRAIN_WORD2VEC = Path(__file__).with_name("pretrain_word2vec.py")
CONFIGS = Path(__file__).with_name("configs")
WORD_GROUPS = {
    "countries": "germany france england italy russia spain china japan india greece".split(),
    "numbers": "two three four five six seven eight nine ten".split(),
    "months": "january february march april june july august september october november december".split(),
    "family": "father mother son daughter brother sister wife husband".split(),
    "sciences": "physics chemistry mathematics biology economics philosophy psychology medicine".split(),
}
ANALOGIES = [
    ("he", "his", "she", "her"),
    ("father", "mother", "son", "daughter"),
    ("france", "french", "germany", "german"),
    ("france", "paris", "england", "london"),
    ("is", "are", "was", "were"),
    ("one", "first", "two", "second"),
    ("large", "larger", "small", "smaller"),
]


@dataclass
class LineageArguments:
    """What the stations are compared on."""

    output_dir: str = field(default="runs/lineage", metadata={"help": "Where models and report go."})
    corpus: str | None = field(
        default=None, metadata={"help": "A file, a folder with <split> files, or a Hub name; default: embedded text."}
    )
    vocab_size: int = field(default=4_000, metadata={"help": "WordPiece vocabulary, shared by all stations."})
    tokens: int = field(default=400_000, metadata={"help": "Tokens each station is trained on."})
    prompts: list[str] = field(
        default_factory=lambda: ["The first", "In the city of", "It is known that"],
        metadata={"help": "Texts that each model goes on from."},
    )


def train_station(model_type: str, folder: Path, args: LineageArguments, tokenizer: Path):
    """Trains one station as `python recipes/pretrain_causal_lm.py recipes/configs/<station>_tiny.yaml` does."""
    config = CONFIGS / f"{model_type.removeprefix('lineage_')}_tiny.yaml"
    sys.argv = [str(PRETRAIN), str(config), "--output_dir", str(folder), "--tokenizer_name", str(tokenizer)]
    sys.argv += ["--train_tokens", str(args.tokens)] + (["--corpus", args.corpus] if args.corpus else [])
    runpy.run_path(str(PRETRAIN), run_name="__main__")


def describe_station(model_type: str, folder: Path, prompts: list[str]) -> dict:
    """Reopens a trained station by the Auto classes and the pipeline; its numbers, curves and samples."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    if model.config.model_type != model_type:
        raise RuntimeError(f"{folder} reopened as {model.config.model_type}, not {model_type}")
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    generate = pipeline("text-generation", model=str(folder), device="cpu")
    set_seed(0)
    samples = []
    for prompt in prompts:
        answer = generate(prompt, max_new_tokens=40, do_sample=True, top_p=0.9, return_full_text=False)
        samples.append((prompt, answer[0]["generated_text"]))
    return {
        "model": type(model).__name__,
        "parameters": results["parameters"],
        **{key: results["test"][key] for key in results["test"] if key.startswith(("perplexity", "bits"))},
        "train_seconds": results["train_seconds"],
        "tokens_per_second": int(results["trained_tokens"] / max(results["train_seconds"], 1e-9)),
        "train_curve": results["train_curve"],
        "validation_curve": results["validation_curve"],
        "samples": samples,
    }


def train_word2vec(folder: Path, args: LineageArguments):
    """Trains word2vec as `python recipes/pretrain_word2vec.py recipes/configs/word2vec_tiny.yaml` does, but longer."""
    config = CONFIGS / "word2vec_tiny.yaml"
    sys.argv = [str(PRETRAIN_WORD2VEC), str(config), "--output_dir", str(folder)]
    # a text this small is read often, in steps that are small for it
    sys.argv += ["--num_train_epochs", "40", "--learning_rate", "0.05"]
    sys.argv += ["--corpus", args.corpus] if args.corpus else []
    runpy.run_path(str(PRETRAIN_WORD2VEC), run_name="__main__")


def describe_word2vec(folder: Path) -> str:
    """Reopens the word vectors by the Auto classes -> a section of the report."""
    model, tokenizer = AutoModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    vectors = WordVectors.from_model(model, tokenizer)
    groups = WORD_GROUPS
    if not known_groups(vectors, groups):
        # another text: its most frequent words instead
        groups = {"frequent words": vectors.words[:40]}
    return word_vectors_section(f"What {type(model).__name__} knows of words", vectors, groups, ANALOGIES)


def main():
    # 1. arguments and output
    (args,) = parse(LineageArguments)
    output_dir = Path(args.output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)

    # 2. one tokenizer for all, so that they also compare per token
    print(f"tokenizer: WordPiece of {args.vocab_size} pieces")
    corpus = load_corpus(args.corpus, "train")
    train_wordpiece(corpus["text"], args.vocab_size).save_pretrained(output_dir / "tokenizer")

    # 3. every station that generates text: train, reopen, prompt
    stations = [config for config in LINEAGE if "AutoModelForCausalLM" in config.auto_classes]
    results, failed = [], []
    for config_class in tqdm(stations, desc="Lineage", unit="station"):
        model_type = config_class.model_type
        folder = output_dir / model_type
        print(f"\n{model_type}")
        try:
            train_station(model_type, folder, args, output_dir / "tokenizer")
            results.append(describe_station(model_type, folder, args.prompts))
        except (Exception, SystemExit):
            traceback.print_exc()
            failed.append(model_type)

    # 4. word2vec: train, reopen, ask
    sections, folder = [], output_dir / Word2VecConfig.model_type
    print(f"\n{Word2VecConfig.model_type}")
    try:
        train_word2vec(folder, args)
        sections.append(describe_word2vec(folder))
    except (Exception, SystemExit):
        traceback.print_exc()
        failed.append(Word2VecConfig.model_type)

    # 5. table and report
    if results:
        summary = (
            f"{len(results)} models, each trained on the same {args.tokens:,} tokens of "
            f"{args.corpus or 'English Wikipedia (the default corpus)'} and tested on text none of them has seen. "
            "Per word and per character count the ends of documents too."
        )
        write_lineage_report(output_dir / "report.html", "The lineage of language models", summary, results, sections)
        (output_dir / "report.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
        header = f"{'model':<20}{'parameters':>12}{'ppl/token':>11}{'ppl/word':>11}{'bits/char':>11}{'seconds':>9}"
        print("\n" + header)
        for result in results:
            print(
                f"{result['model']:<20}{result['parameters']:>12,}{result['perplexity_per_token']:>11.1f}"
                f"{result['perplexity_per_word']:>11.1f}{result['bits_per_character']:>11.3f}"
                f"{result['train_seconds']:>9.1f}"
            )
        print(f"\n{output_dir / 'report.html'}")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
