"""Strings on which tokenizers tend to disagree: the same ones every time."""

from __future__ import annotations

import random
from itertools import islice
from typing import TYPE_CHECKING

from tinyllama.sources.builtin.registry import read_builtin

if TYPE_CHECKING:
    from collections.abc import Iterator

SPECIAL = ("<unk>", "<s>", "</s>")
FIXED = (
    "", " ", "  ", "   x", "x   ", "\t", "\n", "\r\n", "\n\n  x", "\0", "a\0b", "▁", "▁▁x ▁", " ▁", "▁ ▁", "e\u0301",
    "\u0301", "a\u0300\u0301\u0302b", "<0x0A>", "<0x", "0x0A>", "1234567 12.5", "don't CAN'T we'll", "人工智能是未来",
    "🦙🦙 llama 👩‍👩‍👧‍👦", "\ufeffx", "\u2028x\u2029", "\u00a0x\u3000y", "\U0010ffff", "\ue000", "ﬁ ½ ①", "İstanbul",
    "def f(x):\n\treturn  [x,   1]\n", *SPECIAL, "</s>x", "x</s>", "<s>[INST] x [/INST]</s>", "a <unk> b",
)  # fmt: skip
_ALPHABETS = (
    " \t\n\r\0▁ax1",
    "  \u00a0\u2028\u3000▁",
    "aeiou\u0300\u0301\u0302\u0308\u20dd",
    "中文字人工智能是的了",
    "😀🦙👩🏽\u200d\ufe0f🇫🇷",
    "0123456789.,+-*/= ",
    (*SPECIAL, " ", "x", "▁", "<", ">", "[INST]"),
    ("<0x0A>", "<0x", "0A>", "▁"),
    "the cat sat on ",
)


def strings(count: int, *, line: int) -> list[str]:
    """So many strings, spellings of special tokens among them.

    Args:
        count: how many; the fixed ones are among them.
        line: characters of one of them, a single line.
    """
    made = islice(_endless(random.Random(0)), count - len(FIXED) - 1)  # noqa: S311  # a test's variety
    return [*FIXED, *made, ("the cat, 猫 and 🦙\t" * (line // 17 + 1))[:line]]


def _endless(dice: random.Random) -> Iterator[str]:
    real = [str(raw.data) for name in ("docstrings", "chinese-phrases") for raw in islice(read_builtin(name), 200)]
    while True:
        text = dice.choice(real)
        start = dice.randrange(len(text))
        yield text[start : start + dice.randrange(1, 400)]
        letters = dice.choice(_ALPHABETS)
        yield "".join(dice.choices(letters, k=dice.randrange(1, 60)))
        yield "".join(chr(_code_point(dice)) for _ in range(dice.randrange(1, 30)))


def _code_point(dice: random.Random) -> int:
    """Of any plane, but no half of a pair."""
    while 0xD800 <= (code := dice.randrange(dice.choice([0x80, 0x800, 0x10000, 0x110000]))) < 0xE000:
        pass
    return code
