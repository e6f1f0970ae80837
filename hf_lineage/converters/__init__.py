"""Reads and writes the file formats of other programs; reading checks everything and runs no code in the files.

`from_x` gives our model (tokenizer, vectors), `to_x` theirs. `WordVectors.load` and `save` (`hf_lineage.word_vectors`)
read and write vectors in the formats of word2vec, GloVe and fastText.
"""

import warnings
from typing import TYPE_CHECKING

from hf_lineage.converters.awd_lstm_lm import from_awd_lstm_lm, to_awd_lstm_lm
from hf_lineage.converters.elmo_format import from_elmo, from_elmo_token_vectors, to_elmo
from hf_lineage.converters.fairseq import from_fairseq, to_fairseq
from hf_lineage.converters.gensim import from_gensim, to_gensim
from hf_lineage.converters.marian import from_marian, to_marian
from hf_lineage.converters.openai_gpt import from_openai_bpe, from_openai_gpt, to_openai_gpt
from hf_lineage.converters.recurrent_nmt import from_joeynmt, from_opennmt, to_joeynmt, to_opennmt
from hf_lineage.converters.static_embeddings import from_static_embeddings, to_static_embeddings
from hf_lineage.converters.torch_recurrent import from_torch, to_torch
from hf_lineage.word_vectors import WordVectors


__all__ = [
    "from_awd_lstm_lm",
    "from_elmo",
    "from_elmo_token_vectors",
    "from_fairseq",
    "from_gensim",
    "from_joeynmt",
    "from_marian",
    "from_openai_bpe",
    "from_openai_gpt",
    "from_opennmt",
    "from_static_embeddings",
    "from_torch",
    "to_awd_lstm_lm",
    "to_elmo",
    "to_fairseq",
    "to_gensim",
    "to_joeynmt",
    "to_marian",
    "to_openai_gpt",
    "to_opennmt",
    "to_static_embeddings",
    "to_torch",
]

# old name -> present name
RENAMED = {
    "read_elmo": ("from_elmo", from_elmo),
    "read_openai_bpe": ("from_openai_bpe", from_openai_bpe),
    "read_openai_gpt": ("from_openai_gpt", from_openai_gpt),
    "read_token_vectors": ("from_elmo_token_vectors", from_elmo_token_vectors),
    "read_word_vectors": ("WordVectors.load", WordVectors.load),
    "write_elmo": ("to_elmo", to_elmo),
    "write_word_vectors": ("WordVectors.save", lambda path, vectors, format=None: vectors.save(path, format)),
}


if not TYPE_CHECKING:
    # hidden from type checkers: it would tell them that every name exists
    def __getattr__(name: str):
        if name not in RENAMED:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name)
        new_name, function = RENAMED[name]
        warnings.warn(f"{__name__}.{name} has been renamed to {new_name}", DeprecationWarning, stacklevel=2)
        return function
