"""Registers our tasks when `transformers.pipeline` is imported, not before: that import loads image and sound code."""

import sys
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder


class PipelineTasks(MetaPathFinder):
    """Imports `hf_lineage.pipelines`, which registers the tasks, right after `transformers.pipelines`."""

    def find_spec(self, fullname, path=None, target=None) -> ModuleSpec | None:
        if fullname != "transformers.pipelines":
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(fullname, path)
        if spec is None or spec.loader is None:
            return spec
        run = spec.loader.exec_module

        def run_both(module):
            run(module)
            import_module("hf_lineage.pipelines")

        # changes the loader of this spec only; no other module has it
        spec.loader.exec_module = run_both  # type: ignore[method-assign]
        return spec


def register():
    """Registers the tasks now if `transformers.pipelines` is imported already, otherwise when it is imported."""
    if "transformers.pipelines" in sys.modules:
        import_module("hf_lineage.pipelines")
    else:
        sys.meta_path.insert(0, PipelineTasks())
