"""How every report reaches the disk."""

import os
from pathlib import Path


def write_page(path: Path, page: str):
    """Writes `page` to `path` in one piece: a run that is killed leaves an older report whole."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(page, encoding="utf-8")
    os.replace(temporary, path)
