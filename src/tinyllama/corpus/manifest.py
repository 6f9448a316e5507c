"""A corpus on disk: its manifest, written last, and what it vouches for."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tinyllama.corpus.rows import Rows
from tinyllama.corpus.shards import TokenStream
from tinyllama.errors import CorpusError
from tinyllama.files import sha256_file, sha256_json

if TYPE_CHECKING:
    from pathlib import Path

MANIFEST = "manifest.json"
FORMAT = 1
SPLITS = TRAIN, HELD_OUT = "train", "held_out"


@dataclass(frozen=True)
class PreparedCorpus:
    """A complete corpus: folder and manifest."""

    folder: Path
    manifest: dict[str, Any]

    @property
    def name(self) -> str:
        """The corpus's name in the recipe."""
        return str(self.manifest["corpus"])

    @property
    def sha256(self) -> str:
        """Identity of the corpus: the hash of its manifest, which holds the hashes of all its files."""
        return sha256_json(self.manifest)

    def tokens(self, split: str) -> int:
        """Tokens in a split (`train` or `held_out`)."""
        return int(self.manifest["splits"][split]["tokens"])

    def text_bytes(self, split: str) -> int:
        """UTF-8 bytes of a split's text."""
        return int(self.manifest["splits"][split]["bytes"])

    def rows(self, split: str, context: int) -> Rows:
        """The rows of a split.

        Raises:
            CorpusError: the split is shorter than a row.
        """
        return Rows(self.stream(split), context, f"corpus {self.name} ({split})")

    def stream(self, split: str) -> TokenStream:
        """The tokens of a split, one document after another."""
        shards = self.manifest["splits"][split]["shards"]
        return TokenStream(
            [self.folder / shard["file"] for shard in shards],
            [shard["tokens"] for shard in shards],
            np.dtype(self.manifest["dtype"]),
        )


def is_prepared(folder: Path) -> bool:
    """Whether a complete corpus is in a folder: its manifest is written last."""
    return (folder / MANIFEST).is_file()


def open_corpus(folder: Path) -> PreparedCorpus:
    """Open a prepared corpus and check its manifest and the sizes of its files, in no time at any size.

    Raises:
        CorpusError: it is not there, not complete, or a file has another size.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CorpusError(f"{folder}: no complete corpus is here; run `tinyllama prepare`") from None
    except (OSError, ValueError) as error:
        raise CorpusError(f"{path}: the manifest cannot be read ({error}); prepare the corpus again") from error
    if manifest.get("format") != FORMAT:
        raise CorpusError(f"{path}: format {manifest.get('format')}, expected {FORMAT}; prepare the corpus again")
    for name, facts in manifest["files"].items():
        file = folder / name
        size = file.stat().st_size if file.is_file() else None
        if size != facts["bytes"]:
            raise CorpusError(f"{file}: {size} bytes, expected {facts['bytes']}; prepare the corpus again")
    return PreparedCorpus(folder, manifest)


def verify_corpus(corpus: PreparedCorpus) -> None:
    """Check the SHA-256 of every file.

    Raises:
        CorpusError: a file differs from its manifest.
    """
    for name, facts in corpus.manifest["files"].items():
        if sha256_file(corpus.folder / name) != facts["sha256"]:
            raise CorpusError(f"{corpus.folder / name}: its SHA-256 differs from the manifest's; prepare it again")


def file_facts(folder: Path, known: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of every file in a folder, by name; `known` has the SHA-256 of some already."""
    return {
        path.name: {"bytes": path.stat().st_size, "sha256": known.get(path.name) or sha256_file(path)}
        for path in sorted(folder.iterdir())
        if path.is_file()
    }
