"""The lineage lab: one offline page that shows what trained models do, station by station."""

from hf_lineage.lab.opened import LabModel, open_models, short_name
from hf_lineage.lab.page import lab_data, page_of, write_lab
from hf_lineage.lab.view import Given


__all__ = ["Given", "LabModel", "lab_data", "open_models", "page_of", "short_name", "write_lab"]
