"""Text as people have it: suffixes, column types, links, paths, and what is said where nothing can be read."""

import bz2
import gzip
import json
import lzma
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from tests.field.conftest import Run

pytestmark = pytest.mark.field

RECORDS = [{"id": n, "content": f"The sea is blue at {n}.\nThe river is {n * 7} miles long."} for n in range(40)]
LINES = "".join(json.dumps(record) + "\n" for record in RECORDS).encode()
TEXTS = [str(record["content"]) for record in RECORDS]
SIZE = sum(map(len, TEXTS))
"""Bytes of all texts."""


def source(files: str | Path, **keys: str) -> str:
    return f"corpora.prose.sources={json.dumps([{'files': str(files)} | keys])}"


def prepared(tinyllama: Run, *settings: str, env: dict[str, str] | None = None) -> dict[str, Any]:
    """Counts of the corpus, both parts together."""
    arguments = [argument for setting in settings for argument in ("--set", setting)]
    counts = json.loads(tinyllama("prepare", "field.yaml", "--json", *arguments, env=env).succeeded())["prose"]
    both = {key: counts["train"][key] + counts["held_out"][key] for key in ("documents", "bytes")}
    return both | {"quarantined": counts["quarantined"]}


def skipped(field: Path) -> dict[str, str]:
    """What is recorded as skipped: name → reason."""
    text = (field / "runs/field/corpora/prose/rejected.jsonl").read_text(encoding="utf-8")
    return {line["origin"]: line["reason"] for line in map(json.loads, text.splitlines()) if line["kind"] == "skipped"}


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("x.json", LINES),
        ("x.ndjson", LINES),
        ("x.json", json.dumps(RECORDS, indent=1).encode()),
        ("x.json", b"".join(json.dumps(record, indent=2).encode() + b"\n" for record in RECORDS)),
        ("x.json.gz", gzip.compress(LINES)),
        ("x.json.zst", zstandard.compress(json.dumps(RECORDS).encode())),
        ("x.ndjson.xz", lzma.compress(LINES)),
        ("x.jsonl.bz2", bz2.compress(LINES)),
    ],
    ids=["lines", "ndjson", "list", "objects", "gz", "list.zst", "xz", "bz2"],
)
def test_records_are_read_as_records_whatever_the_suffix(field: Path, tinyllama: Run, name: str, data: bytes) -> None:
    (field / "data").mkdir()
    (field / "data" / name).write_bytes(data)
    counts = prepared(tinyllama, source(f"data/{name}", text_field="content"))
    assert counts == {"documents": len(RECORDS), "bytes": SIZE, "quarantined": {}}


def test_a_folder_and_a_pattern_read_the_same_suffixes(field: Path, tinyllama: Run) -> None:
    (field / "data").mkdir()
    for name, data in {"a.json": LINES, "b.ndjson": LINES, "c.json.gz": gzip.compress(LINES)}.items():
        (field / "data" / name).write_bytes(data)
    by_folder = prepared(tinyllama, source("data", text_field="content"))
    assert by_folder == prepared(tinyllama, source("data/*", text_field="content"))
    assert by_folder["documents"] == 3 * len(RECORDS)


def test_json_that_is_a_text_of_code_stays_a_text(field: Path, tinyllama: Run) -> None:
    (field / "text/package.json").write_text('{"name": "pkg",\n "version": "1.0"}', encoding="utf-8")
    assert prepared(tinyllama, source("text"))["documents"] == 25


def test_json_without_the_field_is_refused_with_its_fields(field: Path, tinyllama: Run) -> None:
    (field / "x.json").write_bytes(json.dumps(RECORDS).encode())
    message = tinyllama("prepare", "field.yaml", "--set", source("x.json")).refused()
    assert "id, content" in message
    assert "text_field" in message
    assert not (field / "runs/field/tokenizer").exists()


@pytest.mark.parametrize(
    ("make", "suffix"),
    [
        (lambda texts: pa.array([text.encode() for text in texts], pa.binary()), "parquet"),
        (lambda texts: pa.array([text.encode() for text in texts], pa.large_binary()), "arrow"),
        (lambda texts: pa.array(texts, pa.large_string()), "parquet"),
        (lambda texts: pa.array(texts).dictionary_encode(), "parquet"),
        (lambda texts: pa.array([text.encode() for text in texts], pa.binary()).dictionary_encode(), "arrow"),
        (lambda texts: pa.array(texts, pa.string_view()), "arrow"),
        (lambda texts: pa.chunked_array([texts[:10], texts[10:]]), "parquet"),
    ],
    ids=["binary", "large_binary", "large_string", "dictionary", "binary-dictionary", "string_view", "chunks"],
)
def test_columns_of_any_type_that_holds_text_are_text(
    field: Path, tinyllama: Run, make: Callable[[list[str]], Any], suffix: str
) -> None:
    write(field / f"x.{suffix}", content=make(TEXTS))
    counts = prepared(tinyllama, source(f"x.{suffix}", text_field="content"))
    assert counts == {"documents": len(TEXTS), "bytes": SIZE, "quarantined": {}}


def test_a_binary_column_is_text_for_a_filter_too(field: Path, tinyllama: Run) -> None:
    languages = [b"en" if n % 2 else b"de" for n in range(len(TEXTS))]
    write(field / "x.parquet", content=pa.array(TEXTS), language=pa.array(languages))
    counts = prepared(tinyllama, source("x.parquet", text_field="content", where='language == "en"'))
    assert counts["documents"] == len(TEXTS) // 2


@pytest.mark.parametrize("values", [[["a", "b"]] * 40, list(range(40))], ids=["list", "int64"])
def test_a_column_that_is_no_text_is_refused_once_for_the_file(field: Path, tinyllama: Run, values: list[Any]) -> None:
    write(field / "x.parquet", content=pa.array(values))
    settings = (source("x.parquet", text_field="content"), "tokenizer={train: {vocab_size: 300}}")
    arguments = [argument for setting in settings for argument in ("--set", setting)]
    message = tinyllama("prepare", "field.yaml", *arguments).refused()
    assert message.count("text field 'content' is of type") == 1
    assert "more)" not in message


def write(path: Path, **columns: pa.Array) -> None:
    table = pa.table(columns)
    if path.suffix == ".parquet":
        pq.write_table(table, path)
        return
    with pa.ipc.new_file(path, table.schema) as file:
        file.write_table(table)


@pytest.mark.parametrize("name", ["x.jsonl", "x.parquet", "x.arrow"])
@pytest.mark.parametrize("command", ["prepare", "tokenizer"])
def test_a_wrong_text_field_is_refused_with_the_fields_that_are_there(
    field: Path, tinyllama: Run, name: str, command: str
) -> None:
    if name == "x.jsonl":
        (field / name).write_bytes(LINES)
    else:
        write(field / name, id=pa.array(range(40)), content=pa.array(TEXTS))
    arguments = (
        ["prepare", "field.yaml"] if command == "prepare" else ["tokenizer", "train", "field.yaml", "--out", "t"]
    )
    message = tinyllama(*arguments, "--set", source(name, text_field="contents")).refused()
    assert "corpora.prose.sources.0.text_field" in message
    assert "did you mean 'content'?" in message
    assert "its fields are id, content;" in message
    assert not (field / "runs/field/tokenizer").exists()


def test_what_could_not_be_read_is_listed_where_nothing_could(field: Path, tinyllama: Run) -> None:
    (field / "a.txt").write_bytes(b"caf\xe9")
    (field / "b.txt").write_text("   ", encoding="utf-8")
    both = "[{files: a.txt}, {files: b.txt}]"
    message = tinyllama("prepare", "field.yaml", "--set", f"corpora.prose.sources={both}").refused()
    assert "a.txt: not valid UTF-8 (byte 3)" in message
    assert "b.txt: empty" in message


def test_what_could_not_be_read_is_listed_without_a_tokenizer_to_train(field: Path, tinyllama: Run) -> None:
    prepared(tinyllama)
    (field / "x.jsonl").write_text('{"text": 5}\n' * 40, encoding="utf-8")
    settings = [source("x.jsonl"), "tokenizer={file: runs/field/tokenizer/tokenizer.model}"]
    arguments = [argument for setting in settings for argument in ("--set", setting)]
    message = tinyllama("prepare", "field.yaml", "--run", "runs/other", *arguments).refused()
    assert "x.jsonl:1: text field 'text' is no string but int (and 39 more)" in message


def test_a_filter_that_selects_nothing_is_named(field: Path, tinyllama: Run) -> None:
    prepared(tinyllama)
    (field / "x.jsonl").write_bytes(LINES)
    settings = [
        source("x.jsonl", text_field="content", where='language == "en"'),
        "tokenizer={file: runs/field/tokenizer/tokenizer.model}",
    ]
    arguments = [argument for setting in settings for argument in ("--set", setting)]
    message = tinyllama("prepare", "field.yaml", "--run", "runs/other", *arguments).refused()
    assert '`where` selects no document: language == "en"' in message


@pytest.mark.parametrize("pattern", ["text", "text/**/*.txt", "text/**"])
def test_links_to_folders_are_followed_once(field: Path, tinyllama: Run, pattern: str) -> None:
    (field / "elsewhere/deep").mkdir(parents=True)
    (field / "elsewhere/deep/a.txt").write_text("The mountain is far from the sea.", encoding="utf-8")
    (field / "elsewhere/back").symlink_to("..")
    (field / "text/link").symlink_to("../elsewhere")
    (field / "text/loop").symlink_to(".")
    (field / "text/gone.txt").symlink_to("nowhere.txt")
    assert prepared(tinyllama, source(pattern))["documents"] == 25
    assert "a link to nowhere.txt: No such file or directory" in skipped(field)["text/gone.txt"]


def test_a_pipe_in_a_folder_is_listed(field: Path, tinyllama: Run) -> None:
    os.mkfifo(field / "text/pipe.txt")
    assert prepared(tinyllama, source("text"))["documents"] == 24
    assert "a pipe" in skipped(field)["text/pipe.txt"]


def test_a_source_that_is_a_pipe_or_a_broken_link_is_refused_as_such(field: Path, tinyllama: Run) -> None:
    os.mkfifo(field / "pipe.txt")
    (field / "gone.txt").symlink_to("nowhere.txt")
    assert "pipe.txt: a pipe" in tinyllama("prepare", "field.yaml", "--set", source("pipe.txt")).refused()
    assert (
        "gone.txt: a link to nowhere.txt" in tinyllama("prepare", "field.yaml", "--set", source("gone.txt")).refused()
    )


@pytest.mark.parametrize(
    ("pattern", "folder"),
    [
        ("~/texts/*.txt", "texts"),
        ("$DATA/*.txt", "texts"),
        ("${DATA}", "texts"),
        ("data [v1]/*.txt", "data [v1]"),
        ("*[v1]/*.txt", "data [v1]"),
        ("$odd/*.txt", "$odd"),
    ],
)
def test_paths_are_what_people_mean(field: Path, tinyllama: Run, pattern: str, folder: str) -> None:
    (field / "text").rename(field / folder)
    environment = {"HOME": str(field), "DATA": str(field / "texts")}
    assert prepared(tinyllama, source(pattern), env=environment)["documents"] == 24


@pytest.mark.usefixtures("field")
def test_a_variable_that_is_not_set_is_named(tinyllama: Run) -> None:
    message = tinyllama("prepare", "field.yaml", "--set", source("$NOWHERE_DATA/*.txt")).refused()
    assert "the environment variable $NOWHERE_DATA is not set" in message


def test_file_names_that_are_not_utf_8_are_read_and_recorded(field: Path, tinyllama: Run) -> None:
    (field / "text/00.txt").rename(field / "text" / os.fsdecode(b"caf\xe9.txt"))
    (field / "text" / os.fsdecode(b"\xff.bin")).write_bytes(b"\0")
    assert prepared(tinyllama, source("text"))["documents"] == 24
    assert list(skipped(field)) == [r"text/\udcff.bin"]
