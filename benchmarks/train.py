"""Training speed, compared with the tools that people use: python benchmarks/train.py [--quick]."""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
from runner import (
    Chart,
    Claim,
    Engine,
    Measured,
    Result,
    Table,
    in_turns,
    loss_differences,
    matrix_peak,
    publish,
    ratio,
    speed_family,
    standard_arguments,
    tinyllama_train,
    write_inputs,
)
from runner.machine import PEAK, WORKERS, measured_peak
from runner.shapes import TINY, M, S, Shape, mini

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OURS = "tinyllama train"
FP32, BF16, COMPILED = (
    "transformers Trainer, fp32",
    "transformers Trainer, bf16",
    "transformers Trainer, bf16, compiled",
)
LITGPT = "litgpt pretrain, bf16-mixed"
LOOP, LITGPT_TUNED, PLAIN = "transformers, bf16, compiled, tuned", "litgpt pretrain, bf16, tuned", "plain loop, tuned"
KEPT_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str((1 << 31) - 1)}
"""What makes glibc keep freed memory; other allocators don't look at it."""
INPUT_STEPS = 64
"""Steps whose rows other engines get; they begin again after them."""

TEXT = """Tokens per second of whole optimizer steps: forward, backward, clipping and update (AdamW). Each engine is a
process of its own, and the engines take turns; a figure is the median of an engine's turns. `tinyllama train` is the
command itself with default options, including feed, logging and start. The Trainer and litgpt's `pretrain` come from
their packages, with the options named. The engines called *tuned* run with the environment that `tinyllama train` sets
for its own process (allocator, threads) and with glibc set to keep freed memory; their weights are bf16, and the two
loops add fp32 masters and fused AdamW. All engines start from the same weights and see the same rows; their first
losses are compared. The limit is the matrix peak in bf16, measured in turns with the engines, over
6·(parameters - input embedding) + 6·layers·width·context FLOPs per token."""

ALL = (OURS, FP32, BF16, COMPILED, LITGPT, LOOP, LITGPT_TUNED, PLAIN)
ENGINES = {
    "S": ALL,
    "M": (OURS, FP32, LOOP, LITGPT_TUNED, PLAIN),
    "mini": (OURS, FP32, COMPILED),
    "tiny": (OURS, FP32, PLAIN),
}
"""Which engines are measured at which shape."""
PROMISED = {
    "S": ((FP32, 4.0), (COMPILED, 1.8), (LOOP, 1.05), (LITGPT_TUNED, 1.12)),
    "M": ((FP32, 4.5), (LOOP, 1.0), (LITGPT_TUNED, 1.05)),
}
"""How many times as fast as which engine ours shall be."""
SAME = "largest difference of losses from fp32, nats"
TOLERANCE = 0.02
"""bf16 keeps three significant digits."""
OF_PEAK = {"S": 0.62, "M": 0.70}
"""Fraction of the matrix peak that ours shall reach."""


def main() -> None:
    """Measure the shapes asked for."""
    parser = standard_arguments(__doc__)
    parser.add_argument("--shapes", nargs="+", default=["S", "M", "mini"])
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=2.0, help="that a turn lasts at least")
    asked = parser.parse_args()
    shapes = [TINY] if asked.quick else [shape for shape in (S, M, mini()) if shape.name in asked.shapes]
    rounds, seconds = (2, 0.1) if asked.quick else (asked.rounds, asked.seconds)
    result = _result({shape: measure(shape, asked.out, rounds, seconds) for shape in shapes})
    publish(result, asked.out)
    if not all(claim.holds for claim in result.claims if SAME in claim.text):
        sys.exit("the engines do not compute the same; their speeds must not be compared")


def measure(shape: Shape, out: Path, rounds: int, seconds: float) -> dict[str, Measured]:
    """Let a shape's engines take turns."""
    work = out / "work"
    family = speed_family(work, shape.name, shape.overrides)
    inputs = family / "inputs"
    write_inputs(family, inputs, shape.overrides, INPUT_STEPS)
    engines = [tinyllama_train(OURS, family, shape.overrides), *_others(shape, family, inputs)]
    return in_turns([matrix_peak(work), *engines], warmup=3, rounds=rounds, seconds=seconds)


def _others(shape: Shape, family: Path, inputs: Path) -> Iterator[Engine]:
    """All other engines, in the order of the shape's list."""
    scripts: dict[str, tuple[str, list[str]]] = {
        FP32: ("transformers_trainer", []),
        BF16: ("transformers_trainer", ["--bf16"]),
        COMPILED: ("transformers_trainer", ["--bf16", "--compile"]),
        LITGPT: ("litgpt_pretrain", ["bf16-mixed"]),
        LOOP: ("transformers_loop", []),
        LITGPT_TUNED: ("litgpt_pretrain", ["bf16-true"]),
        PLAIN: ("plain_loop", []),
    }
    for number, name in enumerate(ENGINES[shape.name][1:]):
        script, options = scripts[name]
        if script == "litgpt_pretrain" and importlib.util.find_spec("litgpt") is None:
            sys.stderr.write(f"{name}: skipped, because litgpt is not installed\n")
            continue
        folder = family / f"engine-{number}"
        folder.mkdir()
        records = folder / "records.jsonl"
        command = [sys.executable, str(WORKERS / f"{script}.py"), str(inputs), str(records), *options]
        if name.endswith("tuned"):
            yield Engine(name, command, folder, records, KEPT_MEMORY, tuned_as=OURS)
        else:
            yield Engine(name, command, folder, records)


def _result(found: dict[Shape, dict[str, Measured]]) -> Result:
    tables: list[Table] = []
    charts: list[Chart] = []
    claims: list[Claim] = []
    facts: dict[str, Any] = {}
    for shape, measured in found.items():
        peak = measured_peak(measured[PEAK].records)
        limit = peak / shape.flops_per_token
        engines = {name: one for name, one in measured.items() if name != PEAK}
        tables.append(_table(shape, engines, limit))
        bars = [(name, shape.tokens / one.median) for name, one in engines.items()]
        charts.append(Chart(shape.label, "tokens/s", bars, limit, "matrix peak:"))
        claims += _claims(shape.name, measured, shape.tokens / measured[OURS].median / limit)
        facts[shape.name] = {"matrix_peak_flops": peak, "flops_per_token": shape.flops_per_token} | {
            "engines": {name: one.as_dict(shape.tokens) for name, one in engines.items()}
        }
    return Result("train", "Training", TEXT, tables, claims, charts, facts)


def _table(shape: Shape, engines: dict[str, Measured], limit: float) -> Table:
    ours = engines[OURS].median
    rows = [
        [
            name,
            f"{shape.tokens / one.median:,.0f}",
            f"{shape.tokens / one.median / limit:.1%}",
            f"{one.median / ours:.2f}",
            f"{one.memory / 2**30:.2f}",
            f"{one.first_step:.0f}",
        ]
        for name, one in engines.items()
    ]
    columns = [shape.label, "tokens/s", "of peak", "our speedup", "peak GiB", "first step, s"]
    return Table(columns, rows)


def _claims(shape: str, measured: dict[str, Measured], of_peak: float) -> Iterator[Claim]:
    """Claims about a shape; engines that did not run make none."""
    for other, least in PROMISED.get(shape, ()):
        if (times := ratio(measured, OURS, other)) is not None:
            yield Claim(f"{shape}: as fast as {other}, times", times, least=least)
    if shape in OF_PEAK:
        yield Claim(f"{shape}: fraction of the matrix peak", of_peak, least=OF_PEAK[shape])
    # litgpt has a learning rate of its own, which shows after the first step.
    compared = {name: 1 if "litgpt" in name else 3 for name in ENGINES[shape] if name != FP32}
    if differences := loss_differences(measured, FP32, compared):
        yield Claim(f"{shape}: {SAME}", float(np.max(list(differences.values()))), most=TOLERANCE)
    if shape == "S" and FP32 in measured:
        yield Claim("S: peak memory over that of fp32", measured[OURS].memory / measured[FP32].memory, most=0.5)


if __name__ == "__main__":
    main()
