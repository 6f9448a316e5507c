"""Text and code for tests: modules of the standard library, in two folders."""

from __future__ import annotations

import shutil
import sysconfig
from pathlib import Path

_TEXT = ("asyncio", "email", "http", "xml", "wsgiref", "urllib", "dbm")
_CODE = ("unittest", "json", "logging", "importlib", "collections", "multiprocessing")


def copy_library(folder: Path) -> None:
    """Copy modules to `text` and `code` below a folder: about 1.4 and 1.2 MB."""
    library = Path(sysconfig.get_path("stdlib"))
    for name, packages in (("text", _TEXT), ("code", _CODE)):
        (folder / name).mkdir()
        for package in packages:
            for path in (library / package).rglob("*.py"):
                target = "-".join(path.relative_to(library).parts)
                shutil.copy(path, folder / name / target)
