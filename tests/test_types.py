"""What travels between modules has a type, and every exempted rule has its reason: both are counted."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import tinyllama

PACKAGE = Path(tinyllama.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
UNTYPED = re.compile(r"\b(?:dict|Mapping|MutableMapping)\[str, (?:Any|object)\]")
MOST_UNTYPED = 20
MOST_EXEMPTED = 80


def _annotations(path: Path) -> Iterator[tuple[int, str]]:
    """Line and text of every annotation and type alias of a file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.arg | ast.AnnAssign) and node.annotation is not None:
            yield node.lineno, ast.unparse(node.annotation)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.returns is not None:
            yield (node.returns.lineno, ast.unparse(node.returns))
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Subscript):
            yield node.lineno, ast.unparse(node.value)


def _untyped() -> list[tuple[Path, int]]:
    return [(path, line) for path in FILES for line, text in _annotations(path) for _ in UNTYPED.findall(text)]


def test_few_mappings_have_values_of_any_type_and_each_says_why() -> None:
    found = _untyped()
    listed = "\n".join(f"{path.relative_to(PACKAGE)}:{line}" for path, line in found)
    assert len(found) <= MOST_UNTYPED, f"{len(found)} are too many:\n{listed}"
    for path, line in found:
        lines = path.read_text(encoding="utf-8").splitlines()
        # A signature over several lines has its reason at its end.
        end = next(
            number for number in range(line - 1, len(lines)) if "#" in lines[number] or lines[number].endswith(":")
        )
        assert re.search(r"#(?! noqa: \S+$).*\w", lines[end]), f"{path.relative_to(PACKAGE)}:{line} says no reason"


def test_few_rules_are_exempted_and_each_exemption_has_its_reason() -> None:
    lines = [
        (path.relative_to(PACKAGE), number, line)
        for path in FILES
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if "# noqa" in line or "# ruff: noqa" in line
    ]
    assert len(lines) <= MOST_EXEMPTED, f"{len(lines)} are too many"
    for path, number, line in lines:
        reason = re.search(r"noqa: [A-Z0-9, ]+?  ?# (.+)$", line)
        assert reason, f"{path}:{number} gives no reason: {line.strip()}"
        assert not re.match(r"as (above|\w+)$|with the rest", reason[1]), f"{path}:{number}: {reason[1]!r} is no reason"
