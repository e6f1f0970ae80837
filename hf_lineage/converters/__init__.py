"""Foreign file formats, read strictly and without running anything they hold, and written back."""

from .word2vec_format import from_gensim, read_word_vectors, to_gensim, write_word_vectors


__all__ = ["from_gensim", "read_word_vectors", "to_gensim", "write_word_vectors"]
