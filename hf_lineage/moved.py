"""Old names of modules: `import hf_lineage.generation` still gives `hf_lineage.inference.fast_decoding`."""

import sys
import warnings
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


MOVED = {
    "hf_lineage.alignments": "hf_lineage.inference.generated_alignment",
    "hf_lineage.analogy_scores": "hf_lineage.models.analogy_scores",
    "hf_lineage.answer_spans": "hf_lineage.models.answer_spans",
    "hf_lineage.cjk": "hf_lineage.data.cjk",
    "hf_lineage.converters.word2vec_format": "hf_lineage.converters",
    "hf_lineage.data.parallel": "hf_lineage.data.parallel_corpus",
    "hf_lineage.data.phrases": "hf_lineage.word_vectors.phrases",
    "hf_lineage.data.translation": "hf_lineage.data.translation_pairs",
    "hf_lineage.embedding": "hf_lineage.inference.text_vectors",
    "hf_lineage.forced_alignment": "hf_lineage.inference.given_alignment",
    "hf_lineage.generation": "hf_lineage.inference.fast_decoding",
    "hf_lineage.metrics.classification": "hf_lineage.metrics.class_scores",
    "hf_lineage.models.attention": "hf_lineage.models.transformer_layers",
    "hf_lineage.models.bert_layers": "hf_lineage.models.modeling_bert",
    "hf_lineage.models.cache_name": "hf_lineage.models.cache_argument",
    "hf_lineage.models.classification_loss": "hf_lineage.models.classification",
    "hf_lineage.models.conditional_random_field": "hf_lineage.models.token_labels",
    "hf_lineage.models.cross_entropy": "hf_lineage.models.fast_cross_entropy",
    "hf_lineage.models.elmo_crf": "hf_lineage.models.token_labels",
    "hf_lineage.models.fast_attention": "hf_lineage.models.fast_rnnsearch",
    "hf_lineage.models.fast_kernels": "hf_lineage.models.fast_recurrence",
    "hf_lineage.models.fast_paths": "hf_lineage.models.inputs",
    "hf_lineage.models.id_checks": "hf_lineage.models.inputs",
    "hf_lineage.models.paged_cache": "hf_lineage.models.cache_argument",
    "hf_lineage.models.recurrence": "hf_lineage.models.fast_recurrence",
    "hf_lineage.models.segments": "hf_lineage.models.packed_texts",
    "hf_lineage.ngrams": "hf_lineage.metrics.ngrams",
    "hf_lineage.reports.attention": "hf_lineage.reports.attention_report",
    "hf_lineage.stations": "hf_lineage.models",
    "hf_lineage.training.arguments": "hf_lineage.training.training_arguments",
    "hf_lineage.training.bert_pretraining": "hf_lineage.training.bert_pretraining_trainer",
    "hf_lineage.training.model_card": "hf_lineage.hub.model_card",
    "hf_lineage.training.translation": "hf_lineage.training.translation_trainer",
    "hf_lineage.word_counts": "hf_lineage.tokenization.word_counts",
    "hf_lineage.words_in_context": "hf_lineage.inference.words_in_context",
}


class MovedModules(MetaPathFinder, Loader):
    """Gives an old name the new module itself, with a DeprecationWarning that names it."""

    def find_spec(self, fullname, path=None, target=None) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if fullname in MOVED else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        new_name = MOVED[spec.name]
        # level 2 is the importing line, since warnings do not count frames of the import machinery
        warnings.warn(f"{spec.name} has moved to {new_name}", DeprecationWarning, stacklevel=2)
        module = import_module(new_name)
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType):
        """Does nothing: the module has run under its new name, and keeps it."""
        spec = module.__spec__
        module.__spec__ = spec and spec.loader_state


def register():
    """Makes the old names importable."""
    sys.meta_path.append(MovedModules())
