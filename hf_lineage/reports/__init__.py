"""Reports that open offline: one HTML file with its plots inside."""

from .lineage_report import write_lineage_report
from .word_vectors_report import known_groups, word_vectors_section


__all__ = ["known_groups", "word_vectors_section", "write_lineage_report"]
