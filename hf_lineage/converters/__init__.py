"""Foreign file formats, read strictly and without running anything they hold, and written back."""

from .fairseq import from_fairseq, to_fairseq
from .marian import from_marian, to_marian
from .word2vec_format import from_gensim, read_word_vectors, to_gensim, write_word_vectors


__all__ = [
    "from_fairseq",
    "from_gensim",
    "from_marian",
    "read_word_vectors",
    "to_fairseq",
    "to_gensim",
    "to_marian",
    "write_word_vectors",
]
