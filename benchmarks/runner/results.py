"""A benchmark's result, as JSON, Markdown and charts."""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyllama.files import write_atomic, write_json
from tinyllama.train.machine import describe_machine

from .chart import draw

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .chart import Chart

_LIBRARIES = ("torch", "transformers", "litgpt", "lm-eval")
_DECISIVE = ("OMP_", "MKL_", "KMP_", "GOMP_", "LD_PRELOAD", "MALLOC_", "TORCH")
"""Beginnings of the names of variables that change how fast things are."""


@dataclass(frozen=True)
class Table:
    """Rows under headings."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """Text on the left, everything else on the right."""
        lines = [self.columns, ["---", *["---:"] * (len(self.columns) - 1)], *self.rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)


@dataclass(frozen=True)
class Claim:
    """A requirement, with the measured value."""

    text: str
    value: float
    least: float | None = None
    most: float | None = None
    unit: str = ""

    @property
    def holds(self) -> bool:
        """Whether the value meets the requirement."""
        return (self.least is None or self.value >= self.least) and (self.most is None or self.value <= self.most)

    def row(self) -> list[str]:
        """Its row in a table of claims."""
        limit = f"at least {self.least:g}" if self.least is not None else f"at most {self.most:g}"
        return [self.text, f"{self.value:.3g}{self.unit}", f"{limit}{self.unit}", "yes" if self.holds else "**no**"]


@dataclass(frozen=True)
class Result:
    """The result of one benchmark."""

    name: str
    title: str
    text: str
    """What was measured, and how."""
    tables: Sequence[Table] = ()
    claims: Sequence[Claim] = ()
    charts: Sequence[Chart] = ()
    facts: dict[str, Any] = field(default_factory=dict)
    """Everything measured, for JSON."""

    def markdown(self) -> str:
        """A section of a page."""
        parts = [f"## {self.title}", self.text, *(table.markdown() for table in self.tables)]
        if self.claims:
            parts.append(Table(["requirement", "measured", "limit", "met"], [c.row() for c in self.claims]).markdown())
        if self.charts:
            parts.append(f"![{self.title}](benchmarks/{self.name}.svg)")
        return "\n\n".join(parts) + "\n"


def standard_arguments(description: str) -> argparse.ArgumentParser:
    """A parser with what every benchmark takes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="tiny, to see that it works; the figures mean nothing")
    parser.add_argument(
        "--out", type=Path, default=Path("build/benchmarks"), help="folder of results (default: %(default)s)"
    )
    return parser


def publish(result: Result, out: Path) -> None:
    """Print a result, and write it as `<name>.json`, `<name>.md` and, if it has charts, `<name>.svg`."""
    document = {
        "benchmark": result.name,
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "machine": describe_machine(),
        "libraries": _versions(),
        "environment": {name: value for name, value in os.environ.items() if name.startswith(_DECISIVE)},
        "claims": [asdict(claim) | {"holds": claim.holds} for claim in result.claims],
        **result.facts,
    }
    text = result.markdown()
    write_json(out / f"{result.name}.json", document)
    write_atomic(out / f"{result.name}.md", text)
    if result.charts:
        write_atomic(out / f"{result.name}.svg", draw(result.charts))
    print(text)


def _versions() -> dict[str, str]:
    found = {}
    for library in _LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    return found
