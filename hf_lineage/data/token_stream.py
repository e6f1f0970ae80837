"""A corpus as one long stream of tokens."""

from dataclasses import astuple, dataclass

import datasets
import numpy as np
from transformers import PreTrainedTokenizerBase

from hf_lineage.data.cjk import WordCount
from hf_lineage.data.corpus import CorpusTexts
from hf_lineage.data.encoding import TextEncoder
from hf_lineage.data.text_files import CorpusError
from hf_lineage.text_parts import whole_texts


# raise it when encoding changes, so that no stale cache is used
_ENCODING_VERSION = 4


@dataclass(frozen=True, eq=False)
class TokenStream:
    """An encoded corpus, `<eos> d1 <eos> d2 <eos> ... dn <eos>`.

    The stream begins with an end mark, so that each token of the text and each end mark is predicted exactly once:
    `num_predictions` = len(tokens) - 1. Perplexity and bits are divided by these counts, which include the end marks,
    as is usual on the Penn Treebank: `<eos>` is a word, and the end of a line is a character.

    tokens: int32 [N]; document_starts: int64 [documents], first token of each document;
    num_words: words between white space, plus one per document; in a corpus written without blanks
    (`hf_lineage.data.cjk`) each character is a word, for example in Chinese, Thai or Burmese;
    num_characters: characters of the text, plus one per document;
    num_unknown: tokens of the text that are the tokenizer's unknown token.
    """

    tokens: np.ndarray
    document_starts: np.ndarray
    num_words: int
    num_characters: int
    num_unknown: int

    @property
    def num_predictions(self) -> int:
        return len(self.tokens) - 1

    @property
    def eos_token_id(self) -> int:
        return int(self.tokens[0])


def encode_corpus(
    corpus: datasets.Dataset, tokenizer: PreTrainedTokenizerBase, *, num_proc: int | None = None
) -> TokenStream:
    """Tokenizes the column "text" of `corpus`, one document per row, in `num_proc` processes; cached by datasets.

    A document may have several rows, as in `load_corpus` with `longest`; the result is the same.

    Raises CorpusError for a corpus without text and for a row that is not text, ValueError for a tokenizer without
    an end mark.
    """
    eos_token_id = end_mark(tokenizer)
    if len(corpus) == 0:
        raise CorpusError("the corpus has no documents")
    encode = TextEncoder(tokenizer)
    if "continues" in corpus.column_names and not encode.by_chunk:
        # such a tokenizer may look across the bounds of the rows
        corpus = datasets.Dataset.from_generator(_whole_rows, gen_kwargs={"corpus": corpus})
    encoded = corpus.map(
        _encode_batch,
        batched=True,
        with_indices=True,
        fn_kwargs={"encode": encode, "eos_token_id": eos_token_id, "version": _ENCODING_VERSION},
        remove_columns=corpus.column_names,
        features=datasets.Features(
            tokens=datasets.List(datasets.Value("int32")),
            words=datasets.List(datasets.Value("int64"), 3),
            num_characters=datasets.Value("int64"),
            ends=datasets.Value("bool"),
        ),
        num_proc=num_proc,
        desc="Tokenizing",
    )
    columns = encoded.with_format("arrow")[:]
    documents = columns["tokens"].chunks
    lengths = np.concatenate([chunk.value_lengths().to_numpy() for chunk in documents])
    begins = np.append(True, columns["ends"].to_numpy()[:-1])
    words = np.concatenate([chunk.flatten().to_numpy() for chunk in columns["words"].chunks])
    first = np.array([eos_token_id], np.int32)
    tokens = np.concatenate([first, *(chunk.flatten().to_numpy() for chunk in documents)])
    if len(tokens) == 1 + begins.sum():
        raise CorpusError(f"the corpus has no text: all of its {len(lengths)} documents are empty")
    return TokenStream(
        tokens=tokens,
        document_starts=(1 + np.cumsum(lengths, dtype=np.int64) - lengths)[begins],
        num_words=WordCount(*map(int, words.reshape(-1, 3).sum(0))).words + int(begins.sum()),
        num_characters=int(columns["num_characters"].to_numpy().sum()),
        num_unknown=int(np.count_nonzero(tokens == tokenizer.unk_token_id)),
    )


def end_mark(tokenizer):
    if tokenizer.eos_token_id is None:
        raise ValueError(
            "the tokenizer has no eos_token, which marks the end of a document: train it with one "
            '(special_tokens={"eos_token": "<eos>", ...}) or name one of its tokens (tokenizer.eos_token = "[SEP]").'
        )
    return tokenizer.eos_token_id


def _encode_batch(batch, indices, encode, eos_token_id, version):
    """Columns of the encoded corpus; the version only tells the entries of the cache apart."""
    texts = batch["text"]
    for index, text in zip(indices, texts, strict=True):
        check_row_text(index, text)
    ends = [not goes_on for goes_on in batch["continues"]] if "continues" in batch else [True] * len(texts)
    return {
        "tokens": [
            np.append(ids, np.int32(eos_token_id)) if is_end else ids
            for ids, is_end in zip(encode(texts), ends, strict=True)
        ],
        "words": [astuple(WordCount.of(text)) for text in texts],
        # an end mark counts as a character
        "num_characters": [len(text) + is_end for text, is_end in zip(texts, ends, strict=True)],
        "ends": ends,
    }


def _whole_rows(corpus):
    for text in whole_texts(CorpusTexts(corpus)):
        yield {"text": text}


def check_row_text(row, text):
    if not isinstance(text, str):
        raise CorpusError(f"row {row} of the corpus is {text!r} ({type(text).__name__}), not text")
