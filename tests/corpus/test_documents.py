from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pyarrow as pa
import pytest
from pyarrow import parquet

from tinyllama.corpus.documents import DocumentIndex
from tinyllama.corpus.index import index_file, index_schema
from tinyllama.corpus.manifest import TRAIN, PreparedCorpus
from tinyllama.errors import CorpusError

LENGTHS = [5, 1, 7, 30, 2, 2, 9, 4]


@pytest.fixture
def index(tmp_path: Path) -> DocumentIndex:
    """An index in three row groups."""
    starts = [sum(LENGTHS[:number]) for number in range(len(LENGTHS))]
    origins = [f"a.jsonl:{1 + number // 2}" for number in range(len(LENGTHS))]
    columns = [starts, LENGTHS, LENGTHS, origins, origins, [number % 2 for number in range(len(LENGTHS))]]
    table = pa.table(columns, schema=index_schema())
    parquet.write_table(table, tmp_path / index_file(TRAIN), row_group_size=3)
    return DocumentIndex(cast("PreparedCorpus", SimpleNamespace(folder=tmp_path)), TRAIN)


def test_documents_are_found_by_any_run_of_their_tokens(index: DocumentIndex) -> None:
    owner = [number for number, length in enumerate(LENGTHS) for _ in range(length)]
    for start in range(len(owner)):
        for end in range(start + 1, len(owner) + 1):
            assert [one.number for one in index.overlapping(start, end)] == sorted(set(owner[start:end]))


def test_documents_are_found_by_their_whole_origin(index: DocumentIndex) -> None:
    assert [(one.number, one.part) for one in index.of_origin("a.jsonl:2")] == [(2, 0), (3, 1)]
    assert not index.of_origin("a.jsonl")


def test_an_index_that_cannot_be_read_is_named(index: DocumentIndex) -> None:
    path = index.corpus.folder / index_file(TRAIN)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CorpusError, match="the index of documents cannot be read"):
        index.overlapping(0, 1)
