"""Foreign file formats, read strictly and without running anything they hold, and written back."""

from .elmo_format import read_elmo, read_token_vectors, write_elmo
from .fairseq import from_fairseq, to_fairseq
from .marian import from_marian, to_marian
from .openai_gpt import read_openai_bpe, read_openai_gpt, to_openai_gpt
from .word2vec_format import from_gensim, read_word_vectors, to_gensim, write_word_vectors


__all__ = [
    "from_fairseq",
    "from_gensim",
    "from_marian",
    "read_elmo",
    "read_openai_bpe",
    "read_openai_gpt",
    "read_token_vectors",
    "read_word_vectors",
    "to_fairseq",
    "to_gensim",
    "to_marian",
    "to_openai_gpt",
    "write_elmo",
    "write_word_vectors",
]
