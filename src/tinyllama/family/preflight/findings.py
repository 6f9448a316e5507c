"""What checks find, and what follows from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tinyllama.errors import PreflightError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from tinyllama.family.preflight.situation import Finding, Situation


class Check(NamedTuple):
    """A check and its name."""

    name: str
    find: Callable[[Situation], Iterator[Finding]]


class CheckResult(NamedTuple):
    """A check's name and what it found; nothing if all is well."""

    name: str
    findings: list[Finding]

    @property
    def faults(self) -> list[str]:
        """The texts of the faults."""
        return [finding.text for finding in self.findings if finding.is_fault]

    @property
    def notes(self) -> list[str]:
        """The texts of the other findings."""
        return [finding.text for finding in self.findings if not finding.is_fault]


def run_checks(checks: Sequence[Check], situation: Situation) -> list[CheckResult]:
    """Run checks, each to its end, whatever the others found."""
    return [CheckResult(check.name, list(check.find(situation))) for check in checks]


def refuse_faults(results: Iterable[CheckResult]) -> None:
    """End the command if a check found a fault.

    Raises:
        PreflightError: a fault was found; the text has a line for each.
    """
    if faults := dict.fromkeys(fault for result in results for fault in result.faults):
        raise PreflightError("\n".join(faults))
