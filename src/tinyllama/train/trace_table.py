"""Where the time of profiled steps went, as a table made from their Chrome trace.

A part of a step is an annotation in the trace. The host's time is that of the annotation, which lasts until the host is
through with it; the device works later, so each kernel counts for the part in which the host launched it.
"""

from __future__ import annotations

import gzip
import json
from bisect import bisect_right
from collections import defaultdict
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING

from pydantic import TypeAdapter

from tinyllama.text import markdown_table, percent

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

PREFIX = "tinyllama: "
"""Begins the names of our annotations."""
STEP, WAIT = "step", "data wait"
PARTS = (WAIT, "forward", "backward", "optimizer", "held-out losses", "checkpoint")
"""Parts of a step, in the order of the table; the rest of the step is `other`."""
_ON_DEVICE = {"kernel", "gpu_memcpy", "gpu_memset"}
_LAUNCHES = {"cuda_runtime", "cuda_driver", "xpu_runtime"}
_MOST = 15
"""Kernels or operators that are listed."""
_LONGEST = 90
"""Characters of a kernel's name."""


@dataclass(frozen=True)
class Event:
    """Something that lasted, in a trace."""

    name: str
    ts: float
    """Beginning, in microseconds."""
    dur: float
    """Duration, in microseconds."""
    cat: str = ""
    tid: int | str = 0
    correlation: int | None = None
    """What a kernel shares with the call that launched it."""

    @property
    def end(self) -> float:
        """In microseconds."""
        return self.ts + self.dur


_EVENTS = TypeAdapter(list[Event])


def read_trace(path: Path) -> list[Event]:
    """The events with a duration in a compressed Chrome trace, in order of their beginnings."""
    with gzip.open(path, "rt", encoding="utf-8", errors="replace") as file:
        found = [event for event in json.load(file)["traceEvents"] if event.get("ph") == "X"]
    events = _EVENTS.validate_python(
        [{"correlation": event.get("args", {}).get("correlation"), **event} for event in found]
    )
    return sorted(events, key=lambda event: (event.ts, -event.dur))


def trace_table(events: Sequence[Event], title: str) -> str:
    """A page in Markdown: the parts of a step, then what the device, or else the host, spent most time on."""
    ours = [event for event in events if event.cat == "user_annotation" and event.name.startswith(PREFIX)]
    steps = [event for event in ours if event.name == f"{PREFIX}{STEP}"]
    parts = [event for event in ours if event.name != f"{PREFIX}{STEP}"]
    kernels = [event for event in events if event.cat in _ON_DEVICE]
    count, total, launches = max(1, len(steps)), sum(event.dur for event in steps), _launches(events)
    host = _sums((event.name.removeprefix(PREFIX), event.dur) for event in parts)
    host["other"] = total - sum(host.values())
    device = _sums((_part_of(kernel, parts, launches), kernel.dur) for kernel in kernels)

    def row(name: str, spent: float, worked: float) -> list[str]:
        cells = [name, _per_step(spent, count), percent(spent / total if total else 0.0, 1)]
        return [*cells, _per_step(worked, count)] if kernels else cells

    rows = [row(name, host[name], device[name]) for name in (*PARTS, "other")]
    rows.append(row("all", total, sum(device.values())))
    header = ["part", "ms of the host per step", "%", *(["ms of the device per step"] if kernels else [])]
    if kernels:
        top = _top("kernel", [(event.name, event.dur) for event in kernels], count)
    else:
        top = _top("operator", _own_times(events), count)
    return f"# {title}\n\n{markdown_table(header, rows)}\n\n{top}\n"


def _top(what: str, costs: list[tuple[str, float]], steps: int) -> str:
    """A table of the names that took most time, from the time of each call."""
    sums, calls = _sums(costs), _sums((name, 1.0) for name, _ in costs)
    total = max(sum(sums.values()), 1e-9)
    rows = [
        [f"`{name[:_LONGEST]}`", f"{calls[name] / steps:.1f}", _per_step(spent, steps), percent(spent / total, 1)]
        for name, spent in sorted(sums.items(), key=itemgetter(1), reverse=True)[:_MOST]
    ]
    return markdown_table([what, "calls per step", "ms per step", "%"], rows)


def _own_times(events: Sequence[Event]) -> list[tuple[str, float]]:
    """Each operator's name and its time without that of the operators inside it, in microseconds."""
    own: list[list[float]] = []
    names: list[str] = []
    open_calls: dict[int | str, list[tuple[float, int]]] = defaultdict(list)
    for event in events:
        if event.cat != "cpu_op":
            continue
        outer = open_calls[event.tid]
        while outer and outer[-1][0] <= event.ts:
            outer.pop()
        if outer:
            own[outer[-1][1]].append(-event.dur)
        outer.append((event.end, len(own)))
        own.append([event.dur])
        names.append(event.name)
    return [(name, sum(spent)) for name, spent in zip(names, own, strict=True)]


def _launches(events: Sequence[Event]) -> dict[int, float]:
    """Correlation of a kernel → when the host launched it."""
    calls = [event for event in events if event.cat in _LAUNCHES]
    return {event.correlation: event.ts for event in calls if event.correlation is not None}


def _part_of(kernel: Event, parts: Sequence[Event], launches: dict[int, float]) -> str:
    """The part of a step in which a kernel was launched; parts do not overlap."""
    at = launches.get(kernel.correlation or 0, kernel.ts)
    index = bisect_right(parts, at, key=lambda event: event.ts) - 1
    inside = index >= 0 and at <= parts[index].end
    return parts[index].name.removeprefix(PREFIX) if inside else "other"


def _sums(items: Iterable[tuple[str, float]]) -> defaultdict[str, float]:
    found: defaultdict[str, float] = defaultdict(float)
    for name, value in items:
        found[name] += value
    return found


def _per_step(microseconds: float, steps: int) -> str:
    return f"{microseconds / steps / 1000:,.2f}"
