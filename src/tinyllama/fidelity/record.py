"""One pass over a run's metrics.jsonl: each step compared with its row of the plan, and the chain followed."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Literal, NamedTuple

from tinyllama.errors import TrainingError
from tinyllama.fidelity.trained import skipped_span
from tinyllama.train.metrics import chain_start, link, read_lines, split_chain
from tinyllama.train.spikes import add_span

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tinyllama.checkpoint.state import Span
    from tinyllama.fidelity.run import OpenRun
    from tinyllama.train.metrics import OverflowRecord, SpikeRecord, StepRecord

_LR_TOLERANCE = 1e-12
"""Relative: machines compute a cosine with different last bits."""
_PASSED = {
    "stages": "as planned",
    "tokens": "as planned",
    "batch": "as planned",
    "learning rate": "as planned",
    "finite": "every loss and gradient norm is finite",
}


class Outcome(NamedTuple):
    """The result of one check of one model."""

    check: str
    result: Literal["pass", "FAIL", "no evidence"]
    detail: str
    """What was compared, or what differs."""
    step: int | None = None
    """The first step that differs, counted from 1."""


def differs(check: str, detail: str, step: int) -> Outcome:
    """The outcome of a check that found a difference."""
    return Outcome(check, "FAIL", detail, step)


class RecordedSteps:
    """The steps that a run recorded; holds the first difference of each check, and what the other checks need."""

    def __init__(self, run: OpenRun, wanted: list[int]) -> None:
        """Read the file.

        Args:
            run: the model's training.
            wanted: the steps after which the chain's head is kept: those with a checkpoint.
        """
        self._run, self._plan = run, run.plan
        self.first = self.last = run.first_step
        """The last step that was recorded."""
        self.digests: dict[int, str] = {}
        """Step → digest of its rows, for those that have one."""
        self.heads: dict[int, str] = {}
        """Step → head of the chain, for those that are wanted."""
        self.skipped: tuple[Span, ...] = ()
        self.skipped_at: dict[int, tuple[Span, ...]] = {}
        """Step → the spans that were skipped by then, for those that are wanted: a later rollback may reach behind
        a checkpoint that was not planned."""
        self._problems: dict[str, Outcome] = {}
        self._taken: Counter[str] = Counter()
        self._head = self.fork_chain = ""
        """Head of the parent's chain at the fork; empty if an earlier version began the file."""
        self._unchained = 0
        """The last step before the first link of the chain."""
        try:
            self._head = self.fork_chain = chain_start(run.layout.metrics(run.model))
            for record, line in read_lines(run.layout.metrics(run.model)):
                self._follow_chain(record.step, line)
                if record.kind != "held_out":
                    self._compare(record)
                if record.step in wanted:
                    self.heads[record.step], self.skipped_at[record.step] = self._head, self.skipped
        except TrainingError as error:
            self._differs("steps", str(error), self.last + 1)
        if late := [step for step in wanted if self.last < step <= self._plan.steps]:
            self._differs("steps", f"it is not recorded, and there is a checkpoint of step {late[0]}", self.last + 1)

    def findings(self) -> Iterator[Outcome]:
        """The results of the checks of the record alone."""
        if self.last == self.first and "steps" not in self._problems:
            yield Outcome("steps", "no evidence", "nothing is recorded")
            return
        skipped = sum(last - first + 1 for first, last in self.skipped)
        total = sum(self._taken.values()) or 1
        shares = ", ".join(f"{name} {tokens:,} ({tokens / total:.2%})" for name, tokens in self._taken.items())
        passed = {
            "steps": f"{self.first + 1} to {self.last} of {self._plan.steps}, each once; {skipped} updates skipped",
            **_PASSED,
            "shares": f"tokens of each corpus as planned: {shares}",
        }
        for check, text in passed.items():
            yield self._problems.get(check) or Outcome(check, "pass", text)
        until = min(self._unchained, self.last)
        if "chain" not in self._problems and until > self.first:
            yield Outcome("chain", "no evidence", f"an earlier version recorded steps {self.first + 1} to {until}")
        else:
            yield self._problems.get("chain") or Outcome("chain", "pass", "each line follows from those before it")

    def _differs(self, check: str, detail: str, step: int) -> None:
        self._problems.setdefault(check, differs(check, detail, step))

    def _follow_chain(self, step: int, line: bytes) -> None:
        text, chain = split_chain(line)
        if not chain and not self._head:
            self._unchained = step
        elif chain != link(self._head, text):
            self._differs("chain", "its line was changed, or a line before it is missing", step)
        self._head = chain

    def _compare(self, record: StepRecord | SpikeRecord | OverflowRecord) -> None:
        """Compare a step with its row of the plan."""
        step, plan, expected = record.step, self._plan, self.last + 1
        if step != expected:
            what = "it is not recorded" if step > expected else "it is recorded again"
            self._differs("steps", f"{what}: step {step} follows step {self.last}", min(step, expected))
        if not 1 <= step <= plan.steps:
            self._differs("steps", f"the plan has {plan.steps} steps", step)
            return
        self.last, row = step, step - 1
        if record.digest:
            self.digests[step] = record.digest
        self._same("stages", step, record.stage, plan.stages[plan.stage[row]])
        self._same("tokens", step, record.tokens, plan.tokens_after(step))
        if (span := skipped_span(record)) is not None:
            self.skipped = add_span(self.skipped, span)
        if record.kind == "spike":
            counts = Counter(name.rpartition(":")[0].partition("@")[0] for name in record.rows)
        elif record.kind == "overflow":
            counts = Counter(record.counts)
        else:
            counts = Counter(record.counts)
            self._same("batch", step, record.batch, int(plan.batch[row]))
            if not abs(record.lr - plan.lr[row]) <= _LR_TOLERANCE * plan.lr[row]:
                self._same("learning rate", step, record.lr, float(plan.lr[row]))
            if not (math.isfinite(record.loss) and math.isfinite(record.grad_norm)):
                self._differs(
                    "finite", f"a number is not finite: loss {record.loss}, gradient norm {record.grad_norm}", step
                )
        self._same("shares", step, +counts, +Counter(dict(zip(plan.corpora, plan.counts[row].tolist(), strict=True))))
        self._taken += Counter({name: count * int(plan.contexts[row]) for name, count in counts.items()})

    def _same(self, check: str, step: int, found: object, planned: object) -> None:
        if found != planned:
            self._differs(check, f"{_shown(found)}, the plan says {_shown(planned)}", step)


def _shown(value: object) -> str:
    """Sequences of each corpus as text, other values as they are."""
    return ", ".join(f"{name} {n}" for name, n in value.items()) if isinstance(value, Counter) else str(value)
