"""Recipes that are edited: their faults, plan, cost and picture; families that are started, stopped and resumed."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.conftest import SMALL
from tests.studio.browser.pages import api, choose, opened
from tests.studio.process import studio
from tests.studio.test_control import LONG
from tinyllama.recipe import dump_recipe, load_recipe

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Browser

pytestmark = pytest.mark.browser


def test_edits_of_a_recipe_stay_until_they_are_discarded(browser: Browser, runs: Path) -> None:
    shutil.copytree(runs / "nano", runs / "second")
    with studio(str(runs)) as (address, _), opened(browser, f"{address}#recipe/nano") as page:
        text, recipe = page.get_by_label("Text of the recipe"), page.get_by_role("combobox", name="recipe", exact=True)
        api.expect(text).to_have_value(re.compile("layers: 2"))
        whole = text.input_value()
        edited = whole.replace("layers: 2", "layers: 3")
        text.fill(edited)
        page.get_by_role("combobox", name="GPU", exact=True).select_option("h100-80g")
        choose(page, "Runs")
        choose(page, "Recipe")
        api.expect(text).to_have_value(edited)
        api.expect(page.get_by_role("combobox", name="GPU", exact=True)).to_have_value("h100-80g")
        page.locator("#language").select_option("zh")
        api.expect(page.locator("textarea")).to_have_value(edited)
        page.locator("#language").select_option("en")
        page.locator("#family").select_option("second")
        api.expect(text).to_have_value(whole)
        page.locator("#family").select_option("nano")
        api.expect(text).to_have_value(edited)
        recipe.select_option("shipped/mini")
        api.expect(text).not_to_have_value(edited)
        choose(page, "Runs")
        choose(page, "Recipe")
        api.expect(recipe).to_have_value("shipped/mini")
        recipe.select_option("family/nano")
        api.expect(text).to_have_value(edited)
        page.get_by_role("button", name="Discard changes").click()
        api.expect(text).to_have_value(whole)
        api.expect(page.get_by_role("button", name="Discard changes")).to_be_hidden()


def test_plan_cost_and_picture_follow_an_edit(browser: Browser, runs: Path) -> None:
    with studio(str(runs)) as (address, _), opened(browser, f"{address}#recipe/nano") as page:
        text, cost = page.get_by_label("Text of the recipe"), page.get_by_role("region", name="Cost")
        api.expect(page.get_by_text("The recipe is valid.")).to_be_visible()
        page.get_by_role("combobox", name="GPU", exact=True).select_option("h100-80g")
        api.expect(cost).to_be_visible()
        plan = page.get_by_role("region", name="Stages of v1.1")
        was = cost.text_content() or "", page.locator(".picture svg").inner_html(), plan.text_content()
        text.fill(text.input_value().replace("until: 120000", "until: 120000000"))
        api.expect(cost).not_to_have_text(was[0])
        assert page.locator(".picture svg").inner_html() != was[1]
        assert plan.text_content() != was[2]


def test_a_wrong_recipe_is_marked_at_its_line(browser: Browser, runs: Path) -> None:
    with studio(str(runs)) as (address, _), opened(browser, f"{address}#recipe/nano") as page:
        api.expect(page.get_by_text("The recipe is valid.")).to_be_visible()
        text = page.get_by_label("Text of the recipe")
        text.fill(text.input_value().replace("layers: 2", "layers: 0"))
        fault = page.locator(".faults li")
        api.expect(fault).to_contain_text("model.layers: '0' must be above 0")
        fault.get_by_role("button").click()
        selected = text.evaluate("node => node.value.slice(node.selectionStart, node.selectionEnd)")
        assert selected == "  layers: 0"
        text.fill(text.input_value().replace("layers: 0", "layers: 3"))
        api.expect(page.locator(".plan tbody th", has_text="model.layers")).to_be_visible()
        with page.expect_download() as download:
            page.get_by_role("button", name="Download").click()
        assert download.value.path().read_text() == text.input_value()


def test_a_family_is_started_stopped_and_resumed_from_the_page(browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    with (
        studio(str(tmp_path / "runs"), "--control") as (address, _),
        opened(browser, f"{address}#recipe") as page,
    ):
        text = page.get_by_label("Text of the recipe")
        api.expect(text).not_to_have_value("")
        text.fill(dump_recipe(load_recipe("nano", (*SMALL, *LONG))))
        page.get_by_role("button", name="Start training").click()
        api.expect(page.get_by_text("mine is started.")).to_be_visible(timeout=30_000)
        choose(page, "Runs")
        row = page.locator("table.models tbody tr").first
        api.expect(row).to_contain_text("training", timeout=60_000)
        page.get_by_role("button", name="Stop training").click()
        api.expect(page.get_by_text("mine saves its state and ends.")).to_be_visible()
        api.expect(row).to_contain_text("stopped", timeout=30_000)
        page.get_by_role("button", name="Resume training").click()
        api.expect(row).to_contain_text("training", timeout=60_000)
        page.get_by_role("button", name="Stop mine").click()
        api.expect(row).to_contain_text("stopped", timeout=30_000)
