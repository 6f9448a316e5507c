"""Texts of documents, prompts, recipes and names stay texts; those of the page are in two languages."""

from __future__ import annotations

import json
import re
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.conftest import SMALL
from tests.report.conftest import BITS, write, write_family
from tests.studio.browser.pages import ATTACK, api, choose, opened
from tests.studio.conftest import write_metrics
from tests.studio.process import studio
from tinyllama.family import Family
from tinyllama.layout import FamilyLayout
from tinyllama.recipe import dump_recipe, load_recipe
from tinyllama.sources.rejected import Quarantine, Rejected

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Browser

pytestmark = pytest.mark.browser


def test_hostile_texts_stay_texts(browser: Browser, prepared: Path, tmp_path: Path) -> None:
    name = ATTACK.replace("/", "\N{DIVISION SLASH}")
    folder = tmp_path / "runs" / name
    shutil.copytree(prepared, folder)
    recipe = load_recipe("nano", SMALL).model_copy(update={"description": ATTACK})
    write_family(folder, recipe, BITS)
    write(FamilyLayout(folder).recipe, dump_recipe(recipe))
    write_metrics(folder, recipe)
    corpus = FamilyLayout(folder).corpus("prose")
    with (corpus / "rejected.jsonl").open("w") as file:
        Quarantine(file)(Rejected(ATTACK, ATTACK, ATTACK))
    manifest = json.loads((corpus / "manifest.json").read_text()) | {"quarantined": {"damaged": 1}}
    manifest["files"]["rejected.jsonl"]["bytes"] = (corpus / "rejected.jsonl").stat().st_size
    (corpus / "manifest.json").write_text(json.dumps(manifest))
    with studio(str(folder.parent)) as (address, _), opened(browser, address) as page:
        api.expect(page.get_by_text(ATTACK, exact=True)).to_be_visible()
        choose(page, "Scores")
        api.expect(page.get_by_text("<script>alert").first).to_be_visible()
        choose(page, "Data")
        page.get_by_role("button", name="damaged 1").click()
        api.expect(page.get_by_role("cell", name=ATTACK).first).to_be_visible()
        page.get_by_label("only those with").fill("nothing of the kind")
        page.get_by_role("button", name="Filter").click()
        api.expect(page.get_by_role("cell", name=ATTACK)).to_have_count(0)
        page.get_by_label("exactly").fill(ATTACK)
        page.get_by_role("button", name="Search").click()
        api.expect(page.get_by_text("0 places, all of them.")).to_be_visible(timeout=20_000)
        choose(page, "Recipe")
        api.expect(page.get_by_text("The recipe is valid.")).to_be_visible()
        page.get_by_label("Text of the recipe").fill(f'name: "{ATTACK}"')
        api.expect(page.locator(".faults li").first).to_be_visible()
        assert "taken" not in page.title()
        assert not page.locator("img, main script").count()


def test_texts_of_documents_stay_texts_and_turn_no_other_text_around(
    browser: Browser, prepared: Path, tmp_path: Path
) -> None:
    text = f"{ATTACK}\N{RIGHT-TO-LEFT OVERRIDE}turned around"
    documents = tmp_path / "documents.jsonl"
    documents.write_text("".join(json.dumps({"text": f"{number} {text}"}) + "\n" for number in range(400)))
    recipe = load_recipe("nano", [*SMALL, f"corpora.prose.sources=[{{files: {documents}}}]"])
    folder = tmp_path / "runs" / "small"
    shutil.copytree(prepared, folder)
    Family(recipe, folder).prepare()
    write(FamilyLayout(folder).recipe, dump_recipe(recipe))
    with studio(str(folder.parent)) as (address, _), opened(browser, f"{address}#data/small") as page:
        page.get_by_label("step", exact=True).fill("2")
        page.get_by_role("button", name="Show", exact=True).click()
        row = page.locator(".piece pre").filter(has_text=ATTACK).first
        assert text in (row.text_content() or "")
        for place in (row, page.locator(".origin button").first):
            assert place.evaluate("node => getComputedStyle(node).unicodeBidi") == "isolate"
        page.get_by_role("button", name="whole document").first.click()
        whole = page.locator("#content h3:focus ~ .piece pre")
        api.expect(whole).to_have_count(1)
        assert (whole.text_content() or "").endswith(text)
        assert "taken" not in page.title()
        assert not page.locator("main img, main script").count()


def test_what_the_server_writes_is_marked_as_english_on_the_chinese_page(browser: Browser, runs: Path) -> None:
    with studio(str(runs)) as (address, _), opened(browser, address, locale="zh-CN") as page:
        page.wait_for_selector("figure path.line")
        language = "node => node.closest('[lang]').lang"
        assert page.locator("h1").evaluate(language) == "zh"
        assert page.locator(".tree").evaluate(language) == "en"
        page.locator('nav a[href^="#recipe"]').click()
        page.locator(".picture svg").wait_for()
        assert page.locator(".picture svg").evaluate(language) == "en"
        page.locator("textarea").fill("layers: 2")
        fault = page.locator(".faults li span").first
        api.expect(fault).to_be_visible()
        assert fault.evaluate(language) == "en"
        assert page.locator(".faults li button").first.evaluate(language) == "zh"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("language", ["en-US", "zh-CN"])
def test_the_page_fits_a_phone_in_both_languages_and_colors(
    browser: Browser, runs: Path, scheme: str, language: str
) -> None:
    phone = {"viewport": {"width": 360, "height": 740}, "color_scheme": scheme, "locale": language}
    with studio(str(runs)) as (address, _), opened(browser, address, **phone) as page:
        page.wait_for_selector("figure path.line")
        for part in ("runs", "scores", "data", "playground", "recipe"):
            page.locator(f'nav a[href^="#{part}"]').click()
            page.wait_for_selector("h1")
            page.wait_for_timeout(300)
            assert page.evaluate("document.documentElement.scrollWidth") <= 360, part
        titles = {"en-US": "Recipe", "zh-CN": "配方"}
        api.expect(page.get_by_role("heading", level=1)).to_have_text(titles[language])
        ink, ground = page.evaluate(
            "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
        )
        assert (sum(map(int, re.findall(r"\d+", ink)[:3])) > sum(map(int, re.findall(r"\d+", ground)[:3]))) == (
            scheme == "dark"
        )
