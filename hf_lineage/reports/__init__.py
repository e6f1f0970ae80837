"""Reports that open offline: one HTML file with its plots inside."""

from .alignment_report import plot_alignment, write_alignment_report
from .attention import record_attention, write_attention_report
from .bleu_by_length import bleu_by_length, plot_bleu_by_length
from .lineage_report import write_lineage_report
from .word_vectors_report import known_groups, word_vectors_section


__all__ = [
    "bleu_by_length",
    "known_groups",
    "plot_alignment",
    "plot_bleu_by_length",
    "record_attention",
    "word_vectors_section",
    "write_alignment_report",
    "write_attention_report",
    "write_lineage_report",
]
