"""The command line of the fuzz."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter, defaultdict
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from tests.field.commands import Commands
from tests.field.fuzz.runner import HEAVY, Done, Fuzz, environment, run_all
from tests.field.fuzz.template import Template

if TYPE_CHECKING:
    from tests.field.fuzz.verdict import Fault


def main() -> int:
    """Run the cases, print each failure with the line that replays it, and return the exit code."""
    options = argparse.ArgumentParser(prog="python -m tests.field.fuzz", description=__doc__)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--cases", type=int, default=1000)
    options.add_argument("--case", type=int, help="run this case alone, show its output and keep its folder")
    options.add_argument("--jobs", type=int, default=2, help="cases at once")
    options.add_argument("--work", type=Path, help="folder for the template and the cases (default: a temporary one)")
    given = options.parse_args()
    with ExitStack() as stack:
        temporary = given.work is None and given.case is None
        work = (
            Path(stack.enter_context(tempfile.TemporaryDirectory()))
            if temporary
            else given.work or Path(tempfile.mkdtemp())
        )
        fuzz = Fuzz(given.seed, work, Template(work / "template"))
        jobs = 1 if given.case is not None else given.jobs
        servers = [stack.enter_context(Commands(HEAVY, environment(work))) for _ in range(jobs)]
        if given.case is not None:
            done = [fuzz.run(given.case, servers[0], keep=True)]
        else:
            done = run_all(fuzz, range(1, given.cases + 1), servers, _Progress(given.cases))
    _report(given.seed, done)
    return any(case.faults for case in done)


class _Progress:
    """Tells how many cases are done, and each failure at once."""

    def __init__(self, cases: int) -> None:
        self._cases, self._done, self._failed, self._start = cases, 0, 0, time.monotonic()

    def __call__(self, done: Done, seconds: float) -> None:
        self._done += 1
        self._failed += bool(done.faults)
        if done.faults or seconds > 10 or self._done % 50 == 0:
            kinds = "; ".join(fault.kind for fault in done.faults)
            elapsed = time.monotonic() - self._start
            sys.stderr.write(
                f"{self._done}/{self._cases} in {elapsed:.0f} s, {self._failed} failed; "
                f"case {done.number} ({done.kind}, {seconds:.1f} s) {kinds}\n"
            )


def _report(seed: int, cases: list[Done]) -> None:
    groups: dict[str, list[tuple[Done, Fault]]] = defaultdict(list)
    for done in cases:
        for fault in done.faults:
            groups[fault.kind].append((done, fault))
    for kind, group in sorted(groups.items(), key=lambda item: -len(item[1])):
        done, fault = group[0]
        numbers = ", ".join(str(other.number) for other, _ in group[:12])
        sys.stdout.write(f"\n== {kind} ({len(group)}: {numbers})\n")
        sys.stdout.write(f"make fuzz SEED={seed} CASE={done.number}\n{done.case}\n{fault.detail}\n")
    ends = Counter((done.kind, done.code) for done in cases)
    for kind in sorted({done.kind for done in cases}):
        codes = ", ".join(f"{count} x {code}" for (name, code), count in sorted(ends.items()) if name == kind)
        sys.stdout.write(f"exit codes of {kind} cases: {codes}\n")
    failed = sum(bool(done.faults) for done in cases)
    sys.stdout.write(f"{failed} of {len(cases)} cases failed, in {len(groups)} ways\n")


if __name__ == "__main__":
    sys.exit(main())
