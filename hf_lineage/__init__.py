"""hf_lineage: the lineage of neural language models, each a Hugging Face model.

Importing the package registers every station with the Auto classes of transformers, and our tasks with `pipeline`. The
sub-packages are imported on first use: `hf_lineage.data`, `hf_lineage.training`, …
"""

from importlib import import_module
from typing import TYPE_CHECKING

from hf_lineage import models, moved, tasks
from hf_lineage.hub import fetching
from hf_lineage.models import *  # noqa: F403  the stations, written out in hf_lineage/models/__init__.py


__version__ = "0.1.0"
__all__ = ["__version__"]
__all__ += models.__all__

ON_DEMAND = (
    "arguments",
    "converters",
    "data",
    "hub",
    "inference",
    "lab",
    "metrics",
    "pipelines",
    "reports",
    "scale",
    "tokenization",
    "training",
    "word_vectors",
)

if TYPE_CHECKING:
    from hf_lineage import arguments as arguments
    from hf_lineage import converters as converters
    from hf_lineage import data as data
    from hf_lineage import hub as hub
    from hf_lineage import inference as inference
    from hf_lineage import lab as lab
    from hf_lineage import metrics as metrics
    from hf_lineage import pipelines as pipelines
    from hf_lineage import reports as reports
    from hf_lineage import scale as scale
    from hf_lineage import tokenization as tokenization
    from hf_lineage import training as training
    from hf_lineage import word_vectors as word_vectors
else:
    # hidden from type checkers: it would tell them that every name exists
    def __getattr__(name: str):
        if name in ON_DEMAND:
            return import_module(f"{__name__}.{name}")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name)


def __dir__() -> list[str]:
    return sorted([*__all__, "models", *ON_DEMAND])


def _write_card(model, folder, name: str):
    # not needed before a model is saved
    import_module(f"{__name__}.hub.model_card").write_card_of_saved(model, folder, name)


models.configuration_lineage.LineageConfig.package_version = __version__
models.configuration_lineage.LineageConfig.reaching = staticmethod(fetching.naming_the_model)
models.saved_models.LineagePreTrainedModel.write_card = _write_card  # type: ignore[method-assign, assignment]
moved.register()
tasks.register()
