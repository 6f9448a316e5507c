"""README and docs as their readers see them: code blocks, inline commands, and the table of commands."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.constraints import ROOT

if TYPE_CHECKING:
    from pathlib import Path

PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
_FENCED = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"(?:\A|(?<=\n\n))(?: {4}|\t)\S.*", re.MULTILINE)
_ITEM = re.compile(r"^(?:[-*]|\d+\.) .*\n(?:(?:  .*)?\n)*", re.MULTILINE)
_CODE = re.compile(r"`([^`\n]+)`")
_ROW = re.compile(r"^\| [^|]+ \| `(tinyllama [^`]+)`", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block of code."""

    page: str
    """The page's path in the repository."""
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def page_name(page: Path) -> str:
    """A page's path in the repository."""
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(page_name(page), text.count("\n", 0, found.start()) + 1, found[2], found[3])
        for found in _FENCED.finditer(text)
    ]


def indented_blocks(page: Path) -> list[str]:
    """First lines of the blocks that indentation makes code."""
    text = _ITEM.sub("\n", _FENCED.sub("\n", page.read_text(encoding="utf-8")))
    return [found[0] for found in _INDENTED.finditer(text)]


def inline_code(page: Path) -> list[str]:
    """The inline code of a page, outside blocks."""
    return _CODE.findall(_FENCED.sub("", page.read_text(encoding="utf-8")))


def torn_code(page: Path) -> list[str]:
    """Lines on which inline code begins or ends, but not both, so that `inline_code` would not see it."""
    text = _FENCED.sub("", page.read_text(encoding="utf-8"))
    return [line for line in text.splitlines() if line.count("`") % 2]


def table_of_commands(page: Path) -> list[str]:
    """The commands in the table "what do you want to do"."""
    return _ROW.findall(page.read_text(encoding="utf-8"))
