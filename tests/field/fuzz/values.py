"""Values that nobody meant, and bytes that were damaged."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from random import Random

Tree: TypeAlias = "dict[str, Tree] | list[Tree] | str | int | float | bool | None"
"""What YAML and JSON hold."""
Place: TypeAlias = "tuple[str | int, ...]"
"""Keys and positions that lead into a tree."""

TEXTS = (
    "", " ", "0", "no", "on", "~", "null", "a" * 5000, "\0", "a\nb", "é", "日本語", "\u202e", "../x", "./a/../b", "a b",
    "field.yaml", "text", "text/00.txt", "*", "**/*", "[x", "{}", "${HOME}/x", "~/x", "~nobody/x", "1e9", "010",
    "1_000",
    "1,5M", "50%", "-5%", "100%", "33.333333%", "4 sequences", "-1 sequences", "1e400", "0x10", ".inf", "NaN",
    "2026-01-01",
    "a" * 300 + "/b", "zzz://x", "hf://x", "s3://", "http://127.0.0.1:9/x", "file:///nowhere", "/dev/null", "/proc/x",
    "fp32", "bf16", "fp8", "auto", "all", "none", "base", "corpora", "exports", "<s>", "</s>", "\ufeff", "😀",
)  # fmt: skip
NUMBERS: tuple[int | float, ...] = (
    0, 1, -1, 2, 3, 7, 8, 16, 31, 64, 255, 256, 300, 511, 65536, 2**31 - 1, 2**31, 2**32, 2**53 + 1, 2**63 - 1, 2**63,
    2**64, 10**30, 0.0, -0.0, 0.5, 1.0, 1.5, 1e-8, 1e-320, 1e9, 1e17, 1e308, math.inf, -math.inf, math.nan, 99.5,
)  # fmt: skip


def scalar(random: Random) -> Tree:
    """A number, a text, a truth value or null."""
    kind = random.random()
    if kind < 0.4:
        return random.choice(NUMBERS)
    if kind < 0.8:
        return random.choice(TEXTS)
    return random.choice((None, True, False))


def anything(random: Random) -> Tree:
    """A scalar, or a small or deep tree."""
    if random.random() < 0.8:
        return scalar(random)
    deep: Tree = scalar(random)
    for _ in range(random.choice((1, 2, 30))):
        deep = [deep]
    return random.choice(([], {}, [None], {"a": 1}, {"": scalar(random)}, [scalar(random), scalar(random)], deep))


def mutated(random: Random, tree: Tree) -> Tree:
    """A tree with one change, somewhere in it; the tree itself stays as it is."""
    if random.random() < 0.6 and (places := list(leaves(tree))):
        place = random.choice(places)
        return _replaced(tree, place, lambda value: _near(random, value) if random.random() < 0.7 else anything(random))
    return _broken(random, tree)


def leaves(tree: Tree, place: Place = ()) -> Iterator[Place]:
    """The places of what is no list and no object."""
    if not isinstance(tree, dict | list):
        yield place
        return
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        yield from leaves(value, (*place, key))


def _replaced(tree: Tree, place: Place, change: Callable[[Tree], Tree]) -> Tree:
    if not place:
        return change(tree)
    copy: Any = tree.copy()  # type: ignore[union-attr]
    copy[place[0]] = _replaced(copy[place[0]], place[1:], change)
    return copy


def _near(random: Random, value: Tree) -> Tree:
    """Another value of the same kind."""
    if isinstance(value, bool) or value is None:
        return not value
    if isinstance(value, int):
        return random.choice(
            (0, 1, 2, 3, 4, 7, 8, 16, 31, 33, 256, 300, 1000, value + 1, value - 1, value * 2, value // 2)
        )
    if isinstance(value, float):
        return random.choice((0.0, 1.0, 2.0, 0.5, 1e-3, 1e-30, 1e30, -value, value * 2, value / 3))
    if match := re.search(r"\d+", value):
        return value[: match.start()] + str(_near(random, int(match[0]))) + value[match.end() :]
    return random.choice((value + "x", value[:-1], value.upper(), f" {value} ", value * 2, random.choice(TEXTS)))


def _broken(random: Random, tree: Tree) -> Tree:
    """A tree with one change that most often leaves it with another shape."""
    if not isinstance(tree, dict | list) or not tree or random.random() < 0.05:
        return anything(random)
    if isinstance(tree, list):
        items = list(tree)
        index = random.randrange(len(items))
        match random.randrange(8):
            case 0:
                del items[index]
            case 1:
                items.insert(index, items[random.randrange(len(items))])
            case 2:
                items.insert(index, anything(random))
            case _:
                items[index] = _broken(random, items[index])
        return items
    return _mutated_object(random, tree)


def _mutated_object(random: Random, tree: dict[str, Tree]) -> Tree:
    key = random.choice(list(tree))
    match random.randrange(12):
        case 0:
            return {name: value for name, value in tree.items() if name != key}
        case 1:
            new = random.choice((f"{key}s", key.upper(), key[:-1], str(random.choice(TEXTS))))
            return {new if name == key else name: value for name, value in tree.items()}
        case 2:
            return {**tree, str(random.choice(TEXTS)): anything(random)}
        case 3:
            return {**tree, key: tree[random.choice(list(tree))]}
        case _:
            return {**tree, key: _broken(random, tree[key])}


def damaged(random: Random, data: bytes) -> bytes:
    """Bytes with damage: cut off, flipped, overwritten, doubled, or replaced."""
    if not data:
        return random.randbytes(random.choice((1, 8, 1000)))
    start = random.randrange(len(data))
    if random.random() < 0.5:
        start = min(start, random.randrange(256))  # most formats begin with what says the most
    length = random.choice((1, 1, 2, 8, 64))
    before, middle, after = data[:start], data[start : start + length], data[start + length :]
    flipped = bytes([data[start] ^ 1 << random.randrange(8)])
    whole = random.choice((b"", b"\0" * len(data), b"{}", b"[]", b"null", data[::-1], random.randbytes(64)))
    return random.choice(
        (
            before,
            before + flipped + data[start + 1 :],
            before + random.randbytes(length) + after,
            before + bytes(len(middle)) + after,
            before + b"\xff" * len(middle) + after,
            before + middle + middle + after,
            before + after,
            data + random.randbytes(length),
            whole,
        )
    )
