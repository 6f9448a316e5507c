"""Rows of corpora of 300M rows: at once, in flat memory. The shards are sparse files."""

import os
import time
from pathlib import Path

import numpy as np
import pytest

from tinyllama.corpus.rows import Rows
from tinyllama.corpus.shards import SHARD_TOKENS, TokenStream
from tinyllama.plan import compile_plan
from tinyllama.recipe import load_recipe
from tinyllama.sampler import Sampler

CONTEXT = 2048
SIZES = {"prose": 300_000_000, "code": 100_000_000, "arithmetic": 30_000_000, "chinese": 20_000_000}
"""Rows of each corpus: 0.9T tokens in all."""


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Rows]:
    folder = tmp_path_factory.mktemp("sparse")
    return {name: Rows(sparse(folder, name, size * CONTEXT + 1), CONTEXT, name) for name, size in SIZES.items()}


def sparse(folder: Path, name: str, tokens: int) -> TokenStream:
    lengths = [SHARD_TOKENS] * (tokens // SHARD_TOKENS) + [tokens % SHARD_TOKENS]
    files = [folder / f"{name}-{number:05d}.bin" for number in range(len(lengths))]
    for file, length in zip(files, lengths, strict=True):
        file.touch()
        os.truncate(file, 2 * length)
    return TokenStream(files, lengths, np.dtype("<u2"))


def mark(rows: Rows, index: int) -> None:
    """Write a row's number into its first target."""
    shard, offset = divmod(index * CONTEXT + 1, SHARD_TOKENS)
    with rows.stream._files[shard].open("r+b") as file:  # noqa: SLF001  # where it is
        file.seek(2 * offset)
        file.write(np.uint16(1 + index % 60_000).tobytes())


def anonymous_memory() -> int:
    """Bytes of this process that are no file's."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon"))


def test_a_resume_on_300m_rows_serves_the_right_rows_in_under_a_second(rows: dict[str, Rows]) -> None:
    plan = compile_plan(load_recipe("nano"), "math_code")
    chosen = Sampler(plan, 1, SIZES).step(plan.steps - 1)
    places = [(plan.corpora[c], r) for c, r in zip(chosen.corpus.tolist(), chosen.row.tolist(), strict=True)]
    for name, row in places:
        mark(rows[name], row)
    began = time.process_time()
    again = Sampler(plan, 1, {name: len(rows[name]) for name in plan.corpora}).step(plan.steps - 1)
    targets = [rows[plan.corpora[c]].row(r)[1] for c, r in zip(again.corpus.tolist(), again.row.tolist(), strict=True)]
    assert time.process_time() - began < 1
    assert [int(row[0]) for row in targets] == [1 + row % 60_000 for _, row in places]


def test_memory_stays_flat_over_files_that_no_process_could_hold_open(rows: dict[str, Rows]) -> None:
    dice = np.random.default_rng(1)
    stream = rows["prose"]
    for index in dice.integers(0, len(stream), 200).tolist():
        stream.row(index)
    before = anonymous_memory()
    for index in dice.integers(0, len(stream), 2000).tolist():
        stream.row(index)
    assert anonymous_memory() - before < 8 << 20
    assert len(list(Path("/proc/self/fd").iterdir())) < 600
