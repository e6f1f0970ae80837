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
from hf_lineage.reports.lineage_report import language_models_section, words_in_context_section, write_lineage_report
from hf_lineage.reports.pages import html_table
from hf_lineage.reports.word_vectors_report import known_groups, word_vectors_section


__all__ = [
    "AttentionMap",
    "alignment_table",
    "attention_section",
    "bleu_by_length",
    "html_table",
    "known_groups",
    "language_models_section",
    "plot_alignment",
    "plot_bleu_by_length",
    "plot_learning_curves",
    "record_attention",
    "word_vectors_section",
    "words_in_context_section",
    "write_alignment_report",
    "write_attention_report",
    "write_lineage_report",
]
