"""Metrics that make models of different kinds and vocabularies comparable."""

from .perplexity import Perplexity, measure_perplexity


__all__ = ["Perplexity", "measure_perplexity"]
