"""Reports that open offline: one HTML file with its plots inside."""

from .lineage_report import write_lineage_report


__all__ = ["write_lineage_report"]
