"""From and to gensim's KeyedVectors."""

from hf_lineage.word_vectors import WordVectors


def to_gensim(vectors: WordVectors):
    """The vectors as `gensim.models.KeyedVectors`, a copy."""
    from gensim.models import KeyedVectors

    keyed = KeyedVectors(vectors.vectors.shape[1])
    keyed.add_vectors(vectors.words, vectors.vectors)
    return keyed


def from_gensim(keyed_vectors) -> WordVectors:
    """The vectors of a `gensim.models.KeyedVectors` object (`model.wv`), which shares its array with the result."""
    return WordVectors(keyed_vectors.index_to_key, keyed_vectors.vectors)
