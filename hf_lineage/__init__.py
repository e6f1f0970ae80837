"""hf_lineage: the lineage of neural language models, each a Hugging Face model.

Importing the package registers every station with the Auto classes of transformers, and our tasks with `pipeline`.
"""

from . import (
    moved,
    pipelines,  # noqa: F401 - registers the tasks
)
from .models import *  # noqa: F403 - the stations' public names are listed in models.__all__
from .models import __all__ as _stations


__version__ = "0.1.0"
__all__ = ["__version__", *_stations]

moved.register()
