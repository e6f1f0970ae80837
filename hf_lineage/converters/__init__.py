"""Foreign file formats, read strictly and without running anything they hold, and written back."""

from hf_lineage.converters.awd_lstm_lm import from_awd_lstm_lm, to_awd_lstm_lm
from hf_lineage.converters.elmo_format import read_elmo, read_token_vectors, write_elmo
from hf_lineage.converters.fairseq import from_fairseq, to_fairseq
from hf_lineage.converters.gensim import from_gensim, to_gensim
from hf_lineage.converters.marian import from_marian, to_marian
from hf_lineage.converters.openai_gpt import read_openai_bpe, read_openai_gpt, to_openai_gpt
from hf_lineage.converters.recurrent_nmt import from_joeynmt, from_opennmt, to_joeynmt, to_opennmt
from hf_lineage.converters.torch_recurrent import from_torch, to_torch
from hf_lineage.word_vectors.vectors import read_word_vectors, write_word_vectors


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
