"""What works on this machine, and the remedy for what does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tinyllama.doctor.findings import Examined
from tinyllama.doctor.machine import examine_compiler, examine_device, examine_disks
from tinyllama.doctor.software import examine_extras, examine_hub, examine_installation, examine_programs

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["CHECKS", "Examined", "examine"]

CHECKS = (
    examine_installation,
    examine_device,
    examine_compiler,
    examine_disks,
    examine_programs,
    examine_hub,
    examine_extras,
)
"""All examinations, in the order in which they are shown."""


def examine() -> Iterator[Examined]:
    """Examine everything; takes some seconds, most of them to compile a function and to ask the hub."""
    for check in CHECKS:
        yield from check()
