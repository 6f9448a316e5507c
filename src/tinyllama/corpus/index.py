"""The columnar index of a corpus's documents: its file, its columns and their types."""

from __future__ import annotations

from typing import Any

INDEX_COLUMNS = ("start", "tokens", "bytes", "origin", "group", "part")


def index_file(split: str) -> str:
    """Name of the columnar index of a split's documents."""
    return f"{split}.documents.parquet"


def index_schema() -> Any:  # noqa: ANN401  # pyarrow ships no types
    """Columns of a document index: where its tokens start, how many they are, bytes of its text, and its origin."""
    import pyarrow as pa

    types = (pa.int64(), pa.int64(), pa.int64(), pa.string(), pa.string(), pa.int64())
    return pa.schema(list(zip(INDEX_COLUMNS, types, strict=True)))
