"""docs/code.md names files, functions and packages that exist, all packages, and few files for each change."""

import ast
import re
from pathlib import Path

import pytest

import tinyllama
from tests.test_imports import ORDER

ROOT = Path(__file__).parent.parent
PACKAGE = Path(tinyllama.__file__).parent
PAGE = (ROOT / "docs/code.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`([\w./-]+/|[\w./-]+\.(?:py|yaml|js|css|md)(?::[\w.]+)?)`", PAGE)))
MOST = 3
"""Files that a change may touch; where more are needed, the code is to be mended, not the page."""


def _section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def _rows(title: str) -> list[list[str]]:
    table = [line for line in _section(title).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in table[2:]]


def _is_defined(name: str, path: Path) -> bool:
    """Whether a file defines a function, a class, or a class's method."""
    body: list[ast.stmt] = ast.parse(path.read_text(encoding="utf-8")).body
    for part in name.split("."):
        found = [
            node
            for node in body
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name == part
        ]
        if not found:
            return False
        body = found[0].body
    return True


@pytest.mark.parametrize("named", NAMED)
def test_what_the_page_names_exists(named: str) -> None:
    file, _, name = named.partition(":")
    path = next((base / file for base in (PACKAGE, ROOT) if (base / file).exists()), None)
    assert path is not None, f"{file} does not exist"
    assert not name or _is_defined(name, path), f"{file} defines no {name}"


def test_the_page_names_files() -> None:
    assert len(NAMED) > 40


def test_the_tree_names_every_package_and_module() -> None:
    there = {path.name + "/" for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    there |= {path.name for path in PACKAGE.glob("*.py") if not path.name.startswith("__")}
    assert {row[0].strip("`") for row in _rows("The tree")} == there


def test_the_import_order_is_the_one_that_is_enforced() -> None:
    block = _section("Import order").partition("```text\n")[2].partition("```")[0]
    assert tuple(tuple(line.split(", ")) for line in block.splitlines()) == ORDER


@pytest.mark.parametrize("row", _rows("Where to change X"), ids=lambda row: row[0])
def test_a_change_touches_few_files(row: list[str]) -> None:
    files = row[1].split(", ")
    assert 1 <= len(files) <= MOST, f"{row[0]} touches {len(files)} files: mend the code, not the page"


def test_every_change_that_was_promised_has_a_row() -> None:
    promised = {
        "a reader of a text format", "a schedule", "an optimizer", "a recipe key", "an export format", "a task",
        "a metric on the progress bar", "a launcher", "a checkpoint policy", "a norm inside the block",
    }  # fmt: skip
    assert promised <= {row[0] for row in _rows("Where to change X")}
