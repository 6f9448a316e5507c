"""What an examination of this machine finds."""

from __future__ import annotations

from typing import Literal, NamedTuple

State = Literal["ok", "limited", "broken"]


class Examined(NamedTuple):
    """One thing that was examined."""

    name: str
    state: State
    """`limited`: something optional does not work. `broken`: training does not work, or not as it should."""
    result: str
    """What was found."""
    remedy: str = ""
    """What to do, unless it is `ok`."""
