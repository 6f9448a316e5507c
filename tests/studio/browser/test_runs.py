"""How far models are, their curves and the tree, while they are trained: what moves, and what stays in its place."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.report.conftest import BITS, write, write_family
from tests.studio.browser.pages import ATTACK, api, lines, opened
from tests.studio.process import studio
from tinyllama.layout import FamilyLayout
from tinyllama.recipe import dump_recipe, load_recipe
from tinyllama.train.process import this_process, write_process

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Browser

pytestmark = pytest.mark.browser


def test_a_run_is_followed_while_it_trains(browser: Browser, prepared: Path, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "live"
    shutil.copytree(prepared, folder)
    command = [sys.executable, "-m", "tinyllama", "train", "nano", "--run", str(folder), "--variant", "base"]
    with studio(str(folder.parent)) as (address, _), opened(browser, address) as page:
        api.expect(page.get_by_text("No family is here yet.")).to_be_visible()
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as training:
            api.expect(page.get_by_role("heading", name="nano")).to_be_visible(timeout=60_000)
            row = page.locator("table.models tbody tr").first
            steps = set()
            while training.poll() is None:
                steps.add(row.locator("td").nth(2).inner_text())
                time.sleep(0.05)
        assert training.returncode == 0
        api.expect(row).to_contain_text("done", timeout=20_000)
        assert len(steps) > 2  # it was seen on its way
        api.expect(page.locator("figure", has_text="Training loss").locator("path.line")).to_have_count(1)


def test_new_steps_are_on_two_pages_within_a_second(browser: Browser, runs: Path) -> None:
    path = FamilyLayout(runs / "nano").metrics("base")
    found = path.read_text().splitlines(keepends=True)
    path.write_text("".join(found[:21]))
    later = [record["step"] for record in map(json.loads, found[21:31]) if record["kind"] == "step"]
    with studio(str(runs)) as (address, _), opened(browser, address) as page, opened(browser, address) as other:
        for each in (page, other):
            each.wait_for_selector("figure path.line")
        time.sleep(1.5)
        with path.open("a") as file:
            file.write("".join(found[21:31]))
        deadline = time.monotonic() + 1
        for each in (page, other):
            step = each.locator("table.models tbody tr").first.locator("td").nth(2)
            api.expect(step).to_have_text(str(later[-1]), timeout=1000 * (deadline - time.monotonic()))


def test_a_new_step_leaves_scroll_focus_and_selection_and_fills_the_tree(browser: Browser, runs: Path) -> None:
    path = FamilyLayout(runs / "nano").metrics("base")
    found = path.read_text().splitlines(keepends=True)
    path.write_text("".join(found[:21]))
    with (
        studio(str(runs)) as (address, _),
        opened(browser, address, viewport={"width": 400, "height": 800}) as page,
    ):
        page.wait_for_selector("figure path.line")
        region = page.get_by_role("region", name="How far each model is")
        region.evaluate("node => { node.scrollLeft = 120; node.focus(); }")
        page.evaluate("getSelection().selectAllChildren(document.querySelector('table.models tbody th'))")
        trained = "document.querySelector('.tree clipPath rect').getAttribute('width')"
        before = float(page.evaluate(trained))
        step = page.locator("table.models tbody tr").first.locator("td").nth(2)
        was = step.inner_text()
        with path.open("a") as file:
            file.write("".join(found[21:25]))
        api.expect(step).not_to_have_text(was)
        assert region.evaluate("node => [node.scrollLeft, document.activeElement === node]") == [120, True]
        assert page.evaluate("String(getSelection())").strip() == "base"
        assert 0 < before < float(page.evaluate(trained)) < 100


def test_a_model_that_failed_says_why(browser: Browser, runs: Path) -> None:
    layout = FamilyLayout(runs / "nano")
    process = this_process()
    write_process(layout.process("chinese"), process.after("failed", f"the loss is not finite {ATTACK}"))
    write_process(layout.process("math_code"), process.model_copy(update={"born": "0"}))
    with studio(str(runs)) as (address, _), opened(browser, address) as page:
        rows = page.locator("table.models tbody tr")
        failed = rows.filter(has_text="chinese")
        api.expect(failed).to_contain_text("failed")
        api.expect(failed).to_contain_text(f"the loss is not finite {ATTACK}")
        api.expect(rows.filter(has_text="math_code")).to_contain_text("killed")
        write_process(layout.process("chinese"), process.after("stopped", "SIGTERM"))
        api.expect(failed).to_contain_text("stopped")


def test_several_families_have_colors_by_name_and_one_that_fails_leaves_the_others(
    browser: Browser, runs: Path
) -> None:
    recipe = load_recipe("nano")
    turned = recipe.model_copy(update={"variants": dict(reversed(recipe.variants.items()))})
    write_family(runs / "second", turned, BITS)
    write(FamilyLayout(runs / "second").recipe, dump_recipe(turned))
    assert recipe.models != turned.models
    with studio(str(runs)) as (address, _), opened(browser, f"{address}#runs/nano") as page:
        page.wait_for_selector("figure path.line")
        page.get_by_role("checkbox", name="second").check()
        drawn = page.locator("figure", has_text="Training loss").locator("path.line")
        api.expect(drawn).to_have_count(8)
        strokes = drawn.evaluate_all("paths => paths.map((path) => path.style.stroke)")
        colors = dict(zip(recipe.models, strokes, strict=False))
        assert len(set(colors.values())) == 4
        assert dict(zip(turned.models, strokes[4:], strict=True)) == colors
        for model in recipe.models:
            swatches = page.locator("button, th").filter(has_text=re.compile(rf"^{model}$")).locator(".swatch")
            found = swatches.evaluate_all("all => all.map((one) => one.style.background)")
            assert found == [colors[model]] * 2, "in the table and the legend"
    with studio(str(runs)) as (address, _):
        page = browser.new_page()  # whose console reports the request that fails
        page.route("**/second/curves*", lambda route: route.fulfill(status=500, json={"error": "it broke"}))
        page.goto(f"{address}#runs/nano")
        page.wait_for_selector("figure path.line")
        page.get_by_role("checkbox", name="second").check()
        api.expect(page.get_by_text("second: it broke")).to_be_visible()
        assert lines(page, "Training loss") == 4
        page.close()


def test_a_run_that_disappears_leaves_a_message(browser: Browser, runs: Path) -> None:
    with studio(str(runs)) as (address, _):
        page = browser.new_page()  # whose console reports what it asked for too late
        page.goto(address)
        page.wait_for_selector("figure path.line")
        shutil.rmtree(runs / "nano")
        api.expect(page.get_by_text("No family is here yet.")).to_be_visible(timeout=15_000)
        page.close()


def test_charts_zoom_and_read_values_by_keyboard(browser: Browser, runs: Path) -> None:
    with studio(str(runs)) as (address, _), opened(browser, address) as page:
        page.wait_for_selector("figure path.line")
        plot = page.locator(".plot").first
        plot.focus()
        page.keyboard.press("End")
        api.expect(page.locator("output").first).to_contain_text("chinese")
        page.keyboard.press("Home")
        page.keyboard.press("+")
        api.expect(page.locator(".tools span")).to_contain_text("0 to ")
        page.keyboard.press("0")
        api.expect(page.locator(".tools span")).to_contain_text("all ")
        page.get_by_role("button", name="math_code").click()
        assert lines(page, "Training loss") == 3


def test_a_studio_that_was_killed_and_is_back_goes_on(browser: Browser, runs: Path) -> None:
    with studio(str(runs)) as (address, process):
        context = browser.new_context()
        page, other = context.new_page(), context.new_page()
        for each in (page, other):
            each.goto(address)
            api.expect(each.locator("#connection")).to_have_text("live")
        process.kill()
        process.wait()
        api.expect(page.locator("#connection")).to_have_text("not connected; trying again", timeout=15_000)
    with studio(str(runs), port=int(re.findall(r":(\d+)/", address)[0])):
        for each in (page, other):
            api.expect(each.locator("#connection")).to_have_text("live", timeout=15_000)
        context.close()
