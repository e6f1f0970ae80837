"""Foreign file formats, read strictly and without running anything they hold, and written back."""

from .elmo_format import read_elmo, read_token_vectors, write_elmo
from .word2vec_format import from_gensim, read_word_vectors, to_gensim, write_word_vectors


__all__ = [
    "from_gensim",
    "read_elmo",
    "read_token_vectors",
    "read_word_vectors",
    "to_gensim",
    "write_elmo",
    "write_word_vectors",
]
