"""The share of feeding and logging in a training step: python benchmarks/feed.py [--quick]."""

from __future__ import annotations

import dataclasses
import os
import statistics
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from runner import Claim, Result, Table, in_turns, publish, speed_family, standard_arguments, tinyllama_train
from runner.inputs import RECIPE, open_feed
from runner.shapes import TINY, S

from tinyllama.cli.progress import TerminalProgress
from tinyllama.corpus.rows import Rows
from tinyllama.corpus.shards import SHARD_TOKENS, TokenStream, shard_name, token_dtype
from tinyllama.plan import compile_plan
from tinyllama.recipe import load_recipe
from tinyllama.sampler import Sampler
from tinyllama.train.feeder import read_step
from tinyllama.train.metrics import JsonlLogger, StepRecord
from tinyllama.train.trackers import TensorBoardLogger

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tinyllama.train.metrics import Logger, Record

TEXT = """Processor time to choose and read a step's rows, and to log its record (metrics.jsonl, TensorBoard and the
terminal), relative to the wall-clock time of a whole step of `tinyllama train` at shape S. A thread reads the next
step's rows while the trainer works; all of its time counts here. The maximum speed of the feed is measured on a step
of the flagship: 1.8M tokens of a mixture of three corpora, which are sparse files of their real sizes. The step is
read repeatedly, from the page cache, on one core."""

OURS = "tinyllama train"


def main() -> None:
    """Measure one step of training, feeding and logging."""
    asked = standard_arguments(__doc__).parse_args()
    shape, repeats = (TINY, 20) if asked.quick else (S, 300)
    family = speed_family(asked.out / "work", f"feed-{shape.name}", shape.overrides)
    engine = tinyllama_train(OURS, family, shape.overrides)
    measured = in_turns([engine], warmup=3, rounds=5, seconds=0.1 if asked.quick else 2.0)[OURS]
    recipe = load_recipe(str(RECIPE), shape.overrides)
    plan, sampler, rows = open_feed(family, recipe)
    feeding = _median_seconds(lambda step: read_step(plan, sampler, rows, step), repeats)
    fastest = _most_tokens_a_second(asked.out / "work" / "sparse")
    loggers = _loggers(family / "logged", TerminalProgress().training("base", plan, "model 1 of 1"))
    fields = {field.name for field in dataclasses.fields(StepRecord)}  # a line has more: its place in the chain
    record = StepRecord(**{name: value for name, value in measured.records[-1].items() if name in fields})
    logging = _median_seconds(lambda step: _log(loggers, replace(record, step=step)), repeats)
    table = Table(
        ["", "ms", "of a step"],
        [
            ["step", f"{measured.median * 1e3:.1f}", "100%"],
            ["rows", f"{feeding * 1e3:.3f}", f"{feeding / measured.median:.3%}"],
            ["logging", f"{logging * 1e3:.3f}", f"{logging / measured.median:.3%}"],
        ],
    )
    most = Table(["of the flagship", "million tokens per second"], [["rows, one core", f"{fastest / 1e6:.1f}"]])
    claims = [
        Claim("feed, percent of a step", 100 * feeding / measured.median, most=1, unit="%"),
        Claim("logging, percent of a step", 100 * logging / measured.median, most=0.5, unit="%"),
        Claim("rows of the flagship, million tokens per second on one core", fastest / 1e6, least=50, unit="M"),
    ]
    facts = {"step_seconds": measured.seconds, "feed_seconds": feeding, "logging_seconds": logging, "most": fastest}
    publish(Result("feed", "Feed and logging", TEXT, [table, most], claims, facts=facts), asked.out)


def _most_tokens_a_second(folder: Path) -> float:
    """Maximum tokens per second, on a step of the flagship in the middle of the variant that mixes most corpora."""
    recipe = load_recipe("tinyllama-v1.1")
    plan = compile_plan(recipe, "math_code")
    sizes = {name: size for name in plan.corpora if (size := recipe.corpora[name].size) is not None}
    rows = {name: _sparse_rows(folder, name, size, plan.context) for name, size in sizes.items()}
    sampler = Sampler(plan, recipe.seed, {name: len(part) for name, part in rows.items()})
    step = (plan.fork_step + plan.steps) // 2
    batch = read_step(plan, sampler, rows, step)  # into the page cache
    return batch.inputs.numel() / _median_seconds(lambda _: read_step(plan, sampler, rows, step), 9)


def _sparse_rows(folder: Path, name: str, tokens: int, context: int) -> Rows:
    """Rows of a corpus of zeros, which takes no room on a disk."""
    folder.mkdir(parents=True, exist_ok=True)
    lengths = [SHARD_TOKENS] * (tokens // SHARD_TOKENS) + [tokens % SHARD_TOKENS]
    files = [folder / shard_name(name, number) for number in range(len(lengths))]
    for file, length in zip(files, lengths, strict=True):
        file.touch()
        os.truncate(file, 2 * length)
    return Rows(TokenStream(files, lengths, token_dtype(1 << 15)), context, name)


def _loggers(folder: Path, screen: Logger) -> list[Logger]:
    """What a run logs to by default."""
    return [JsonlLogger(folder / "metrics.jsonl", 0), TensorBoardLogger(folder / "tensorboard", 0), screen]


def _log(loggers: list[Logger], record: Record) -> None:
    for logger in loggers:
        logger.log(record)


def _median_seconds(work: Callable[[int], object], repeats: int) -> float:
    """Processor seconds of all threads."""
    taken = []
    for step in range(repeats):
        began = time.process_time()
        work(step)
        taken.append(time.process_time() - began)
    return statistics.median(taken)


if __name__ == "__main__":
    main()
