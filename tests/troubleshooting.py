"""docs/troubleshooting.md, which lists every message: `python -m tests.troubleshooting` compares it with the code."""

from __future__ import annotations

import re
import sys
from functools import cache
from pathlib import Path
from typing import NamedTuple

from tests.messages import FORWARDED, Message, found_messages, messages, same_message

PAGE = Path(__file__).parent.parent / "docs/troubleshooting.md"
_CODE = r"(?:`` .+? ``|`[^`\n]+`)"
_ITEM = re.compile(rf"^- ({_CODE}(?:,\s+{_CODE})*):\s+(\S.*(?:\n  .+)*)", re.MULTILINE)
"""An item of the page: parts of messages, a colon, cause and remedy."""


class Entry(NamedTuple):
    """A part of a message that the page lists."""

    line: int
    part: str
    advice: str
    """Cause and remedy."""

    @property
    def messages(self) -> list[Message]:
        """Those that hold the part; if it is a whole text, those of the place that spells it."""
        places = {message.place for message in messages() if self.part == message.text}
        found = [message for message in messages() if self.part in message.text]
        return [message for message in found if message.place in places or not places]

    @property
    def places(self) -> list[str]:
        """Where those are made: one place for all that may spell the same text."""
        return sorted({same_message().get(message.place, message.place) for message in self.messages})


@cache
def entries() -> tuple[Entry, ...]:
    """Every part of a message that the page lists."""
    text = PAGE.read_text(encoding="utf-8")
    return tuple(
        Entry(text.count("\n", 0, item.start()) + 1, code[3:-3] if code.startswith("``") else code[1:-1], item[2])
        for item in _ITEM.finditer(text)
        for code in re.findall(_CODE, item[1])
    )


def unlisted() -> list[str]:
    """Messages that no entry is a part of, with their places; of each place, the first."""
    missing = [message for message in messages() if message.has_words and message not in _items()]
    return [f"{place}: {text}" for place, text in {each.place: each.text for each in reversed(missing)}.items()][::-1]


def unread() -> list[str]:
    """Expressions of messages whose words are not found."""
    return [f"{message.place}: {message.source}" for message in messages() if not message.has_words]


def stale() -> list[str]:
    """Entries that are a part of no message."""
    return [f"{PAGE.name}:{entry.line}: {entry.part}" for entry in entries() if not entry.places]


def ambiguous() -> list[str]:
    """Entries that are a part of several messages, with their places."""
    several = [entry for entry in entries() if len(entry.places) > 1]
    return [f"{PAGE.name}:{entry.line}: {entry.part}: {', '.join(entry.places)}" for entry in several]


def repeated() -> list[str]:
    """Messages that several items of the page list, with their lines."""
    several = {message: lines for message, lines in _items().items() if len(lines) > 1}
    return [f"{each.place}: {each.text}: {PAGE.name}, lines {lines}" for each, lines in several.items()]


@cache
def _items() -> dict[Message, list[int]]:
    """Message → lines of the items that list it."""
    listed: dict[Message, list[int]] = {}
    for entry in entries():
        for message in entry.messages:
            lines = listed.setdefault(message, [])
            lines += [entry.line] if entry.line not in lines else []
    return listed


def idle() -> list[str]:
    """Calls in `FORWARDED` that are not in the code, or whose words are found."""
    return sorted(FORWARDED - {message.source for message in found_messages() if not message.has_words})


CHECKS = {
    "messages without an entry": unlisted,
    "entries that are a part of no message": stale,
    "entries that are a part of several messages; lengthen them": ambiguous,
    "messages that several items list; delete all but one": repeated,
    "messages whose words are not found; spell them in the call, or see REPORTED and FORWARDED": unread,
    "calls in FORWARDED that are not in the code, or need not be there": idle,
}


def differences() -> str:
    """What the page and the code do not have in common, under titles; empty if there is nothing."""
    return "\n".join("\n  ".join([f"{title}:", *found]) for title, check in CHECKS.items() if (found := check()))


if __name__ == "__main__":
    sys.stdout.write(differences() + "\n")
