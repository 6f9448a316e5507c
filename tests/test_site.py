"""The documentation site: every page is in its menu, and pages that speak of tests name real ones."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tests import test_historic_bugs
from tinyllama.recipe import load_recipe

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


def _pages(entries: list[object]) -> list[str]:
    """The pages of a menu, in order."""
    found: list[str] = []
    for entry in entries:
        for value in entry.values() if isinstance(entry, dict) else [entry]:
            found += _pages(value) if isinstance(value, list) else [str(value)]
    return found


def test_the_menu_has_every_page_once() -> None:
    menu = _pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"])
    assert sorted(menu) == sorted(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md"))


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: str(page.relative_to(DOCS)))
def test_no_link_of_a_page_leaves_the_site(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
    inside = [link for link in links if ":" not in link]
    assert [link for link in inside if not (page.parent / link).resolve().is_relative_to(DOCS)] == []


def test_the_page_of_the_first_bugs_names_each_test_once() -> None:
    named = re.findall(r"`(test_\w+)`", (DOCS / "first-bugs.md").read_text(encoding="utf-8"))
    assert named == [name for name in vars(test_historic_bugs) if name.startswith("test_")]


def test_the_api_page_names_the_public_names() -> None:
    import tinyllama

    named = re.findall(r"^::: ([\w.]+)$", (DOCS / "api.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert {name.rpartition(".")[2] for name in named} == {*tinyllama.__all__} - {"__version__"}
    for name in named:
        module, _, attribute = name.rpartition(".")
        assert getattr(tinyllama, attribute).__module__ == module


def test_the_picture_of_the_plan_is_what_the_command_draws(tmp_path: Path) -> None:
    from tinyllama.report.plan_plot import write_plan_plot

    assert "`tinyllama plan nano --plot docs/images/plan.svg`" in (DOCS / "index.md").read_text(encoding="utf-8")
    write_plan_plot(load_recipe("nano"), tmp_path / "plan.svg")
    assert (tmp_path / "plan.svg").read_bytes() == (DOCS / "images/plan.svg").read_bytes()
