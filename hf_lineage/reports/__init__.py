"""Reports that open offline: one HTML file each, with its plots inside."""

from hf_lineage.reports.alignment_report import alignment_table, plot_alignment, write_alignment_report
from hf_lineage.reports.attention_report import (
    AttentionMap,
    attention_section,
    record_attention,
    write_attention_report,
)
from hf_lineage.reports.bleu_by_length import bleu_by_length, plot_bleu_by_length
from hf_lineage.reports.learning_curves import plot_learning_curves


__all__ = [
    "AttentionMap",
    "alignment_table",
    "attention_section",
    "bleu_by_length",
    "plot_alignment",
    "plot_bleu_by_length",
    "plot_learning_curves",
    "record_attention",
    "write_alignment_report",
    "write_attention_report",
]
