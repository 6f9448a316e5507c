"""Checks before the first step: all that would end a run later and can be known at its start.

`CHECKS` is the list of them. Each is a pure function of a `Situation` (recipe, folder, machine) that yields findings:
faults, which end the command before anything is prepared or trained, and notes, which are shown. `CHECKS_OF_TEXT` are
those that know more once the tokenizer and the corpora exist, and run again then.
"""

from tinyllama.family.preflight.checks import CHECKS, CHECKS_OF_TEXT
from tinyllama.family.preflight.findings import Check, CheckResult, refuse_faults, run_checks
from tinyllama.family.preflight.situation import ALL_PHASES, Finding, Phase, Situation

__all__ = [
    "ALL_PHASES",
    "CHECKS",
    "CHECKS_OF_TEXT",
    "Check",
    "CheckResult",
    "Finding",
    "Phase",
    "Situation",
    "refuse_faults",
    "run_checks",
]
