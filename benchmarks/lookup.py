"""What `tinyllama inspect` takes to find a document of the flagship: python benchmarks/lookup.py [--quick]."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import time
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from pyarrow import parquet
from runner import Claim, Result, Table, publish, standard_arguments
from runner.inputs import TINYLLAMA

from tinyllama.corpus.index import index_file, index_schema
from tinyllama.corpus.manifest import (
    HELD_OUT,
    SPLITS,
    TRAIN,
    CorpusManifest,
    CorpusRequest,
    EngineEntry,
    FilesEntry,
    SplitEntry,
    write_manifest,
)
from tinyllama.corpus.shards import SHARD_TOKENS, ShardEntry, shard_name
from tinyllama.layout import FamilyLayout
from tinyllama.recipe import dump_recipe, load_recipe
from tinyllama.record_files import FileEntry

if TYPE_CHECKING:
    from pathlib import Path

TEXT = """The flagship's plan over corpora of their real sizes, whose shards are sparse files of zeros, and whose
indices list five million documents each, in files of 100,000. The command is run anew for each document and prints the
steps at which all models of the family see it (RUN), or math_code alone (RUN/MODEL); wall-clock seconds, its start
included."""
GROUP = 1 << 16
"""Documents in a part of the index, about as many as `prepare` writes."""
PER_FILE, HELD_OUT_TOKENS = 100_000, 10_000_000
MODEL = "math_code"


def main() -> None:
    """Measure documents at the beginning, in the middle and at the end of each corpus."""
    asked = standard_arguments(__doc__).parse_args()
    documents, repeats = (50_000, 1) if asked.quick else (5_000_000, 3)
    layout = FamilyLayout(asked.out / "work" / "lookup")
    shutil.rmtree(layout.root, ignore_errors=True)
    recipe = load_recipe("tinyllama-v1.1")
    corpora = {name: None for model in recipe.models for name in recipe.corpora_of(model)}
    layout.model(MODEL).mkdir(parents=True)
    layout.recipe.write_text(dump_recipe(recipe), encoding="utf-8")
    for name in corpora:
        _write_corpus(layout.corpus(name), recipe.corpora[name].size or 0, documents)
    indices = [path.stat().st_size for path in layout.corpora.rglob(index_file(TRAIN))]
    rows = []
    slowest = 0.0
    for name in corpora:
        forms = [layout.root] + [layout.model(MODEL)] * (name in recipe.corpora_of(MODEL))
        for where, number in (("first", 0), ("middle", documents // 2), ("last", documents - 1)):
            origin = _origin(name, number)
            medians = [statistics.median(_seconds(folder, origin) for _ in range(repeats)) for folder in forms]
            slowest = max(slowest, *medians)
            shown = [f"{median:.2f}" for median in medians]
            rows.append([name, where, *shown, *["not read"] * (2 - len(shown))])
    table = Table(["corpus", "document", "RUN, median, s", f"RUN/{MODEL}, median, s"], rows)
    claims = [Claim("slowest of the documents, seconds", slowest, most=2.0, unit=" s")]
    facts = {"documents": documents, "slowest": slowest, "index_bytes": max(indices)}
    text = f"{TEXT} The largest index has {max(indices) / 1e6:,.0f} MB."
    publish(Result("lookup", "Finding a document", text, [table], claims, facts=facts), asked.out)


def _origin(corpus: str, number: int) -> str:
    return f"{corpus}/part-{number // PER_FILE:06}.jsonl.zst:{number % PER_FILE + 1}"


def _seconds(folder: Path, origin: str) -> float:
    command = [*TINYLLAMA, "inspect", str(folder), "--document", origin, "--json"]
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    taken = time.perf_counter() - began
    if origin not in done.stdout:
        raise RuntimeError(f"{origin} is not found: {done.stdout}")
    return taken


def _write_corpus(folder: Path, tokens: int, documents: int) -> None:
    """A corpus whose tokens are all 0 and take no room on a disk."""
    folder.mkdir(parents=True)
    sizes = {TRAIN: (tokens - HELD_OUT_TOKENS, documents), HELD_OUT: (HELD_OUT_TOKENS, documents // 100)}
    splits = {}
    for split in SPLITS:
        total, count = sizes[split]
        splits[split] = SplitEntry(documents=count, tokens=total, bytes=4 * total, shards=_shards(folder, split, total))
        _write_index(folder / index_file(split), folder.name, total, count, first=documents if split == HELD_OUT else 0)
    request = CorpusRequest.model_validate({"tokenizer": "0" * 64, "bos": True, "eos": True})
    manifest = CorpusManifest(
        corpus=folder.name, license="none", request=request, bos_id=1,
        eos_id=2, rejected=0, quarantined={}, sources=(FilesEntry(files=f"{folder.name}/*.jsonl.zst"),),
        engine=EngineEntry(name="none", checked=0), dtype="uint16", splits=splits,
        files={path.name: FileEntry(bytes=path.stat().st_size, sha256="0" * 64) for path in folder.iterdir()},
    )  # fmt: skip
    write_manifest(folder, manifest)


def _shards(folder: Path, split: str, tokens: int) -> tuple[ShardEntry, ...]:
    lengths = [SHARD_TOKENS] * (tokens // SHARD_TOKENS) + [tokens % SHARD_TOKENS]
    entries = []
    for number, length in enumerate(lengths):
        file = folder / shard_name(split, number)
        file.touch()
        os.truncate(file, 2 * length)
        entries.append(ShardEntry(file=file.name, tokens=length, sha256="0" * 64))
    return tuple(entries)


def _write_index(path: Path, corpus: str, tokens: int, documents: int, *, first: int) -> None:
    """An index of documents of about equal length."""
    starts = np.arange(documents + 1, dtype=np.int64) * tokens // documents
    with parquet.ParquetWriter(path, index_schema(), compression="zstd") as writer:
        for begin in range(0, documents, GROUP):
            end = min(begin + GROUP, documents)
            origins = [_origin(corpus, first + number) for number in range(begin, end)]
            lengths = np.diff(starts[begin : end + 1])
            columns = [starts[begin:end], lengths, 4 * lengths, origins, origins, np.zeros(end - begin, np.int64)]
            writer.write_table(pa.table(columns, schema=index_schema()), row_group_size=GROUP)


if __name__ == "__main__":
    main()
