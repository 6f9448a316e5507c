"""Whether training keeps its speed and memory for an hour: python benchmarks/steady.py [--quick]."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner import (
    Claim,
    Process,
    Result,
    Table,
    matrix_peak,
    publish,
    speed_family,
    standard_arguments,
    tinyllama_train,
)
from runner.machine import measured_peak
from runner.shapes import TINY, S

if TYPE_CHECKING:
    from pathlib import Path

    from runner.shapes import Shape

TEXT = """`tinyllama train` at shape S for {minutes:g} minutes, with a checkpoint and held-out losses every {every:,}
tokens, whose time counts too. After each {span:g} minutes, the machine's matrix peak is measured briefly: other work on
the machine affects both. Memory is the peak of the process until then."""
SPANS = 6
"""Parts of the time that are compared."""


def main() -> None:
    """Train for long, and compare the parts."""
    asked = standard_arguments(__doc__ or "").parse_args()
    shape, minutes = (TINY, 0.02) if asked.quick else (S, 60.0)
    every = 120 * shape.tokens
    spans = _measure(shape, asked.out / "work", 60 * minutes / SPANS, every)
    rows = [
        [f"{(number + 1) * minutes / SPANS:g}", f"{speed:,.0f}", f"{of_peak:.1%}", f"{memory / 2**30:.3f}"]
        for number, (speed, of_peak, memory) in enumerate(spans)
    ]
    (speed, of_peak, memory), (last_speed, last_of_peak, last_memory) = spans[0], spans[-1]
    claims = [
        Claim("speed of the last part over that of the first", last_speed / speed, least=0.95),
        Claim("its fraction of the matrix peak over that of the first", last_of_peak / of_peak, least=0.95),
        Claim("peak memory after the last part over that after the first", last_memory / memory, most=1.02),
    ]
    text = TEXT.format(minutes=minutes, every=every, span=minutes / SPANS)
    table = Table(["after minutes", "tokens/s", "of peak", "peak GiB"], rows)
    publish(Result("steady", "Steady", text, [table], claims, facts={"spans": spans}), asked.out)


def _measure(shape: Shape, work: Path, seconds: float, every: int) -> list[tuple[float, float, int]]:
    """For each part: tokens per second, their fraction of the matrix peak after it, and peak bytes of memory."""
    overrides = [*shape.overrides, f"checkpoints.every={every}", f"evaluation.every={every}", "evaluation.rows=8"]
    family = speed_family(work, f"steady-{shape.name}", shape.overrides)
    spans = []
    with Process(tinyllama_train("tinyllama train", family, overrides)) as process:
        process.run_to(3, timeout=300)
        for _ in range(SPANS):
            speed = shape.tokens / process.turn(seconds, timeout=seconds + 300)
            memory = process.peak_memory()
            with Process(matrix_peak(work)) as peak:
                peak.run_to(20, timeout=300)
            of_peak = speed * shape.flops_per_token / measured_peak(peak.records)
            spans.append((speed, of_peak, memory))
    return spans


if __name__ == "__main__":
    main()
