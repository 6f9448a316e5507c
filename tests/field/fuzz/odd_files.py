"""Files with damage that fits their format: JSON is changed as a tree, other files as bytes."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING

from tests.field.fuzz.values import anything, damaged, mutated

if TYPE_CHECKING:
    from random import Random


def odd(random: Random, name: str, data: bytes) -> bytes:
    """The content of a file with one change."""
    if random.random() < 0.25:
        return damaged(random, data)
    if name.endswith((".json", ".metadata.json")):
        return _tree(random, data)
    if name.endswith(".jsonl"):
        lines = data.split(b"\n")
        index = random.randrange(len(lines))
        lines[index] = _tree(random, lines[index]) if random.random() < 0.7 else damaged(random, lines[index])
        return b"\n".join(lines)
    if name.endswith(".safetensors"):
        return _safetensors(random, data)
    if name.endswith(".gguf"):
        return _gguf(random, data)
    return damaged(random, data)


def _tree(random: Random, data: bytes) -> bytes:
    try:
        tree = json.loads(data)
    except ValueError:
        return data + b"{"
    for _ in range(random.choice((1, 1, 1, 3))):
        tree = mutated(random, tree)
    return json.dumps(tree).encode()


def _safetensors(random: Random, data: bytes) -> bytes:
    (length,) = struct.unpack("<Q", data[:8])
    header, body = data[8 : 8 + length], data[8 + length :]
    if random.random() < 0.2:
        return struct.pack("<Q", random.choice((0, 1, length - 1, length + 1, 2**40, 2**63))) + header + body
    changed = _tree(random, header)
    return struct.pack("<Q", len(changed)) + changed + body


def _gguf(random: Random, data: bytes) -> bytes:
    """Change a number or a text behind the name of a key, where most of what a reader believes is."""
    keys = [b"llama.", b"tokenizer.", b"general.", b"blk.", b"token_embd", b"output"]
    places = [place for key in keys for place in _places(data, key)]
    if not places:
        return damaged(random, data)
    place = random.choice(places)
    end = data.index(b"\0", place)
    match random.randrange(5):
        case 0:
            return data[:place] + random.randbytes(2) + data[place + 2 :]
        case 1:
            return data[:end] + struct.pack("<I", random.choice((0, 1, 7, 8, 9, 12, 13, 2**31))) + data[end + 4 :]
        case 2:
            return data[: end + 4] + struct.pack("<q", random.choice((0, 1, -1, 2**31, 2**62))) + data[end + 12 :]
        case 3:
            return data[:place] + damaged(random, data[place : place + 64]) + data[place + 64 :]
        case _:
            return data[: place - 8] + struct.pack("<Q", random.choice((0, 1, 2**32, 2**63))) + data[place:]


def _places(data: bytes, key: bytes) -> list[int]:
    found, place = [], data.find(key)
    while place >= 0 and len(found) < 200:
        found.append(place)
        place = data.find(key, place + 1)
    return found


def odd_json(random: Random) -> bytes:
    """Any JSON."""
    return json.dumps(anything(random)).encode()
