"""What a corpus's keys need: packages of the extra `quality`."""

from __future__ import annotations

from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING

from tinyllama.errors import UserError
from tinyllama.installation import install_hint

if TYPE_CHECKING:
    from tinyllama.recipe import Corpus


def selects(corpus: Corpus) -> bool:
    """Whether keys of a corpus select or change documents by their text."""
    return bool(corpus.filters or corpus.pii or corpus.decontaminate or corpus.deduplicate)


def needed_packages(corpus: Corpus) -> dict[str, str]:
    """Package → the first key of the corpus that needs it."""
    filters, copies = corpus.filters, corpus.deduplicate
    needed = [
        ("py3langid", "filters.languages", filters is not None and bool(filters.languages)),
        ("py3langid", "filters.where", filters is not None and filters.identifies_languages),
        ("datatrove", "filters.rules", filters is not None and bool(filters.rules)),
        ("regex", "filters.rules", filters is not None and bool(filters.rules)),
        ("datatrove", "pii", corpus.pii is not None),
        ("rensa", "deduplicate", copies is not None and copies.method == "minhash"),
    ]
    found: dict[str, str] = {}
    for package, key, is_needed in needed:
        if is_needed:
            found.setdefault(package, key)
    return found


def missing_packages(corpus: Corpus) -> dict[str, str]:
    """The packages of `needed_packages` that are not installed."""
    return {package: key for package, key in needed_packages(corpus).items() if find_spec(package) is None}


def package_versions(corpus: Corpus) -> dict[str, str]:
    """Package → its version, of those that decide the corpus's content."""
    needed = sorted(needed_packages(corpus))
    return {package: version(package) if find_spec(package) else "not installed" for package in needed}


def refuse_missing_packages(corpus: Corpus, name: str) -> None:
    """Check that the packages are installed that the corpus's keys need.

    Raises:
        UserError: some are not; the message names them and the keys.
    """
    if missing := missing_packages(corpus):
        needed = ", ".join(f"{key} needs {package}" for package, key in missing.items())
        raise UserError(f"corpora.{name}: {needed}, which the extra quality installs: {install_hint('quality')}")
