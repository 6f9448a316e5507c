"""The studio in a real browser: each part, a live run, wrong recipes, missing runs, hostile texts, lost connections."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING

import httpx2
import pytest

from tests.comparison.test_compare import record
from tests.conftest import SMALL
from tests.report.conftest import BITS, summary, write, write_family
from tests.studio.conftest import write_metrics
from tests.studio.pictures import take_all
from tests.studio.process import studio
from tests.studio.test_control import LONG
from tinyllama.family import Family
from tinyllama.layout import FamilyLayout
from tinyllama.recipe import dump_recipe, load_recipe
from tinyllama.sources.rejected import Quarantine, Rejected
from tinyllama.train.process import this_process, write_process

api = pytest.importorskip("playwright.sync_api", reason="`make test-browser` installs Playwright")

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page, Playwright

pytestmark = pytest.mark.browser
CHROMIUM = shutil.which("chromium") or "chromium"
ATTACK = "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>"


api.expect.set_options(timeout=30_000)
"""Milliseconds: other work may share the machine."""


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    with api.sync_playwright() as started:
        yield started


@pytest.fixture(scope="module")
def browser(playwright: Playwright) -> Iterator[Browser]:
    started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
    yield started
    started.close()


@contextmanager
def opened(browser: Browser, address: str, **options: object) -> Iterator[Page]:
    """A page that complains about nothing and requests nothing from elsewhere."""
    context, own = browser.new_context(**options), address.partition("#")[0].partition("?")[0]
    page, problems = context.new_page(), list[str]()
    page.on("console", lambda message: problems.append(message.text) if message.type in {"error", "warning"} else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on(
        "request",
        lambda asked: None if asked.url.startswith((own, "data:", "blob:")) else problems.append(asked.url),
    )
    page.on("dialog", lambda dialog: problems.append(dialog.message))
    page.goto(address)
    yield page
    context.close()
    assert not problems


def choose(page: Page, part: str) -> None:
    page.get_by_role("navigation").get_by_role("link", name=part).click()


def lines(page: Page, figure: str) -> int:
    return page.locator("figure", has_text=figure).locator("path.line").count()


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


def test_a_run_that_disappears_leaves_a_message(browser: Browser, runs: Path) -> None:
    with studio(str(runs)) as (address, _):
        page = browser.new_page()  # whose console reports what it asked for too late
        page.goto(address)
        page.wait_for_selector("figure path.line")
        shutil.rmtree(runs / "nano")
        api.expect(page.get_by_text("No family is here yet.")).to_be_visible(timeout=15_000)
        page.close()


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


@pytest.fixture(scope="module")
def trained(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a family of which base and one variant are trained."""
    folder = tmp_path_factory.mktemp("played") / "small"
    shutil.copytree(prepared, folder)
    recipe = load_recipe("nano", [*SMALL, "checkpoints.every=2K", "checkpoints.permanent=2K"])
    Family(recipe, folder).train("base", "math_code")
    return folder.parent


def test_models_answer_side_by_side_and_show_their_probabilities(browser: Browser, trained: Path) -> None:
    with studio(str(trained)) as (address, _), opened(browser, f"{address}#playground/small") as page:
        attack = "<img src=x onerror=alert(1)>"  # the whole ATTACK exceeds the context
        page.get_by_label("Text to continue").fill(attack)
        page.get_by_label("tokens at most").fill("8")
        api.expect(page.get_by_label("sampling")).to_have_value("card")
        page.keyboard.press("Control+Enter")
        base, variant = page.get_by_role("article", name="base"), page.get_by_role("article", name="math_code")
        for answer in (base, variant):
            api.expect(answer.locator("p[role=status]")).to_contain_text(
                "8 tokens, as many as allowed.", timeout=60_000
            )
            api.expect(answer.locator(".prompt")).to_have_text(attack)
        token = variant.locator(".token").nth(2)
        token.hover()
        api.expect(variant.locator("output li")).to_have_count(5)
        shares = [float(text) for text in re.findall(r"([\d.]+)%", variant.locator("output ol").first.inner_text())]
        assert shares == sorted(shares, reverse=True)
        base.get_by_role("group").focus()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowRight")
        api.expect(base.locator(".token.chosen")).to_have_count(1)
        api.expect(base.locator("output li")).to_have_count(5)
        page.keyboard.press("Escape")
        api.expect(base.locator("output li")).to_have_count(0)
        assert not page.locator("img").count()


def test_answers_stream(browser: Browser, trained: Path) -> None:
    with studio(str(trained)) as (address, _), opened(browser, f"{address}#playground/small") as page:
        page.get_by_label("Text to continue").fill("The")
        page.get_by_label("tokens at most").fill("40")
        page.evaluate("""() => {
            window.times = [];
            const count = () => window.times.push(document.querySelectorAll(".token").length);
            new MutationObserver(count).observe(document.querySelector(".answers"), { childList: true, subtree: true });
        }""")
        page.get_by_role("button", name="Continue the text").click()
        for name in ("base", "math_code"):
            note = page.get_by_role("article", name=name).locator("p[role=status]")
            api.expect(note).to_contain_text("40 tokens, as many as allowed.", timeout=60_000)
        counts = page.evaluate("window.times")
        whole = page.locator(".token").count()
        between = {count for count in counts if 0 < count < whole}
        assert len(between) > 3, "tokens appear one after another"


def test_the_pictures_of_the_documentation_can_be_taken(browser: Browser, trained: Path, tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    shutil.copytree(trained, folder)
    recipe = load_recipe(str(FamilyLayout(folder / "small").recipe))
    write(FamilyLayout(folder / "small").summary, json.dumps(summary(recipe, BITS)))
    with studio(str(folder)) as (address, _), opened(browser, address) as page:
        take_all(page, f"{address}#", "small", tmp_path, step=8)
    taken = sorted(path.name for path in tmp_path.glob("*.png"))
    assert taken == [f"studio-{part}.png" for part in ("data", "playground", "recipe", "runs", "scores")]


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


def test_the_slider_shows_what_models_wrote_earlier(browser: Browser, trained: Path) -> None:
    with studio(str(trained)) as (address, _), opened(browser, f"{address}#playground/small") as page:
        page.get_by_label("Text to continue").fill("The")
        page.get_by_label("tokens at most").fill("4")
        page.get_by_role("button", name="Continue the text").click()
        base, variant = page.get_by_role("article", name="base"), page.get_by_role("article", name="math_code")
        done = "4 tokens, as many as allowed."
        api.expect(variant.locator("p[role=status]")).to_contain_text(done, timeout=60_000)
        now = base.locator("small").inner_text()
        slider = page.get_by_label("Trained on")
        assert int(slider.get_attribute("max") or 0) > 2
        slider.focus()
        page.keyboard.press("Home")
        api.expect(variant.get_by_text("It has no checkpoint before")).to_be_visible()
        api.expect(base.locator("p[role=status]")).to_contain_text(done, timeout=20_000)
        assert base.locator("small").inner_text() != now
        page.keyboard.press("End")
        api.expect(base.locator("small")).to_have_text(now)
        api.expect(variant.locator("p[role=status]")).to_contain_text(done)
        page.get_by_role("checkbox", name="math_code").uncheck()
        page.get_by_role("button", name="Continue the text").click()
        api.expect(variant).to_have_count(0)
        api.expect(base.locator("p[role=status]")).to_contain_text(done, timeout=20_000)


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


def test_a_family_without_checkpoints_has_nobody_to_ask(browser: Browser, runs: Path) -> None:
    with studio(str(runs)) as (address, _), opened(browser, f"{address}#playground/nano") as page:
        api.expect(page.get_by_text("No checkpoint of this family is on this machine yet.")).to_be_visible()


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


@contextmanager
def elsewhere() -> Iterator[tuple[str, list[str]]]:
    """A server on another port of this machine: its address, and the cookies that browsers sent it."""
    cookies: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            cookies.extend(self.headers.get_all("cookie", []))
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(b"<p>another service</p>")

        def log_message(self, *_arguments: object) -> None:
            """Write nothing to the terminal."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/", cookies
        server.shutdown()


def test_another_service_of_this_machine_learns_no_token_and_changes_nothing(browser: Browser, tmp_path: Path) -> None:
    text = dump_recipe(load_recipe("nano", (*SMALL, *LONG)))
    with studio(str(tmp_path), "--control") as (address, _), elsewhere() as (other, cookies):
        context = browser.new_context()
        page = context.new_page()
        page.goto(f"{address}#recipe")
        api.expect(page.get_by_role("button", name="Start training")).to_be_visible()
        page.goto(other)
        root = re.findall(r"http://[^/]+/", address)[0]
        send = """([address, body, mode]) => fetch(address, {method: "POST", mode, body, credentials: "include"})
            .then((answer) => answer.text()).catch(() => "nothing")"""
        for begin in (root, address):  # even with the token, which it cannot know
            for mode in ("cors", "no-cors"):
                asked = [f"{begin}api/commands", json.dumps({"text": text}), mode]
                assert page.evaluate(send, asked) in {"nothing", ""}
        page.set_content(f'<form method="post" enctype="text/plain" action="{address}api/commands"><button>go</button>')
        page.get_by_role("button").click()
        api.expect(page.get_by_text("pages of other sites get nothing")).to_be_visible()
        assert not cookies
        assert httpx2.get(f"{address}api/commands").json() == {"commands": []}
        assert not list(tmp_path.iterdir())
        context.close()


def test_a_name_that_is_bound_to_this_machine_shows_nothing(playwright: Playwright, runs: Path) -> None:
    rules = "--host-resolver-rules=MAP evil.example 127.0.0.1"
    rebound = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", rules])
    with studio(str(runs)) as (address, _):
        page = rebound.new_page()
        page.goto(address.replace("127.0.0.1", "evil.example"))
        assert page.inner_text("body").startswith("this name is not one of the studio")
        read = "fetch('/api/families').then((answer) => answer.text())"
        assert "nano" not in page.evaluate(read)
    rebound.close()


def test_a_page_of_another_site_gets_nothing(browser: Browser, runs: Path) -> None:
    with studio(str(runs)) as (address, _):
        context = browser.new_context()
        page = context.new_page()
        page.route(
            "http://elsewhere.example/*",
            lambda route: route.fulfill(body="<p>another site</p>", content_type="text/html"),
        )
        page.goto("http://elsewhere.example/")
        for mode in ("cors", "no-cors"):
            read = "([address, mode]) => fetch(address, {mode}).then(answer => answer.text()).catch(() => 'nothing')"
            assert page.evaluate(read, [f"{address}api/families", mode]) in {"nothing", ""}
        shown = "address => new Promise(end => { const image = new Image(); image.onerror = () => end(false); "
        shown += "image.onload = () => end(true); image.src = address; })"
        assert not page.evaluate(shown, f"{address}static/studio.css")
        context.close()
