"""constraints.txt pins a release of every dependency, within its range; this environment has them."""

import re
from importlib.metadata import distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.constraints import FILE, ROOT, extras, pins, text
from tests.lowest import lowest, needed_extras

DEPENDENCIES = {str(needed): needed for found in extras().values() for needed in found}
INSTALLS = re.compile(r"^[^#\n]*\bpip3? install\b(?:.*\\\n)*.*$", re.MULTILINE)
"""A command of pip with its continued lines."""
FREE = {"build/newest", "build/oldest", "build/compat"}
"""Environments that have other releases."""


@pytest.mark.parametrize("needed", DEPENDENCIES.values(), ids=str)
def test_every_dependency_is_pinned_within_its_range(needed: Requirement) -> None:
    assert pins()[canonicalize_name(needed.name)] in needed.specifier


def test_the_oldest_environment_has_the_lower_end_of_each_range_of_users_and_the_pinned_tools() -> None:
    versions = lowest()
    assert {"numpy", "lm-eval", "starlette"} <= versions.keys()  # the package's own, and of two extras
    assert versions["pytest"] == pins()["pytest"]
    for needed in (needed for extra in ("", *needed_extras()) for needed in extras()[extra]):
        bound = next(each.version for each in needed.specifier if each.operator == ">=")
        assert Version(versions[needed.name]) == Version(bound)


def test_the_file_is_as_it_is_written() -> None:
    lines = FILE.read_text(encoding="utf-8").splitlines()
    versions = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert FILE.read_text(encoding="utf-8") == text(versions)


def test_this_environment_has_the_pinned_releases() -> None:
    installed = {canonicalize_name(found.name): found.version.partition("+")[0] for found in distributions()}
    other = {name: version for name, version in installed.items() if pins().get(name, version) != version}
    assert not other, f"run make, which installs what {FILE.name} pins"


def test_every_installation_of_ours_is_constrained() -> None:
    for path in (ROOT / "Makefile", ROOT / "Dockerfile", *ROOT.glob("deploy/*.yaml"), *ROOT.glob(".github/**/*.yml")):
        for command in INSTALLS.findall(path.read_text(encoding="utf-8")) if path.exists() else ():
            free = any(name in command for name in FREE)
            assert free or re.search(r"(--constraint|-c) \S*constraints\.txt", command), f"{path.name}: {command}"


def test_the_table_of_dependencies_gives_each_its_extras_and_a_reason() -> None:
    page = (ROOT / "docs/code.md").read_text(encoding="utf-8").partition("\n## Dependencies\n")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith("| `")]
    needed: dict[str, list[str]] = {}
    for extra, requirements in extras().items():
        for requirement in requirements:
            needed.setdefault(requirement.name, []).append(extra)
    assert {row[0].strip("`"): row[1].split(", ") for row in rows} == needed
    assert all(row[2] for row in rows)


@pytest.mark.parametrize("file", sorted((ROOT / "benchmarks").glob("*.txt")), ids=lambda file: file.stem)
def test_what_benchmarks_install_is_constrained(file: Path) -> None:
    lines = file.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "--constraint ../constraints.txt"
    for needed in (Requirement(line) for line in lines[1:] if not line.startswith("#")):
        pinned = pins().get(canonicalize_name(needed.name))
        assert pinned is None or pinned in needed.specifier
