"""Fidelity: whether a run followed its plan, and what a model saw at which step."""

from tinyllama.fidelity.audit import audit
from tinyllama.fidelity.record import Outcome
from tinyllama.fidelity.rows import SeenRow, rows_of_steps
from tinyllama.fidelity.run import OpenRun, open_runs
from tinyllama.fidelity.visits import Occurrence, find_document, find_texts

__all__ = [
    "Occurrence",
    "OpenRun",
    "Outcome",
    "SeenRow",
    "audit",
    "find_document",
    "find_texts",
    "open_runs",
    "rows_of_steps",
]
