"""YAML as nested mappings, lists and text; the schema decides what a text means, YAML never does.

YAML 1.1 reads `no` as false, `010` as 8, `1:30` as 90 and `2024-01-01` as a date, in keys too. Here every scalar, also
a key, stays the text that was written, so that a corpus may be named `no`. Only an unquoted `null`, `~` or nothing is
None, and an unquoted key `<<` merges the mappings in its value, as in YAML.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import yaml

from tinyllama.text import shown

if TYPE_CHECKING:
    from collections.abc import Iterator

Value: TypeAlias = "dict[str, Value] | list[Value] | str | None"
"""A value as read from YAML, before validation."""
Key: TypeAlias = "tuple[str | int, ...]"
"""Keys and positions from the top to a value."""

_NULLS = {"", "~", "null", "Null", "NULL"}
_STANDARD = "tag:yaml.org,2002:"
_TAGS = {f"{_STANDARD}{name}" for name in ("bool", "float", "int", "map", "null", "seq", "str")}
"""Explicit tags that change nothing, since a key's type is known."""
_MOST_VALUES = 100_000
"""Aliases can repeat a value without end ("billion laughs")."""
_HINTS = {
    "\\t": "indent with spaces, not with tabs",
    "cannot start any token": "put the text in quotes",
    "mapping values are not allowed": "put text that contains ': ' in quotes",
    "but found another document": "a file holds one recipe; remove the line `---`",
    "special characters are not allowed": "remove the control character",
}
"""Part of PyYAML's message → remedy."""


class YamlError(Exception):
    """A text that is not the YAML of a recipe."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line
        """Line of the text, from 1."""


def read_yaml(text: str) -> tuple[Value, dict[Key, int]]:
    """The value that a text spells, and the line of every key and list item.

    Raises:
        YamlError: the text is not valid YAML, writes a key twice, has an alias to itself, or uses types of its own.
    """
    try:
        node = yaml.compose(text, Loader=yaml.BaseLoader)
        reader = _Reader()
        return (None if node is None else reader.value(node, ())), reader.lines
    except yaml.reader.ReaderError as error:
        raise _fault(error.reason, text.count("\n", 0, error.position) + 1) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise _fault(error.problem or error.context or "cannot be parsed", mark.line + 1 if mark else 1) from error
    except RecursionError:
        raise YamlError("not valid YAML: nested too deeply", 1) from None


def _fault(problem: str, line: int) -> YamlError:
    hint = next((f"; {hint}" for part, hint in _HINTS.items() if part in problem), "")
    return YamlError(f"not valid YAML: {problem}{hint}", line)


def _text(node: yaml.ScalarNode) -> str:
    """The text of a scalar; two escapes that are one character, as JSON writes it, become that character."""
    try:
        return str(node.value).encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        message = "holds half a character (an escape from \\ud800 to \\udfff alone); write the character itself"
        raise YamlError(f"{shown(node.value)} {message}", node.start_mark.line + 1) from None


class _Reader:
    """Turns nodes into values, and notes their lines."""

    def __init__(self) -> None:
        self.lines: dict[Key, int] = {}
        self._open: set[int] = set()
        """Nodes whose content is being read, to find aliases to themselves."""
        self._count = 0

    def value(self, node: yaml.Node, key: Key) -> Value:
        line = node.start_mark.line + 1
        self._count += 1
        if self._count > _MOST_VALUES:
            raise YamlError(f"more than {_MOST_VALUES} values; remove aliases (`*name`) that repeat one another", line)
        if id(node) in self._open:
            raise YamlError("an alias (`*name`) stands inside the value that it repeats; write the value out", line)
        if node.tag not in _TAGS:
            raise YamlError(f"the type {shown(node.tag.replace(_STANDARD, '!!'))} is not supported; remove it", line)
        if isinstance(node, yaml.ScalarNode):
            return None if node.style is None and node.value in _NULLS else _text(node)
        self._open.add(id(node))
        try:
            return self._mapping(node, key) if isinstance(node, yaml.MappingNode) else self._list(node.value, key)
        finally:
            self._open.remove(id(node))

    def _list(self, items: list[yaml.Node], key: Key) -> list[Value]:
        result = []
        for index, item in enumerate(items):
            self.lines[*key, index] = item.start_mark.line + 1
            result.append(self.value(item, (*key, index)))
        return result

    def _mapping(self, node: yaml.MappingNode, key: Key) -> dict[str, Value]:
        own: dict[str, tuple[int, yaml.Node]] = {}
        merged: dict[str, Value] = {}
        for name, item in node.value:
            line = name.start_mark.line + 1
            if not isinstance(name, yaml.ScalarNode):
                raise YamlError("a key must be text, not a list or a mapping", line)
            if name.value == "<<" and name.style is None:
                for mapping in self._merged(item, key):
                    merged = merged | {new: value for new, value in mapping.items() if new not in merged}
                continue
            word = _text(name)
            if word in own:
                dotted = ".".join(map(str, (*key, word)))
                raise YamlError(f"{dotted}: this key is written twice, first on line {own[word][0]}", line)
            own[word] = line, item
        for name, (line, item) in own.items():
            self.lines[*key, name] = line
            merged[name] = self.value(item, (*key, name))
        return merged

    def _merged(self, node: yaml.Node, key: Key) -> Iterator[dict[str, Value]]:
        """The mappings that a key `<<` merges, from the one that counts most."""
        for item in node.value if isinstance(node, yaml.SequenceNode) else [node]:
            value = self.value(item, key)
            if not isinstance(value, dict):
                raise YamlError("`<<` merges a mapping, or a list of mappings", item.start_mark.line + 1)
            yield value
