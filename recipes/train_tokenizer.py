r"""Train a tokenizer of word pieces, byte pairs, whole words or characters; equal text gives equal bytes.

    python recipes/train_tokenizer.py --output_dir runs/tokenizer --vocab_size 8000
    python recipes/train_tokenizer.py --output_dir runs/words --kind word_level --corpus my_texts/ \
        --special_tokens '{"unk_token": "<unk>", "eos_token": "<eos>"}'
    python recipes/train_tokenizer.py --output_dir runs/tokenizer --word_counts runs/counts/counts.parquet

The last trains on words that `python -m hf_lineage scale words` counted.
"""

from dataclasses import dataclass, field
from operator import itemgetter
from typing import Literal

from hf_lineage.arguments import parse, run
from hf_lineage.data import WordSegmentation, load_splits, segment_words, segmentation_of
from hf_lineage.models.replaced_files import replaced_together
from hf_lineage.text_parts import LONGEST
from hf_lineage.tokenization import TRAINERS, PrunedCounts
from hf_lineage.training import last_lines, prepare_output_dir


@dataclass
class TokenizerArguments:
    """Which text, and how large a tokenizer."""

    output_dir: str = field(metadata={"help": "Folder of the tokenizer; AutoTokenizer.from_pretrained opens it."})
    corpus: str | None = field(
        default=None,
        metadata={"help": "A file, a folder (<split> files or any texts), or a Hub name; default: Wikipedia text."},
    )
    word_counts: str | None = field(
        default=None,
        metadata={
            "help": "Instead of corpus: counts.parquet of `hf_lineage scale words`, made with the same settings."
        },
    )
    text_field: str = field(default="text", metadata={"help": "Field with the text in jsonl, csv and parquet."})
    validation_share: float = field(
        default=0.05, metadata={"help": "Share of the documents for each held-out split that the corpus lacks."}
    )
    word_segmentation: WordSegmentation = field(
        default="auto",
        metadata={"help": "Words of text without blanks, for kind word_level: by rjieba (extra zh) or characters."},
    )
    kind: Literal["wordpiece", "byte_pairs", "word_level", "character"] = field(
        default="wordpiece", metadata={"help": "Word pieces, byte pairs (decode exactly), words or characters."}
    )
    vocab_size: int | None = field(
        default=None,
        metadata={"help": "Largest number of tokens, special ones included; default: 30,000 (pieces) or all."},
    )
    min_frequency: int | None = field(
        default=None,
        metadata={"help": "Leave out pairs of pieces (default 2), words or characters (1) that occur less often."},
    )
    limit_alphabet: int | None = field(
        default=None,
        metadata={"help": "Largest number of characters (wordpiece); default: as many as the text needs."},
    )
    lowercase: bool | None = field(
        default=None, metadata={"help": "Lower-case the text; default: true for wordpiece only."}
    )
    special_tokens: dict | None = field(
        default=None, metadata={"help": "Special tokens by role (JSON on the command line); default: BERT's five."}
    )
    overwrite_output_dir: bool = field(default=False, metadata={"help": "Replace the tokenizer that is there."})
    push_to_hub: str | None = field(default=None, metadata={"help": "Hub name to push the tokenizer to."})


ARGUMENTS = (TokenizerArguments,)


def main():
    # 1. arguments
    (args,) = parse(*ARGUMENTS, description=__doc__)
    if args.kind != "wordpiece" and args.limit_alphabet is not None:
        raise ValueError(f"limit_alphabet is for kind wordpiece, not {args.kind}: limit vocab_size")

    if args.word_counts and (args.corpus or args.kind == "character"):
        raise ValueError("word_counts stands in place of corpus, and is for kinds other than character")
    counts = PrunedCounts.load(args.word_counts) if args.word_counts else None
    output_dir = prepare_output_dir(args.output_dir, args.overwrite_output_dir)

    # 2. text
    way = "none"
    if counts is not None:
        texts, text = counts, max(counts.items(), key=itemgetter(1))[0]
    else:
        options = {"text_field": args.text_field, "validation_share": args.validation_share, "longest": LONGEST}
        corpora = load_splits(args.corpus, **options)
        if args.kind == "word_level":
            way = segmentation_of(corpora, args.word_segmentation)
            corpora = segment_words(corpora, way)
        texts, text = corpora["train"]["text"], corpora["test"][0]["text"][:40]

    # 3. train: what was not given stays as the trainer of that kind has it
    names = ["vocab_size", "min_frequency", "limit_alphabet", "lowercase", "special_tokens"]
    options = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    if way == "characters":
        options["split_characters"] = True
    train = TRAINERS[args.kind]
    tokenizer = train(texts, **options)

    # 4. save
    with replaced_together(output_dir) as folder:
        tokenizer.save_pretrained(folder)
    code = "from transformers import AutoTokenizer; "
    code += f"print(AutoTokenizer.from_pretrained({str(output_dir)!r}).tokenize({text!r}))"
    print(last_lines(output_dir, f"{len(tokenizer)} tokens", ["python", "-c", code]))
    if args.push_to_hub:
        tokenizer.push_to_hub(args.push_to_hub)


if __name__ == "__main__":
    run(main)
