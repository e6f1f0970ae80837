"""Foreign file formats, read strictly and without running anything they hold, and written back."""

from .awd_lstm_lm import from_awd_lstm_lm, to_awd_lstm_lm
from .torch_recurrent import from_torch, to_torch
from .word2vec_format import from_gensim, read_word_vectors, to_gensim, write_word_vectors


__all__ = [
    "from_awd_lstm_lm",
    "from_gensim",
    "from_torch",
    "read_word_vectors",
    "to_awd_lstm_lm",
    "to_gensim",
    "to_torch",
    "write_word_vectors",
]
