"""The lineage run: train a small model of every station and compare them on one page.

    python recipes/lineage.py --output_dir runs/lineage
    python recipes/lineage.py --output_dir runs/mine --corpus my_texts/ --tokens 300_000
    python recipes/lineage.py --output_dir runs/few --stations nnlm gpt bert

Each station trains as a user would train it: by its recipe and its tiny preset, in its own process, with its output in
logs/. Models that generate text read the same tokens in the same order and have about the same number of parameters.
word2vec, ELMo and BERT read the same text; encoder-decoders read a synthetic grammar of Chinese and English. Then each
model is reopened from its folder, and the lineage lab (`python -m hf_lineage lab`) shows them all in report.html;
results.json has the numbers. The exit status is not 0 if a step failed.
"""

import json
import math
import os
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

from tqdm.auto import tqdm
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSeq2SeqLM, pipeline, set_seed
from transformers.utils import logging

from hf_lineage import LINEAGE
from hf_lineage.arguments import parse, run
from hf_lineage.data import encode_corpus, load_splits
from hf_lineage.files import write_json
from hf_lineage.lab import Given, open_models, short_name, write_lab
from hf_lineage.lab.senses import sense_gaps
from hf_lineage.metrics import perplexity_of
from hf_lineage.metrics.ngrams import KneserNey
from hf_lineage.models import name_and_idea
from hf_lineage.models.replaced_files import replaced_together
from hf_lineage.tokenization import open_tokenizer, train_wordpiece
from hf_lineage.training import last_lines, page_command, prepare_output_dir, run_recipe


RECIPES = Path(__file__).parent
STATIONS = {config.model_type.removeprefix("lineage_"): config for config in LINEAGE}
# as the page names them
STATION_NAMES = {name: short_name(config.model_type) for name, config in STATIONS.items()}
CAUSAL = [name for name, config in STATIONS.items() if "AutoModelForCausalLM" in config.auto_classes]
TRANSLATING = [name for name, config in STATIONS.items() if "AutoModelForSeq2SeqLM" in config.auto_classes]
RECIPE_OF = (
    {"word2vec": "pretrain_word2vec.py", "elmo": "pretrain_bilm.py", "bert": "pretrain_bert.py"}
    | dict.fromkeys(CAUSAL, "pretrain_causal_lm.py")
    | dict.fromkeys(TRANSLATING, "pretrain_translation.py")
)
# whose memory the page compares over longer gaps than a text asks for
REMEMBERING = {"rnn", "lstm", "gru"}
# the slowest start first, so that none runs alone at the end
SLOWEST = ["gpt", "lstm", "gru", "elmo", "rnn", "bert", "transformer", "nnlm", "rnnsearch", "luong", "seq2seq"]
# learning rates for batches of 8; the presets' smaller ones suit smaller texts, and take longer
OF_LARGER_BATCHES = {"rnn": 5e-3, "lstm": 1e-2, "gru": 8e-3, "gpt": 5e-3}
MASKED = [
    "It is one [MASK] the largest cities in the world.",
    "He was born [MASK] 1867.",
    "They did not want to [MASK] the war.",
    "The [MASK] of the city is old.",
]
# what the papers claim: the first has the lower perplexity ("ngrams" is Kneser-Ney of order 5); with a preset of
# docs/results.md that shows the first one's strength
BETTER = [
    ("nnlm", "ngrams", "brown_mlp9.yaml"),
    ("rnn", "nnlm", "ptb_rnn.yaml"),
    ("lstm", "rnn", "ptb_zaremba_small.yaml"),
    ("gru", "rnn", "ptb_gru.yaml"),
    ("gpt", "nnlm", "ptb_gpt.yaml"),
]
CONTEXTUAL = ("lineage_elmo", "lineage_bert")
# shown in percent
SHARES = {
    "alignment_error_rate",
    "unknown_words",
    "masked_word_accuracy",
    "most_frequent_word_alone",
    "next_sentence_accuracy",
    "next_sentence_majority",
}


@dataclass
class LineageArguments:
    """Which stations, on which text."""

    output_dir: str = field(default="runs/lineage", metadata={"help": "Folder for models and report."})
    corpus: str | None = field(
        default=None,
        metadata={"help": "A file, a folder (<split> files or any texts), or a Hub name; default: Wikipedia text."},
    )
    stations: list[str] | None = field(
        default=None, metadata={"help": "Stations, such as nnlm gpt bert; default: all."}
    )
    vocab_size: int = field(
        default=3_000, metadata={"help": "Size of the WordPiece vocabulary that the stations share."}
    )
    tokens: int = field(
        default=900_000,
        metadata={"help": "Training tokens of each station that generates text; more than the text has: again."},
    )
    bert_steps: int = field(default=1_000, metadata={"help": "Updates of BERT."})
    elmo_epochs: float = field(default=0.4, metadata={"help": "Passes of ELMo over the text."})
    translation_epochs: float = field(default=2.0, metadata={"help": "Passes over the 20,000 sentence pairs."})
    recall_updates: int = field(
        default=1_000,
        metadata={"help": "Updates of RNN, LSTM and GRU on symbols to recall after a gap; 0 leaves this out."},
    )
    prompts: list[str] = field(
        default_factory=lambda: ["The first", "In the city of", "It is known that"],
        metadata={"help": "Texts that each model continues."},
    )
    seed: int = field(default=42, metadata={"help": "Seed of every station's weights and order of data."})
    overwrite_output_dir: bool = field(default=False, metadata={"help": "Replace the results of an older run."})
    num_workers: int | None = field(
        default=None, metadata={"help": "Stations that train at the same time; default: the CPU's cores, at most 4."}
    )

    def __post_init__(self):
        if unknown := sorted(set(self.stations or []) - set(STATIONS)):
            raise ValueError(f"stations has unknown names {unknown}; there are {', '.join(STATIONS)}")


ARGUMENTS = (LineageArguments,)


def training_command(name: str, args: LineageArguments) -> list[str]:
    """The command that trains a station: its recipe, its tiny preset, and the settings that differ here."""
    output_dir = Path(args.output_dir)
    command = [sys.executable, str(RECIPES / RECIPE_OF[name]), str(RECIPES / "configs" / f"{name}_tiny.yaml")]
    # an older station is replaced, since the whole report is new
    command += ["--output_dir", str(output_dir / name), "--disable_tqdm", "true", "--overwrite_output_dir", "true"]
    command += ["--seed", str(args.seed)]
    if name in TRANSLATING:
        # greedy, and no evaluation during training (nor of the others): both cost more than they show
        command += ["--num_train_epochs", str(args.translation_epochs), "--generation_num_beams", "1"]
        return [*command, "--eval_strategy", "no", "--save_strategy", "no"]
    if args.corpus:
        command += ["--corpus", args.corpus]
    if name == "word2vec":
        # a small text needs many epochs, and fewer of its frequent words
        return [*command, "--num_train_epochs", "60", "--learning_rate", "0.05", "--subsample", "1e-4"]
    if name == "elmo":
        command += ["--num_train_epochs", str(args.elmo_epochs), "--split_punctuation", "true"]
        return [*command, "--eval_strategy", "no"]
    command += ["--tokenizer_name", str(output_dir / "tokenizer")]
    if name == "bert":
        command += ["--max_steps", str(args.bert_steps), "--eval_strategy", "no", "--prompts", *MASKED]
        # a row is a document, as for the other stations; the default corpus has articles
        return [*command, "--sample_by", "line"] if args.corpus else command
    if name in OF_LARGER_BATCHES:
        command += ["--per_device_train_batch_size", "8", "--learning_rate", str(OF_LARGER_BATCHES[name])]
    return [*command, "--train_tokens", str(args.tokens), "--eval_strategy", "no"]


def train(name: str, args: LineageArguments) -> float:
    """Runs a station's recipe with its output in a log; returns the seconds.

    Raises:
        RuntimeError: the recipe failed; the message has the end of its log.
    """
    return run_recipe(name, training_command(name, args), Path(args.output_dir) / "logs" / f"{name}.log")


def measure_recall(args: LineageArguments) -> dict[str, dict[str, float]]:
    """What RNN, LSTM and GRU recall after gaps, {station: {gap: recall}}: the smallest run of long_dependencies.py.

    Raises:
        RuntimeError: the recipe failed; the message has the end of its log.
    """
    name, output_dir = "long_dependencies", Path(args.output_dir)
    command = [sys.executable, str(RECIPES / f"{name}.py"), "--output_dir", str(output_dir / name), "--seeds", "1"]
    command += ["--longest_gap", "200", "--gaps", "10", "25", "50", "100", "200"]
    command += ["--updates", str(args.recall_updates), "--disable_tqdm", "true", "--overwrite_output_dir", "true"]
    run_recipe(name, command, output_dir / "logs" / f"{name}.log")
    return json.loads((output_dir / name / "results.json").read_text(encoding="utf-8"))


def describe_causal(name: str, folder: Path, prompts: list[str]) -> dict:
    """Reopens a trained station by the Auto classes and the pipeline: numbers, curves and samples."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    generate = pipeline("text-generation", model=str(folder), device="cpu")
    set_seed(0)
    samples = []
    for prompt in prompts:
        answer = generate(prompt, max_new_tokens=40, do_sample=True, top_p=0.9, return_full_text=False)
        samples.append((prompt, answer[0]["generated_text"]))
    numbers = {key: value for key, value in results["test"].items() if key.startswith(("perplexity", "bits"))}
    return {
        "model": type(model).__name__,
        "parameters": results["parameters"],
        **numbers,
        "train_seconds": results["train_seconds"],
        "tokens_per_second": int(results["trained_tokens"] / max(results["train_seconds"], 1e-9)),
        "train_curve": results["train_curve"],
        "samples": samples,
        "result": f"perplexity {numbers['perplexity_per_token']:.1f} per token",
    }


def describe_ngrams(args: LineageArguments, tokenizer, corpora: dict) -> dict:
    """The model to beat for those that write: counts of the same tokens, each read once."""
    train, test = (encode_corpus(corpora[split], tokenizer) for split in ("train", "test"))
    log_p = KneserNey(train.tokens[: args.tokens], len(tokenizer)).log_probabilities(test.tokens)
    return {"model": "Kneser-Ney, order 5", **perplexity_of(log_p, test)}


def describe_word2vec(name: str, folder: Path) -> dict:
    """Reopens the word vectors by the Auto classes."""
    model = AutoModel.from_pretrained(folder)
    words = model.config.vocab_size
    return {
        "model": type(model).__name__,
        "parameters": model.num_parameters(),
        "result": f"vectors of {words:,} words",
    }


def describe_translation(name: str, folder: Path) -> dict:
    """Reopens an encoder-decoder: BLEU and alignment error rate."""
    model = AutoModelForSeq2SeqLM.from_pretrained(folder)
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    error = results.get("alignment", {}).get("aer")
    return {
        "model": type(model).__name__,
        "parameters": results["parameters"],
        "train_seconds": results["train_seconds"],
        "bleu": results["test"]["bleu"],
        "alignment_error_rate": error,
        "result": f"BLEU {results['test']['bleu']:.1f}" + ("" if error is None else f", alignment errors {error:.0%}"),
    }


def describe_elmo(name: str, folder: Path) -> dict:
    """ELMo's perplexities, per direction."""
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    test = results["test"]
    return {
        "model": type(AutoModel.from_pretrained(folder)).__name__,
        "parameters": results["parameters"],
        "train_seconds": results["train_seconds"],
        "forward_perplexity": test["forward_perplexity"],
        "backward_perplexity": test["backward_perplexity"],
        "unknown_words": test["num_unknown"] / test["num_predictions"],
        "result": f"perplexity {test['forward_perplexity']:.1f} forward, {test['backward_perplexity']:.1f} backward",
    }


def describe_bert(name: str, folder: Path) -> dict:
    """BERT's two objectives, and the masks it fills."""
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    test = results["test"]
    shown = {
        "masked_word_perplexity": test["masked_word_perplexity"],
        "by_frequency_alone": test["masked_word_frequency_perplexity"],
        "masked_word_accuracy": test["masked_word_accuracy"],
        "most_frequent_word_alone": test["masked_word_majority"],
        "next_sentence_accuracy": test["next_sentence_accuracy"],
        "next_sentence_majority": test["next_sentence_majority"],
    }
    return {
        "model": type(AutoModel.from_pretrained(folder)).__name__,
        "parameters": results["parameters"],
        "train_seconds": results["train_seconds"],
        **shown,
        "samples": results["samples"],
        "result": f"{test['masked_word_accuracy']:.0%} of masked pieces guessed; next sentence "
        f"{test['next_sentence_accuracy']:.0%} (majority {test['next_sentence_majority']:.0%})",
    }


def describe(name: str, args: LineageArguments) -> dict:
    """Reopens a trained station from its folder and describes it."""
    folder = Path(args.output_dir) / name
    if name in CAUSAL:
        return describe_causal(name, folder, args.prompts)
    if name in TRANSLATING:
        return describe_translation(name, folder)
    return {"word2vec": describe_word2vec, "elmo": describe_elmo, "bert": describe_bert}[name](name, folder)


def scores_table(title: str, note: str, rows: list[dict], keys: tuple[str, ...]) -> dict:
    """A table of the page: a row per station; shares in percent."""
    lines = [
        [f"{row[key]:.1%}" if key in SHARES and row[key] is not None else row[key] for key in keys] for row in rows
    ]
    return {"title": title, "note": note, "columns": [key.replace("_", " ") for key in keys], "rows": lines}


def tables_of(results: dict[str, dict], ngrams: dict) -> list[dict]:
    """The tables of the page, in the order of the lineage; `ngrams` stands above the models that write."""
    kinds = [
        (
            "Models that write",
            "On test text. The n-gram model only counts the same tokens; in so little text it is hard to beat. "
            "Numbers per word and per character count the ends of documents too.",
            CAUSAL,
            ("model", "parameters", "perplexity_per_token", "perplexity_per_word", "bits_per_character")
            + ("train_seconds", "tokens_per_second"),
        ),
        (
            "Models that translate",
            "A synthetic grammar of Chinese and English with known alignments.",
            TRANSLATING,
            ("model", "parameters", "bleu", "alignment_error_rate", "train_seconds"),
        ),
        (
            "ELMo reads both ways",
            "Per word of its own vocabulary. All unknown words are one word, so a large share of them lowers the "
            "perplexity. Do not compare it with perplexities of pieces.",
            ["elmo"],
            ("model", "parameters", "forward_perplexity", "backward_perplexity", "unknown_words", "train_seconds"),
        ),
        (
            "BERT guesses masked words",
            "Each score stands next to a baseline without context: the words' frequencies, the most frequent word, "
            "the more frequent of the two answers. BERT guesses only some of the pieces, so it learns less from this "
            "little text than the models that write.",
            ["bert"],
            (
                "model",
                "masked_word_perplexity",
                "by_frequency_alone",
                "masked_word_accuracy",
                "most_frequent_word_alone",
            )
            + ("next_sentence_accuracy", "next_sentence_majority", "parameters", "train_seconds"),
        ),
    ]
    rows = {name: [results[name]] for name in results}
    if first := next((name for name in CAUSAL if name in results), None):
        rows[first] = [dict.fromkeys(results[first]) | ngrams, *rows[first]]
    return [
        scores_table(title, note, [row for name in names for row in rows.get(name, ())], keys)
        for title, note, names, keys in kinds
        if any(name in results for name in names)
    ]


def not_shown(results: dict[str, dict], ngrams: dict, gaps: dict[str, list[float]]) -> str:
    """A sentence on what the papers claim and these numbers do not show, with what does; "" if there is nothing.

    `gaps`: per model with vectors of words in context, how far apart the senses are, by layer (`sense_gaps`).
    """
    names = STATION_NAMES | {"ngrams": "the n-gram model"}
    perplexities = {name: row["perplexity_per_token"] for name, row in results.items() if name in CAUSAL}
    perplexities["ngrams"] = ngrams["perplexity_per_token"]
    missed = [
        f"{names[better]} ahead of {names[worse]} ({preset})"
        for better, worse, preset in BETTER
        if better in perplexities and perplexities[better] >= perplexities.get(worse, math.inf)
    ]
    if bert := results.get("bert"):
        # two thirds: what BERT reaches before it has learnt more than words' neighbours
        if bert["masked_word_perplexity"] > bert["by_frequency_alone"] * 2 / 3:
            missed.append("BERT far ahead of the words' frequencies (bert_books.yaml)")
        if bert["next_sentence_accuracy"] <= bert["next_sentence_majority"]:
            missed.append("BERT's next sentences better than the more frequent answer (bert_books.yaml)")
    missed += [
        f"{name}'s senses apart with depth (MiniLM)" for name, layers in gaps.items() if layers[-1] <= layers[0]
    ]
    if not missed:
        return ""
    return (
        f"Too little text and time to show: {'; '.join(missed)}. What stands in brackets shows it: docs/results.md, "
        "tiny presets, has the commands."
    )


def samples_of(results: dict[str, dict]) -> list[dict]:
    """What the models write, and the masks that BERT fills."""
    samples = [{"name": STATION_NAMES[name], "texts": results[name]["samples"]} for name in CAUSAL if name in results]
    if "bert" in results:
        # a piece that continues a word
        joined = [(text, [word.replace("##", "…") for word in words]) for text, words in results["bert"]["samples"]]
        filled = [(f"{text} ", ", ".join(words)) for text, words in joined]
        samples.append({"name": STATION_NAMES["bert"], "texts": filled})
    return samples


def main():
    # 1. arguments and output
    (args,) = parse(*ARGUMENTS, description=__doc__)
    # models are opened without their heads on purpose
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    output_dir = prepare_output_dir(args.output_dir, args.overwrite_output_dir)
    names = [name for name in STATIONS if name in (args.stations or STATIONS)]

    # 2. one tokenizer for all stations that read pieces, so that they compare per token
    corpora = load_splits(args.corpus)
    (output_dir / "logs").mkdir(parents=True, exist_ok=True)
    print(f"tokenizer: WordPiece of {args.vocab_size} pieces")
    tokenizer = train_wordpiece(corpora["train"]["text"], args.vocab_size)
    with replaced_together(output_dir / "tokenizer") as folder:
        tokenizer.save_pretrained(folder)
    ngrams = describe_ngrams(args, open_tokenizer(output_dir / "tokenizer"), corpora)

    # 3. train every station, reopen it and describe it
    results, failed = {}, []
    num_workers = args.num_workers or min(os.cpu_count() or 1, 4)
    with ThreadPoolExecutor(num_workers) as pool, tqdm(total=len(names), desc="Lineage", unit="station") as progress:
        order = sorted(names, key=lambda name: SLOWEST.index(name) if name in SLOWEST else len(SLOWEST))
        asked = pool.submit(measure_recall, args) if args.recall_updates and set(names) >= REMEMBERING else None
        running = {pool.submit(train, name, args): name for name in order}
        for finished in as_completed(running):
            name = running[finished]
            try:
                seconds = finished.result()
                results[name] = describe(name, args) | {"seconds": round(seconds)}
                progress.write(f"{name:<12}{seconds:>6.0f} s   {results[name]['result']}")
            except Exception as error:
                progress.write(f"{name}: {error}" if isinstance(error, RuntimeError) else traceback.format_exc())
                failed.append(name)
            progress.update()
        try:
            recall = asked and asked.result()
        except RuntimeError as error:
            progress.write(f"long_dependencies: {error}")
            recall = None
            failed.append("long_dependencies")

    # 4. the page
    write_json(
        output_dir / "results.json", {name: results[name] for name in names if name in results} | {"ngrams": ngrams}
    )
    training = {
        "stations": [
            (
                *name_and_idea(STATIONS[name]),
                results[name]["seconds"] if name in results else None,
                results[name]["result"] if name in results else f"failed: see logs/{name}.log",
            )
            for name in names
        ],
        "tables": tables_of(results, ngrams),
        "curves": [
            {"name": STATION_NAMES[name], "train": [row[:2] for row in results[name]["train_curve"]]}
            for name in CAUSAL
            if name in results
        ],
        "samples": samples_of(results),
    }
    note = (
        f"These are {len(results)} small models. Those that write read the same {args.tokens:,} tokens of "
        f"{args.corpus or 'English Wikipedia (the default corpus)'}."
    )
    report = output_dir / "report.html"
    models = open_models([output_dir / name for name in names if name in results])
    gaps = {model.name: sense_gaps(model) for model in models if model.config.model_type in CONTEXTUAL}
    note = f"{note} {not_shown(results, ngrams, gaps)}".strip()
    given = Given(corpus=corpora["train"]["text"], corpus_tokens=args.tokens, recall=recall, training=training)
    write_lab(report, models, given, note=note)
    print(last_lines(report, f"{len(results)} of {len(names)} stations trained", page_command(report)))
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    run(main)
