"""Corpora of odd and damaged source files."""

from __future__ import annotations

import gzip
import io
import json
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
import zstandard

from tests.field.conftest import RECIPE
from tests.field.fuzz.case import Case
from tests.field.fuzz.recipes import dump
from tests.field.fuzz.values import TEXTS, Tree, anything, damaged, mutated

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

_COMMANDS = (
    *["prepare odd.yaml"] * 6, "prepare odd.yaml --workers 2", "prepare odd.yaml --exact-all",
    "prepare odd.yaml --json", "tokenizer train odd.yaml --out out", "train odd.yaml",
)  # fmt: skip
_NAMES = (
    "a.txt", "a.md", "a", "a.jsonl", "a.ndjson", "a.json", "a.jsonl.gz", "a.jsonl.zst", "a.json.gz", "a.txt.gz",
    "a.parquet", "a.arrow", "a.csv", "a.bin", "a.ds", "a.idx", ".a.txt", "a b.txt", "[v1].jsonl", "a\udcff.txt",
)  # fmt: skip
_DOCUMENT = "The river runs to the sea, and the sea is full of rivers.\n" * 40
_ODD_DOCUMENTS = (
    "", " ", "\0", "\ufeffThe river", "The\r\nriver\rruns", "</s><s>", "▁▁a", "한글".encode().decode(), "e\u0301" * 50,
    "😀" * 100, "\x1b[31m", "a" * 20000, "\u2028", "<0x0A>", "\\ud83d",
)  # fmt: skip


def source_case(random: Random) -> Case:
    """A command that reads sources, one of which is odd."""
    name = random.choice(_NAMES)
    files: dict[str, bytes | None] = {f"odd/{name}": _content(random, name)}
    links: dict[str, str] = {}
    if random.random() < 0.3:
        other = random.choice(_NAMES)
        files[f"odd/{other}"] = _content(random, other)
    if random.random() < 0.1:
        links["odd/link"] = random.choice(("..", ".", "../text", "nowhere", "link", "/dev/null", "../text/00.txt"))
    tree = yaml.safe_load(RECIPE)
    corpus = tree["corpora"]["prose"]
    corpus["sources"] = [_source(random, name)]
    if random.random() < 0.5:
        corpus["sources"].insert(random.randrange(2), {"files": "text"})
    if random.random() < 0.3:
        corpus["cut"] = random.choice((1, 10, 1000))
        corpus["held_out"]["by"] = random.choice(("block", "document"))
    if random.random() < 0.1:
        corpus["max_damaged"] = random.choice(("0%", "100%"))
    needs = "texts"
    if random.random() < 0.5:
        tree["tokenizer"], needs = {"file": random.choice(("tok/tokenizer.model", "tok/tokenizer.json"))}, "prepared"
        if random.random() < 0.3:
            files, corpus["sources"] = (
                _token_files(random),
                [{"files": random.choice(("meg", "meg/*.bin", "meg/train.bin"))}],
            )
    argv = random.choice(_COMMANDS).split()
    return Case(
        argv,
        needs=needs,
        files={**files, "odd.yaml": dump(tree)},
        links=links,
        plan_first=("plan", "odd.yaml") if argv[0] == "train" else (),
    )


def _source(random: Random, name: str) -> dict[str, Tree]:
    names = ("odd", "odd/*", "odd/**", f"odd/{name}")
    source: dict[str, Tree] = {"files": random.choice(names) if name.isprintable() else "odd"}
    if random.random() < 0.3:
        source["text_field"] = random.choice(("text", "meta", "meta.number", "meta.text", "", ".", "a..b", "content"))
    if random.random() < 0.2:
        source["where"] = random.choice(_EXPRESSIONS)
    if random.random() < 0.1:
        source["limit"] = random.choice((1, 10, 10**6))
    return source


_EXPRESSIONS = (
    "meta.number < 3", "meta.number", "len(text) > 10 and lower(text) in ['a']", "None < 3", "1/0", "text.__class__",
    "__import__('os')", "(" * 300 + "1" + ")" * 300, "len()", "len(1, 2)", "not", "", "x = 1", "lambda: 1", "[1, 2",
    "text in 3",
    "lower(meta)", "9" * 5000 + " > 1", "text == 'a\0'", "f'{text}'", "-text", "not " * 3000 + "text",
)  # fmt: skip


def _content(random: Random, name: str) -> bytes:
    data = _data(random, name)
    return damaged(random, data) if random.random() < 0.5 else data


def _data(random: Random, name: str) -> bytes:
    records = [_record(random) for _ in range(random.choice((1, 3, 40, 120)))]
    if "json" in name:
        return _packed(name, _json(random, records))
    if "parquet" in name:
        return _parquet(random, records)
    if "arrow" in name:
        return _arrow(random, records)
    text = "\n".join(random.choice((_DOCUMENT, random.choice(_ODD_DOCUMENTS))) for _ in range(random.choice((1, 3, 9))))
    encoding = random.choice(("utf-8",) * 6 + ("utf-16", "latin-1", "utf-8-sig"))
    return _packed(name, text.encode(encoding, errors="replace"))


def _packed(name: str, data: bytes) -> bytes:
    if name.endswith(".gz"):
        return gzip.compress(data, mtime=0)
    return zstandard.compress(data) if name.endswith(".zst") else data


def _record(random: Random) -> Tree:
    record: Tree = {"text": _DOCUMENT, "meta": {"number": random.randrange(9)}}
    if random.random() < 0.1:
        record = {"text": random.choice(_ODD_DOCUMENTS), "meta": None}
    return mutated(random, record) if random.random() < 0.05 else record


def _json(random: Random, records: list[Tree]) -> bytes:
    match random.randrange(8):
        case 0:
            return json.dumps(records).encode()
        case 1:
            return json.dumps(records, indent=2).encode()
        case 2:
            return "\r\n".join(map(json.dumps, records)).encode()
        case 3:
            return ("\ufeff" + "\n".join(map(json.dumps, records))).encode()
        case 4:
            odd = [
                "[" * 100_000,
                "9" * 5000,
                '{"text": "\\ud83d"}',
                '{"text": NaN}',
                '{"text": "a", "text": "b"}',
                "1e999",
            ]
            return "\n".join([*map(json.dumps, records), random.choice(odd)]).encode()
        case _:
            return "".join(json.dumps(record) + "\n" for record in records).encode()


def _columns(random: Random) -> pa.Array:
    documents: list[str | None] = [_DOCUMENT, random.choice(_ODD_DOCUMENTS), None, "a river"]
    plain = [text for text in documents if text is not None]
    kinds: list[Callable[[], pa.Array]] = [
        lambda: pa.array(documents),
        lambda: pa.array(documents, pa.large_string()),
        lambda: pa.array([text.encode() for text in plain]),
        lambda: pa.array([b"\xff\xfe", *(text.encode() for text in plain)], pa.large_binary()),
        lambda: pa.array(plain).dictionary_encode(),
        lambda: pa.array([[text, "b"] for text in plain]),
        lambda: pa.array([{"text": text} for text in plain]),
        lambda: pa.array([1, 2, 3]),
        lambda: pa.array([None, None]),
        lambda: pa.array([], pa.string()),
        lambda: pa.array(["x"] * 3, pa.string_view()),
    ]
    return random.choice(kinds)()


def _table(random: Random, records: list[Tree]) -> pa.Table:
    if random.random() < 0.3:
        return pa.table({"text": [_DOCUMENT] * len(records), "meta": list(range(len(records)))})
    column = _columns(random)
    names = random.choice((("text", "meta"), ("text", "text"), ("content", "meta"), ("", "text")))
    return pa.Table.from_arrays([column, column], names=list(names))


def _parquet(random: Random, records: list[Tree]) -> bytes:
    file = io.BytesIO()
    table = _table(random, records)
    try:
        pq.write_table(
            table,
            file,
            row_group_size=random.choice((1, 2, 1000)),
            compression=random.choice(("snappy", "zstd", "none")),
        )
    except (pa.ArrowException, NotImplementedError):
        return b"PAR1"
    return file.getvalue()


def _arrow(random: Random, records: list[Tree]) -> bytes:
    sink, table = io.BytesIO(), _table(random, records)
    new = random.choice((pa.ipc.new_file, pa.ipc.new_stream))
    with new(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def _token_files(random: Random) -> dict[str, bytes | None]:
    """Damage to Megatron's files in meg/, which the template made of a corpus."""
    name = random.choice(("meg/train.bin", "meg/train.idx", "meg/held_out.bin", "meg/held_out.idx"))
    return {name: random.choice((None, b"", random.randbytes(64), b"MMIDIDX\0\0" + random.randbytes(40)))}


def odd_text(random: Random) -> bytes:
    """A text file for `evaluate --text`."""
    text = random.choice((*_ODD_DOCUMENTS, _DOCUMENT, *TEXTS, json.dumps(anything(random), default=str)))
    data = text.encode(random.choice(("utf-8", "utf-8", "utf-16")), errors="replace")
    return damaged(random, data) if random.random() < 0.3 else data
