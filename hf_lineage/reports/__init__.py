"""Reports that open offline: one HTML file with its plots inside."""

from .attention import record_attention, write_attention_report
from .lineage_report import write_lineage_report


__all__ = ["record_attention", "write_attention_report", "write_lineage_report"]
