"""The numbers of a run, each on disk as soon as it is measured."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hf_lineage.files import write_json


class Results(dict):
    """A dictionary that writes itself to `path`, as JSON and in one piece, whenever an entry is set.

    With `is_writer=False` it writes nothing; set this in all processes except one.

        results = Results(output_dir / "results.json", model_type="lineage_gpt")
        with results.kept_on_error():
            results["validation"] = measure(...)
            results["test"] = measure(...)

    Raises:
        OSError: the file cannot be written.
    """

    def __init__(self, path: str | Path, *, is_writer: bool = True, **entries):
        super().__init__(entries)
        self.path = Path(path)
        self.is_writer = is_writer
        # an older file stays until there is a first result
        if entries:
            self._write()

    def __setitem__(self, name: str, value):
        super().__setitem__(name, value)
        self._write()

    def _write(self):
        if self.is_writer:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_json(self.path, self)

    @contextmanager
    def kept_on_error(self) -> Iterator[None]:
        """Adds a note to an error within the block: which results have been measured, where they and the model are."""
        try:
            yield
        except Exception as error:
            kept = f"Kept from before this error: {', '.join(self) or 'nothing yet'} in {self.path}"
            if (self.path.parent / "config.json").is_file():
                kept += f"; the model in {self.path.parent}"
            error.add_note(kept)
            raise
