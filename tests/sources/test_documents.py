import gzip
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from tinyllama.errors import CorpusError
from tinyllama.recipe import Corpus
from tinyllama.sources.documents import Document, cut_text, read_documents
from tinyllama.sources.rejected import Rejected


def corpus(*sources: dict[str, Any], cut: int | None = None) -> Corpus:
    return Corpus.model_validate(
        {"sources": list(sources), "size": 1, "cut": cut, "held_out": {"share": "5%"}, "license": "CC0-1.0"}
    )


def read(root: Path, *sources: dict[str, Any], cut: int | None = None) -> tuple[list[Document], list[Rejected]]:
    rejected: list[Rejected] = []
    return list(read_documents(corpus(*sources, cut=cut), root, rejected.append)), rejected


def lines(*records: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


def test_text_stays_exactly_as_it_is_but_for_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf one\r\n\ttwo \x00\xc2\x85\xe2\x80\xa8 \r\n\n")
    documents, rejected = read(tmp_path, {"files": "a.txt"})
    assert documents == [Document(" one\r\n\ttwo \x00\x85\u2028 \r\n\n", "a.txt", "a.txt", 0)]
    assert rejected == []


def test_files_come_in_the_order_of_their_paths_and_sources_as_listed(tmp_path: Path) -> None:
    for name in ("b/z.md", "b/a.txt", "a/c.py", "b.txt", "B.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    documents, _ = read(tmp_path, {"files": "b"}, {"files": "**/*.*"})
    assert [document.origin for document in documents] == ["b/a.txt", "b/z.md", "B.txt", "a/c.py", "b.txt"]


def test_a_file_that_two_sources_name_is_read_once_and_the_second_time_reported(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("once")
    (tmp_path / "link.txt").symlink_to("a.txt")
    documents, rejected = read(tmp_path, {"files": "a.txt"}, {"files": "*.txt"})
    assert [document.text for document in documents] == ["once"]
    assert [item.origin for item in rejected] == ["a.txt", "link.txt"]
    assert "already read" in rejected[0].reason


def test_a_directory_gives_known_suffixes_and_reports_the_others(tmp_path: Path) -> None:
    for name in ("x.py", "README", "x.png", "x.wiki", ".hidden.txt", ".git/config.txt"):
        (tmp_path / "d" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "d" / name).write_text(name)
    documents, rejected = read(tmp_path, {"files": "d"})
    assert [document.text for document in documents] == ["README", "x.py"]
    assert [item.origin for item in rejected] == ["d/x.png", "d/x.wiki"]
    documents, rejected = read(tmp_path, {"files": "d/*.wiki"})
    assert [document.text for document in documents] == ["x.wiki"]
    assert rejected == []


def test_a_pattern_that_matches_nothing_names_corpus_pattern_and_remedy(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"corpus code: no file matches 'no/\*\.txt'.*correct `files`"):
        list(read_documents(corpus({"files": "no/*.txt"}), tmp_path, lambda _: None, name="code"))


def test_bad_text_files_are_reported(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"abc \xff")
    (tmp_path / "b.txt").write_bytes(b"")
    (tmp_path / "c.txt").write_bytes(b" \r\n")
    documents, rejected = read(tmp_path, {"files": "*.txt"})
    assert documents == []
    assert [(item.origin, item.reason.split(":")[0]) for item in rejected] == [
        ("a.txt", "not valid UTF-8 (byte 4)"),
        ("b.txt", "empty"),
        ("c.txt", "empty"),
    ]


def test_bad_json_lines_are_reported_and_cost_nothing_else(tmp_path: Path) -> None:
    bad = [
        b'{"text": "cut',
        b'{"text": "\xff"}',
        b'["text"]',
        b'{"other": "x"}',
        b'{"text": 3}',
        b'{"text": null}',
        b'{"text": "one", "text": "two"}',
        b'{"text": ""}',
        b"[" * 100_000,
    ]
    good = b'{"text": "good \xe2\x80\xa8 \xc2\x85"}'
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + b"\n".join([good, *bad, b"", good + b"\r"]))
    documents, rejected = read(tmp_path, {"files": "a.jsonl"})
    assert [(document.text, document.origin) for document in documents] == [
        ("good \u2028 \x85", "a.jsonl:1"),
        ("good \u2028 \x85", f"a.jsonl:{len(bad) + 3}"),
    ]
    assert [item.origin for item in rejected] == [f"a.jsonl:{n + 2}" for n in range(len(bad))]
    for item, word in zip(
        rejected,
        ["JSON", "UTF-8", "list", "text", "int", "null", "'text' is given twice", "empty", "JSON"],
        strict=True,
    ):
        assert word in item.reason
        item.excerpt.encode()


def test_a_text_field_with_dots_reaches_into_nested_objects(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines({"a": {"b": "nested"}}, {"a.b": "named"}, {"a": "no"}))
    pq.write_table(pa.table({"a": [{"b": "struct"}, {"b": "two"}], "c": [1, 2]}), tmp_path / "b.parquet")
    documents, rejected = read(tmp_path, {"files": "*", "text_field": "a.b"})
    assert [document.text for document in documents] == ["nested", "named", "struct", "two"]
    assert [item.origin for item in rejected] == ["a.jsonl:3"]


def test_where_keeps_by_fields_and_length_in_json_parquet_and_arrow(tmp_path: Path) -> None:
    records = [{"text": str(n), "meta": {"set": name}} for n, name in enumerate(["GitHub", "Books", "Wiki", "Books"])]
    records[3]["text"] = "longer"
    (tmp_path / "a.jsonl").write_bytes(lines(*records))
    pq.write_table(pa.Table.from_pylist(records), tmp_path / "a.parquet")
    write_arrow(records, tmp_path / "a.arrow")
    for suffix in ("jsonl", "parquet", "arrow"):
        source = {"files": f"a.{suffix}", "where": 'meta.set not in ["GitHub", "Wiki"] and len(text) < 3'}
        documents, rejected = read(tmp_path, source)
        assert [document.text for document in documents] == ["1"]
        assert rejected == []


def test_a_document_that_where_has_no_value_for_is_quarantined(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines({"text": "a", "stars": 3}, {"text": "b"}, {"text": "c", "stars": 1}))
    documents, rejected = read(tmp_path, {"files": "a.jsonl", "where": "stars >= 2"})
    assert [document.text for document in documents] == ["a"]
    assert [item.origin for item in rejected] == ["a.jsonl:2"]
    assert "`where` has no value" in rejected[0].reason


def test_where_for_a_builtin_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="where"):
        read(tmp_path, {"builtin": "arithmetic", "where": "x == 1"})


@pytest.mark.parametrize("stream", [True, False])
def test_arrow_rows_are_numbered_over_batches_and_a_cut_file_is_named(tmp_path: Path, stream: bool) -> None:  # noqa: FBT001
    records = [{"text": f"row {n}", "other": n} for n in range(700)]
    write_arrow(records, tmp_path / "a.arrow", stream=stream)
    documents, rejected = read(tmp_path, {"files": "a.arrow"})
    assert [document.origin for document in documents] == [f"a.arrow#{n}" for n in range(700)]
    assert rejected == []
    data = (tmp_path / "a.arrow").read_bytes()
    (tmp_path / "a.arrow").write_bytes(data[: len(data) // 2])
    documents, rejected = read(tmp_path, {"files": "a.arrow"})
    assert [document.text for document in documents] == [f"row {n}" for n in range(len(documents))]
    assert "not readable as Arrow" in rejected[0].reason


def write_arrow(records: list[dict[str, Any]], path: Path, *, stream: bool = True) -> None:
    table = pa.Table.from_pylist(records)
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=300)


@pytest.mark.parametrize("suffix", ["gz", "zst"])
def test_compressed_json_lines_of_several_frames_are_read_whole(tmp_path: Path, suffix: str) -> None:
    compress = gzip.compress if suffix == "gz" else zstandard.ZstdCompressor().compress
    padding = b"\0" * 600_000 if suffix == "gz" else b""
    frames = [compress(lines({"text": f"{n} " * 1000})) for n in range(40)]
    (tmp_path / f"a.jsonl.{suffix}").write_bytes(b"".join(frames) + padding)
    documents, rejected = read(tmp_path, {"files": "*.jsonl.*"})
    assert [document.text for document in documents] == [f"{n} " * 1000 for n in range(40)]
    assert rejected == []


@pytest.mark.parametrize("suffix", ["gz", "zst"])
@pytest.mark.parametrize("kept", [0.0, 0.5, 0.99])
def test_a_truncated_file_reports_the_loss_and_keeps_what_stands_before_it(
    tmp_path: Path, suffix: str, kept: float
) -> None:
    compress = gzip.compress if suffix == "gz" else zstandard.ZstdCompressor().compress
    texts = [f"document {n} {n * n % 9973} {n**3 % 99991}" for n in range(50_000)]
    data = compress(lines(*({"text": text} for text in texts)))
    (tmp_path / f"a.jsonl.{suffix}").write_bytes(data[: int(len(data) * kept)])
    documents, rejected = read(tmp_path, {"files": f"a.jsonl.{suffix}"})
    assert [document.text for document in documents] == texts[: len(documents)]
    assert len(documents) >= len(texts) * (kept - 0.3)
    assert rejected[-1].origin == f"a.jsonl.{suffix}"
    assert f"what follows line {len(documents) + len(rejected) - 1} is lost" in rejected[-1].reason


@pytest.mark.parametrize("suffix", ["jsonl.gz", "jsonl.zst", "parquet"])
def test_a_file_that_is_not_what_its_name_says_is_reported(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"a.{suffix}").write_bytes(b"nothing of the kind, for sure")
    documents, rejected = read(tmp_path, {"files": f"a.{suffix}"})
    assert documents == []
    assert [item.origin for item in rejected] == [f"a.{suffix}"]


def test_parquet_rows_are_numbered_over_row_groups(tmp_path: Path) -> None:
    table = pa.table({"content": [f"row {n}" if n % 7 else None for n in range(1000)], "other": range(1000)})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=300)
    documents, rejected = read(tmp_path, {"files": "a.parquet", "text_field": "content"})
    assert [document.origin for document in documents] == [f"a.parquet#{n}" for n in range(1000) if n % 7]
    assert [item.origin for item in rejected] == [f"a.parquet#{n}" for n in range(1000) if n % 7 == 0]


def test_a_parquet_file_without_the_field_reports_every_row(tmp_path: Path) -> None:
    pq.write_table(pa.table({"body": ["x", "y"]}), tmp_path / "a.parquet")
    documents, rejected = read(tmp_path, {"files": "a.parquet"})
    assert documents == []
    assert [item.origin for item in rejected] == ["a.parquet#0", "a.parquet#1"]


def test_a_damaged_row_group_costs_only_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    table = pa.table({"text": [f"row {n} {n * 7919 % 10007}" for n in range(900)]})
    pq.write_table(table, path, row_group_size=300, compression="zstd", use_dictionary=False)
    place = pq.ParquetFile(path).metadata.row_group(1).column(0)
    data = bytearray(path.read_bytes())
    start = place.data_page_offset + 40
    data[start : start + 100] = b"\xff" * 100
    path.write_bytes(data)
    documents, rejected = read(tmp_path, {"files": "a.parquet"})
    assert [document.origin for document in documents] == [f"a.parquet#{n}" for n in (*range(300), *range(600, 900))]
    assert [item.origin for item in rejected] == ["a.parquet"]
    assert "rows 300 to 599" in rejected[0].reason


def test_limit_stops_after_the_document_that_reaches_it_in_each_source(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines(*({"text": "x" * 10} for _ in range(10))))
    (tmp_path / "b.txt").write_text("y" * 100)
    documents, _ = read(tmp_path, {"files": "a.jsonl", "limit": 25}, {"files": "b.txt", "limit": 1}, cut=7)
    assert "".join(document.text for document in documents) == "x" * 30 + "y" * 100


def test_pieces_of_a_cut_document_are_numbered_in_its_group(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines({"text": "one\ntwo\nthree\n"}, {"text": "four"}))
    documents, _ = read(tmp_path, {"files": "a.jsonl"}, cut=9)
    assert [(d.text, d.group, d.part) for d in documents] == [
        ("one\ntwo\n", "a.jsonl:1", 0),
        ("three\n", "a.jsonl:1", 1),
        ("four", "a.jsonl:2", 0),
    ]


@given(st.text(st.sampled_from("ab\r\n😀")), st.integers(1, 9))
def test_cut_pieces_join_to_the_text_within_the_limit_and_never_divide_a_line_end(text: str, limit: int) -> None:
    pieces = list(cut_text(text, limit))
    assert "".join(pieces) == text
    assert all(0 < len(piece) <= max(limit, 2) for piece in pieces)
    for before, after in pairwise(pieces):
        assert not (before.endswith("\r") and after.startswith("\n"))
        assert before.endswith("\n") or "\n" not in (before + after[:1])[:limit]
