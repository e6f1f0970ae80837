"""Train a tokenizer: WordPiece or whole words, the same bytes each time.

    python recipes/train_tokenizer.py --output_dir runs/tokenizer --vocab_size 8000
    python recipes/train_tokenizer.py --output_dir runs/words --kind word_level --corpus my_texts/ \
        --special_tokens '{"unk_token": "<unk>", "eos_token": "<eos>"}'
"""

import json
from dataclasses import dataclass, field

from hf_lineage.arguments import parse
from hf_lineage.data import load_corpus
from hf_lineage.tokenization import train_word_level, train_wordpiece


@dataclass
class TokenizerArguments:
    """What the tokenizer is trained on and how large it gets."""

    output_dir: str = field(metadata={"help": "Folder that AutoTokenizer.from_pretrained opens afterwards."})
    corpus: str | None = field(
        default=None, metadata={"help": "A file, a folder with <split> files, or a Hub name; default: embedded text."}
    )
    text_field: str = field(default="text", metadata={"help": "Field that holds the text in jsonl and parquet."})
    kind: str = field(default="wordpiece", metadata={"help": "The tokens.", "choices": ["wordpiece", "word_level"]})
    vocab_size: int = field(default=30_000, metadata={"help": "Tokens at most, special ones included."})
    min_frequency: int = field(
        default=2, metadata={"help": "Pairs (wordpiece) or words seen less often are left out."}
    )
    limit_alphabet: int = field(default=1_000, metadata={"help": "Characters at most (wordpiece)."})
    lowercase: bool = field(default=True, metadata={"help": "Lower-case the text."})
    special_tokens: dict | str | None = field(
        default=None, metadata={"help": "Special tokens by role (JSON on the command line); default: BERT's five."}
    )
    push_to_hub: str | None = field(default=None, metadata={"help": "Hub name to push the tokenizer to."})

    def __post_init__(self):
        if isinstance(self.special_tokens, str):
            self.special_tokens = json.loads(self.special_tokens)


def main():
    # 1. arguments
    (args,) = parse(TokenizerArguments)

    # 2. text
    corpus = load_corpus(args.corpus, "train", text_field=args.text_field)

    # 3. train
    options = {
        "vocab_size": args.vocab_size,
        "min_frequency": args.min_frequency,
        "lowercase": args.lowercase,
        "special_tokens": args.special_tokens,
    }
    if args.kind == "wordpiece":
        tokenizer = train_wordpiece(corpus["text"], limit_alphabet=args.limit_alphabet, **options)
    else:
        tokenizer = train_word_level(corpus["text"], **options)

    # 4. save
    tokenizer.save_pretrained(args.output_dir)
    print(f"{len(tokenizer)} tokens in {args.output_dir}")
    if args.push_to_hub:
        tokenizer.push_to_hub(args.push_to_hub)


if __name__ == "__main__":
    main()
