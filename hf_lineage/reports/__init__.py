"""Reports that open offline: one HTML file with its plots inside."""

from .alignment_report import plot_alignment, write_alignment_report
from .lineage_report import write_lineage_report


__all__ = ["plot_alignment", "write_alignment_report", "write_lineage_report"]
