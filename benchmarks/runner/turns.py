"""Engines in turns: warmed up one by one, then measured round after round, so that a disturbance meets all of them."""

from __future__ import annotations

import statistics
import sys
import time
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from .process import EngineError, Process

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from .process import Engine

Outcome = TypeVar("Outcome")


class Losses(Protocol):
    """Something that trained."""

    @property
    def losses(self) -> list[float]:
        """Of each step, in nats, before its update."""


@dataclass(frozen=True)
class Measured:
    """The measurements of one engine."""

    seconds: list[float]
    """Of a step, one value per turn."""
    first_step: float
    """Seconds from the start of the process to the end of its first step."""
    memory: int
    """Peak resident bytes."""
    records: list[dict[str, Any]]
    """Its steps."""

    @property
    def median(self) -> float:
        """Seconds of a step."""
        return statistics.median(self.seconds)

    @property
    def losses(self) -> list[float]:
        """Of each step, in nats, before its update."""
        return [record["loss"] for record in self.records]

    def as_dict(self, tokens: int) -> dict[str, Any]:
        """Plain data for JSON; `tokens` are those of a step."""
        return {
            "tokens_per_second": tokens / self.median,
            "seconds_per_step": self.seconds,
            "first_step_seconds": self.first_step,
            "peak_memory_bytes": self.memory,
            "losses": self.losses,
        }


def in_turns(
    engines: Sequence[Engine], *, warmup: int, rounds: int, seconds: float, timeout: float = 300.0
) -> dict[str, Measured]:
    """Measure engines against each other.

    Args:
        engines: in the order in which they start and take turns.
        warmup: steps of each before the first round, compilation among them.
        rounds: turns of each.
        seconds: that a turn lasts at least; it ends with a step.
        timeout: of the warm-up, and of a turn.

    Returns:
        The engines that ran, by name; stderr tells why another did not.
    """
    environments: dict[str, dict[str, str]] = {}
    times: dict[str, list[float]] = {}
    with ExitStack() as stack:
        running: dict[str, Process] = {}
        for engine in engines:
            _say(f"{engine.name}: warming up")
            if engine.tuned_as is not None and engine.tuned_as not in environments:
                _say(f"{engine.name}: skipped, because {engine.tuned_as} does not run")
                continue
            process = stack.enter_context(Process(engine, environments.get(engine.tuned_as or "")))
            try:
                process.run_to(warmup, timeout)
            except EngineError as error:
                process.kill()
                _say(str(error))
                continue
            running[engine.name] = process
            environments[engine.name] = process.own_environment()
        for number in range(rounds):
            _say(f"round {number + 1} of {rounds}")
            for name, process in list(running.items()):
                try:
                    times.setdefault(name, []).append(process.turn(seconds, timeout))
                except EngineError as error:
                    del running[name]
                    process.kill()
                    _say(str(error))
        return {
            name: Measured(times[name], process.stamps[1].clock, process.peak_memory(), process.records)
            for name, process in running.items()
        }


def calls_in_turns(
    runs: Mapping[str, Callable[[], Outcome]], rounds: int
) -> tuple[dict[str, list[tuple[float, float]]], dict[str, Outcome]]:
    """Functions of this process in turns: (wall, processor) seconds of each in every round, and its last result."""
    seconds: dict[str, list[tuple[float, float]]] = defaultdict(list)
    outcomes: dict[str, Outcome] = {}
    for _ in range(rounds):
        for name, run in runs.items():
            wall, processor = time.perf_counter(), time.process_time()
            outcomes[name] = run()
            seconds[name].append((time.perf_counter() - wall, time.process_time() - processor))
    return seconds, outcomes


def ratio(measured: Mapping[str, Measured], faster: str, slower: str) -> float | None:
    """How many times as fast one engine is as another, by medians; None unless both ran."""
    if faster not in measured or slower not in measured:
        return None
    return measured[slower].median / measured[faster].median


def loss_differences(measured: Mapping[str, Losses], reference: str, steps: Mapping[str, int]) -> dict[str, float]:
    """Largest difference of each engine's losses from the reference's, in nats.

    All start from the same weights and see the same rows, so that their losses agree as far as precision lets them.

    Args:
        measured: the engines.
        reference: name of the one that the others must equal.
        steps: how many first steps to compare, by engine; others are not compared.
    """
    if reference not in measured:
        return {}
    losses = measured[reference].losses
    return {
        name: _largest([one - other for one, other in zip(measured[name].losses[:count], losses, strict=False)])
        for name, count in steps.items()
        if name in measured
    }


def _largest(differences: list[float]) -> float:
    """NaN if any of them is NaN."""
    return float(np.max(np.abs(differences)))


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
