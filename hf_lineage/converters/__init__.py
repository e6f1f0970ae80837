"""Foreign file formats, read strictly and without running anything they hold, and written back."""

from .awd_lstm_lm import from_awd_lstm_lm, to_awd_lstm_lm
from .elmo_format import read_elmo, read_token_vectors, write_elmo
from .fairseq import from_fairseq, to_fairseq
from .marian import from_marian, to_marian
from .openai_gpt import read_openai_bpe, read_openai_gpt, to_openai_gpt
from .recurrent_nmt import from_joeynmt, from_opennmt, to_joeynmt, to_opennmt
from .torch_recurrent import from_torch, to_torch
from .word2vec_format import from_gensim, read_word_vectors, to_gensim, write_word_vectors


__all__ = [
    "from_awd_lstm_lm",
    "from_fairseq",
    "from_gensim",
    "from_joeynmt",
    "from_marian",
    "from_opennmt",
    "from_torch",
    "read_elmo",
    "read_openai_bpe",
    "read_openai_gpt",
    "read_token_vectors",
    "read_word_vectors",
    "to_awd_lstm_lm",
    "to_fairseq",
    "to_gensim",
    "to_joeynmt",
    "to_marian",
    "to_openai_gpt",
    "to_opennmt",
    "to_torch",
    "write_elmo",
    "write_word_vectors",
]
