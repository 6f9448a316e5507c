"""Each part of the page, and what leads from one to another."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.comparison.test_compare import record
from tests.conftest import SMALL
from tests.report.conftest import BITS, summary, write, write_family
from tests.studio.browser.pages import ATTACK, api, choose, lines, opened
from tests.studio.pictures import take_all
from tests.studio.process import studio
from tinyllama.layout import FamilyLayout
from tinyllama.recipe import load_recipe

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser


def test_each_part_shows_a_family_without_a_complaint(browser: Browser, runs: Path) -> None:
    with studio(str(runs)) as (address, _), opened(browser, address) as page:
        api.expect(page.get_by_role("heading", name="nano")).to_be_visible()
        page.wait_for_selector("figure path.line")
        assert lines(page, "Training loss") == 4
        api.expect(page.locator("table.models tbody tr")).to_have_count(4)
        choose(page, "Scores")
        api.expect(page.locator("table.heat td b").first).to_have_text("1.396")
        choose(page, "Data")
        api.expect(page.get_by_role("cell", name="corpora/prose: is not prepared")).to_be_visible()
        choose(page, "Recipe")
        api.expect(page.get_by_text("The recipe is valid.")).to_be_visible()
        assert page.locator(".picture svg polyline").count() > 4


def test_which_variant_is_best_at_code_and_what_it_read_takes_few_clicks(browser: Browser, small: Path) -> None:
    recipe = load_recipe("nano", SMALL)
    write_family(small / "small", recipe, BITS)
    clicks = 0

    def click(page: Page, role: str, name: str) -> None:
        nonlocal clicks
        clicks += 1
        page.get_by_role(role, name=name, exact=True).click()

    with studio(str(small)) as (address, _), opened(browser, address) as page:
        click(page, "link", "Scores")
        page.wait_for_selector("table.heat")
        columns = page.locator("table.heat thead th").all_text_contents()
        rows = page.locator("table.heat tbody tr")
        scores = {
            row.locator("th").inner_text().strip(): float(row.locator("td b").nth(columns.index("code")).inner_text())
            for row in rows.all()
        }
        best = min(scores, key=lambda name: scores[name])
        assert best == "math_code"
        click(page, "link", "Data")
        page.get_by_label("model").select_option(best)
        page.get_by_label("step", exact=True).fill("12")
        clicks += 2
        click(page, "button", "Show")
        page.wait_for_selector(".piece pre")
        assert page.locator("article.seen").count() == 4
        assert page.locator(".piece pre").first.inner_text()
        page.locator(".origin button").first.click()
        api.expect(page.locator("p[role=status]").last).to_contain_text(" places", timeout=20_000)
        assert clicks + 1 < 10


def test_the_pictures_of_the_documentation_can_be_taken(browser: Browser, trained: Path, tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    shutil.copytree(trained, folder)
    recipe = load_recipe(str(FamilyLayout(folder / "small").recipe))
    write(FamilyLayout(folder / "small").summary, json.dumps(summary(recipe, BITS)))
    with studio(str(folder)) as (address, _), opened(browser, address) as page:
        take_all(page, f"{address}#", "small", tmp_path, step=8)
    taken = sorted(path.name for path in tmp_path.glob("*.png"))
    assert taken == [f"studio-{part}.png" for part in ("data", "playground", "recipe", "runs", "scores")]


def test_two_models_are_compared_question_by_question(browser: Browser, runs: Path) -> None:
    layout = FamilyLayout(runs / "nano")
    record(layout.record("base"), {ATTACK: [True, False, False, True]}, {})
    record(layout.record("chinese"), {ATTACK: [True, True, True, False]}, {})
    with studio(str(runs)) as (address, _), opened(browser, f"{address}#scores/nano") as page:
        page.get_by_role("button", name="Compare").click()
        api.expect(page.locator("article.seen")).to_have_count(3, timeout=60_000)
        api.expect(page.get_by_role("region", name="chinese against base").locator("tbody th").first).to_have_text(
            ATTACK
        )
        page.get_by_label("questions").select_option("worse")
        api.expect(page.locator("article.seen")).to_have_count(1)
        api.expect(page.locator("article.seen")).to_contain_text("question 3 · 1 → 0")
        assert "taken" not in page.title()
