"""Malformed input: each kind has a named outcome, nothing crashes, and no good document is lost."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sources.test_documents import lines, read
from tinyllama.recipe import Corpus
from tinyllama.sources.documents import Document, read_documents
from tinyllama.sources.rejected import Rejected

TEXTS = [f"document {n}: {n * 7919 % 10007} {'word ' * (n % 50)}" for n in range(2000)]
LINES = lines(*({"text": text} for text in TEXTS))


def read_bytes(folder: Path, name: str, data: bytes) -> tuple[list[Document], list[Rejected]]:
    (folder / name).write_bytes(data)
    return read(folder, {"files": name})


def texts(documents: list[Document]) -> list[str]:
    return [document.text for document in documents]


@pytest.mark.parametrize("suffix", ["gz", "zst"])
def test_a_bad_checksum_loses_no_document_and_is_named(tmp_path: Path, suffix: str) -> None:
    data = bytearray(_compress(LINES, suffix))
    data[-8 if suffix == "gz" else -4] ^= 1  # gzip ends in CRC-32 and length, Zstandard in its checksum
    documents, rejected = read_bytes(tmp_path, f"a.jsonl.{suffix}", bytes(data))
    assert texts(documents) == TEXTS
    assert [item.origin for item in rejected] == [f"a.jsonl.{suffix}"]
    assert f"what follows line {len(TEXTS)} is lost" in rejected[0].reason


@pytest.mark.parametrize("suffix", ["gz", "zst"])
@pytest.mark.parametrize("frames", [1, 2])
def test_damage_inside_a_file_costs_only_what_follows_it(tmp_path: Path, suffix: str, frames: int) -> None:
    each = 1_200_000  # bytes, several blocks of Zstandard
    parts = [lines(*({"text": f"{n} {i}"} for i in range(each // 20))) for n in range(frames)]
    packed = [_compress(part, suffix) for part in parts]
    broken = bytearray(packed[-1])
    broken[len(broken) * 2 // 3 :] = b"\xff" * (len(broken) - len(broken) * 2 // 3)
    documents, rejected = read_bytes(tmp_path, f"a.jsonl.{suffix}", b"".join([*packed[:-1], bytes(broken)]))
    good = [json.loads(line)["text"] for part in parts for line in part.splitlines()]
    sure = len(good) - (each // 20) // 2  # deflate has no check sums inside: garbage may come out before it fails
    assert texts(documents)[:sure] == good[:sure]
    assert "damaged or cut off" in rejected[-1].reason


def test_every_cut_of_a_small_compressed_file_keeps_the_lines_before_it(tmp_path: Path) -> None:
    for suffix in ("gz", "zst"):
        data = _compress(lines({"text": "one"}, {"text": "two"}), suffix)
        for end in range(len(data)):
            documents, rejected = read_bytes(tmp_path, f"a.jsonl.{suffix}", data[:end])
            assert texts(documents) == ["one", "two"][: len(documents)]
            assert "damaged or cut off" in rejected[-1].reason


def test_half_a_parquet_file_is_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": TEXTS}), tmp_path / "whole.parquet")
    data = (tmp_path / "whole.parquet").read_bytes()
    documents, rejected = read_bytes(tmp_path, "a.parquet", data[: len(data) // 2])
    assert documents == []
    assert "not a readable Parquet file" in rejected[0].reason


def test_a_line_of_200_megabytes_is_one_document(tmp_path: Path) -> None:
    with (tmp_path / "a.jsonl").open("wb") as file:
        file.write(b'{"text": "small"}\n{"text": "' + b"long line " * 20_000_000 + b'"}\n{"text": "last"}\n')
    documents, rejected = read(tmp_path, {"files": "a.jsonl"})
    assert [len(document.text) for document in documents] == [5, 200_000_000, 4]
    assert rejected == []


def test_line_ends_of_windows_and_byte_order_marks_cost_nothing(tmp_path: Path) -> None:
    data = b"\xef\xbb\xbf" + LINES.replace(b"\n", b"\r\n")
    documents, rejected = read_bytes(tmp_path, "a.jsonl", data)
    assert texts(documents) == TEXTS
    assert rejected == []


@pytest.mark.parametrize("name", ["a.jsonl", "a.txt"])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16_is_named_and_never_read_as_text(tmp_path: Path, name: str, encoding: str) -> None:
    documents, rejected = read_bytes(tmp_path, name, LINES.decode().encode(encoding))
    assert documents == []
    assert {item.kind for item in rejected} == {"damaged"}
    if encoding == "utf-16" or name == "a.txt":
        assert len(rejected) == 1
        assert "UTF-16" in rejected[0].reason


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"text": "a", "text": "a"}', "field 'text' is given twice"),
        ('{"text": "a", "meta": {"x": 1, "x": 2}}', "field 'x' is given twice"),
        ('{"text": {"text": "nested"}}', "is no string but dict"),
        ('{"text": ["a", "b"]}', "is no string but list"),
        ('{"text": "a"} {"text": "b"}', "Extra data"),
        ('{"text": "a', "Unterminated string"),
        ('{"text": "a\tb"}', "Invalid control character"),
        ("\0\0\0", "not usable JSON"),
        ('{"a":' * 100_000, "not usable JSON"),
        ('{"n": ' + "9" * 5000 + ', "text": "a"}', "not usable JSON"),
    ],
)
def test_a_bad_line_is_named_and_its_neighbors_are_kept(tmp_path: Path, line: str, reason: str) -> None:
    data = b"\n".join([b'{"text": "before"}', line.encode(), b'{"text": "after"}'])
    documents, rejected = read_bytes(tmp_path, "a.jsonl", data)
    assert texts(documents) == ["before", "after"]
    (item,) = rejected
    assert item.origin == "a.jsonl:2"
    assert reason in item.reason


def test_halves_of_surrogate_pairs_are_replaced_and_said(tmp_path: Path) -> None:
    data = rb'{"text": "a\ud800b\udc00 \ud83d\ude00"}'
    documents, rejected = read_bytes(tmp_path, "a.jsonl", data)
    assert texts(documents) == ["a\ufffdb\ufffd \U0001f600"]
    assert [(item.origin, item.kind) for item in rejected] == [("a.jsonl:1", "repaired")]
    assert "2 of them" in rejected[0].reason


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=300), name=st.sampled_from(["a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.parquet", "a"]))
def test_no_bytes_crash_the_reader(tmp_path_factory: pytest.TempPathFactory, data: bytes, name: str) -> None:
    documents, rejected = read_bytes(tmp_path_factory.mktemp("any"), name, data)
    assert documents or rejected or not data.removeprefix(b"\xef\xbb\xbf").strip()
    for document in documents:
        document.text.encode()


@settings(max_examples=40, deadline=None)
@given(place=st.floats(0, 0.999), value=st.integers(1, 255), suffix=st.sampled_from(["gz", "zst"]))
def test_a_flipped_byte_gives_good_documents_or_a_named_damage(
    tmp_path_factory: pytest.TempPathFactory, place: float, value: int, suffix: str
) -> None:
    data = bytearray(_compress(LINES, suffix))
    data[int(place * len(data))] ^= value
    documents, rejected = read_bytes(tmp_path_factory.mktemp("flip"), f"a.jsonl.{suffix}", bytes(data))
    if not rejected:  # a header's time stamp or name
        assert texts(documents) == TEXTS


def _compress(data: bytes, suffix: str) -> bytes:
    if suffix == "gz":
        return gzip.compress(data, compresslevel=1)
    return zstandard.ZstdCompressor(write_checksum=True).compress(data)


def test_reasons_are_worded_as_in_4bd9be0_since_they_decide_the_identity_of_a_corpus(tmp_path: Path) -> None:
    bad = [
        b"[1]", b'{"n":1}', b'{"text":5}', b'{"text":"a","text":"b"}', b'{"text":"  "}', b"\xff",
        b'{"text":"a\\ud800b"}', b'{"text":"\\u0000\\u0000a"}',
    ]  # fmt: skip
    (tmp_path / "data").mkdir()
    (tmp_path / "data/a.jsonl").write_bytes(b"\n".join(bad))
    (tmp_path / "data/b.jsonl.gz").write_bytes(gzip.compress(b'{"text":"good"}\n')[:-9])
    for name, content in {"c.txt": "x".encode("utf-16"), "d.txt": b"a\xff", "e.jsonl": b"\xff\xfe", "f.x": b""}.items():
        (tmp_path / "data" / name).write_bytes(content)
    sources = [{"files": "data"}, {"files": "data/c.txt"}]
    keys = {"sources": sources, "size": 1, "held_out": {"share": "5%"}, "license": "none"}
    corpus = Corpus.model_validate(keys)
    rejected: list[Rejected] = []
    list(read_documents(corpus, tmp_path, rejected.append))
    assert [item.reason for item in rejected] == [
        "a file of suffix '.x' is read as text only where `files` spells the suffix",
        "this file was already read for this corpus, under another name or source",
        "a JSON list where an object with a text field belongs",
        "text field 'text' is not there or null",
        "text field 'text' is no string but int",
        "not usable JSON: field 'text' is given twice",
        "empty: no text but white space",
        "not valid UTF-8 at byte 0 of the line",
        "halves of surrogate pairs became U+FFFD: 1 of them",
        "67% of the characters are NUL: UTF-16, or no text at all",
        "damaged or cut off; what follows line 1 is lost: the file ends inside a compressed frame",
        "UTF-16, not UTF-8: convert it (byte 0)",
        "not valid UTF-8 (byte 1)",
        "the file is UTF-16, not UTF-8; all of it is lost: convert it",
    ]
