"""Models answer side by side: tokens one after another, their probabilities, and earlier checkpoints."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.studio.browser.pages import api, opened
from tests.studio.process import studio

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Browser

pytestmark = pytest.mark.browser


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


def test_a_family_without_checkpoints_has_nobody_to_ask(browser: Browser, runs: Path) -> None:
    with studio(str(runs)) as (address, _), opened(browser, f"{address}#playground/nano") as page:
        api.expect(page.get_by_text("No checkpoint of this family is on this machine yet.")).to_be_visible()
