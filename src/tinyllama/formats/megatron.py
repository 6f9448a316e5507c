"""Prepared corpora as the indexed datasets that Megatron-LM trains on."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import numpy as np

from tinyllama.corpus.index import index_file
from tinyllama.corpus.manifest import SPLITS
from tinyllama.errors import CorpusError
from tinyllama.folders import FolderKind, replaced_folder
from tinyllama.sources.token_files import MEGATRON_CODES, MEGATRON_HEADER, MEGATRON_VERSION

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from tinyllama.corpus.manifest import PreparedCorpus

_DATASETS = FolderKind("indexed datasets", ("*.bin", "*.idx"), lambda _folder: False, alone=True)
_TOKENS = 1 << 22
"""Copied at a time."""


def write_megatron(corpus: PreparedCorpus, folder: Path) -> list[Path]:
    """Write `<split>.bin` and `<split>.idx` for every split that has documents; the folder is complete or not there.

    A document is one sequence, with BOS and EOS as in the corpus. Ids have 16 or 32 bits, as in the corpus.

    Args:
        corpus: to write.
        folder: the new folder.

    Returns:
        the prefixes of the datasets, as Megatron's `--data-path` takes them.

    Raises:
        CorpusError: the folder is there already, or a shard cannot be read.
    """
    if folder.exists():
        raise CorpusError(f"{folder} is there already; delete it or name another folder")
    splits = [split for split in SPLITS if corpus.manifest.splits[split].documents]
    with replaced_folder(folder, _DATASETS, CorpusError) as partial:
        for split in splits:
            dtype = np.dtype("<u2") if np.dtype(corpus.manifest.dtype).itemsize == 2 else np.dtype("<i4")
            _write_index(partial / f"{split}.idx", _lengths(corpus, split), dtype)
            stream = corpus.stream(split)
            with (partial / f"{split}.bin").open("wb") as file:
                for start in range(0, stream.tokens, _TOKENS):
                    ids = stream.read(start, min(_TOKENS, stream.tokens - start))
                    file.write(ids.astype(dtype).data)
    return [folder / split for split in splits]


def _lengths(corpus: PreparedCorpus, split: str) -> NDArray[np.int32]:
    """Tokens of each document."""
    from pyarrow import parquet

    with (corpus.folder / index_file(split)).open("rb") as file:
        table = parquet.read_table(file, columns=["tokens"])
    found: NDArray[np.int64] = table["tokens"].to_numpy()
    if len(found) and found.max() > np.iinfo(np.int32).max:
        raise CorpusError(
            f"{corpus.folder}: a document has {found.max()} tokens, and Megatron's index takes 2^31 - 1; set `cut` in "
            "the corpus's section and prepare it again"
        )
    return found.astype(np.int32)


def _write_index(path: Path, lengths: NDArray[np.int32], dtype: np.dtype[Any]) -> None:
    """Header; then of each sequence its length and offset in bytes; then the sequences at which documents begin."""
    code = next(code for code, name in MEGATRON_CODES.items() if np.dtype(name) == dtype)
    offsets = np.cumsum(lengths, dtype=np.int64) * dtype.itemsize
    documents = np.arange(len(lengths) + 1, dtype="<i8")
    with path.open("wb") as file:
        counts = len(lengths), len(documents)
        file.write(struct.pack("<9sQBQQ", MEGATRON_HEADER, MEGATRON_VERSION, code, *counts))
        file.write(lengths.astype("<i4").data)
        file.write(np.concatenate([[0], offsets[:-1]]).astype("<i8").data)
        file.write(documents.data)
