"""Make the pictures of the documentation: python -m tests.studio.pictures [FOLDER].

Trains `nano` in build/pictures, and takes its report and the parts of the studio in Chromium.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.studio.process import studio

if TYPE_CHECKING:
    from playwright.sync_api import Page

ROOT = Path(__file__).parent.parent.parent
RUNS = ROOT / "build" / "pictures"
SIZE = {"width": 1180, "height": 900}
_TO_TOP = "node => scrollTo(0, node.getBoundingClientRect().top + scrollY - 70)"
PROMPT = "def add("


def main() -> None:
    """Write report.png, and a picture of each part of the studio that has much to show."""
    from playwright.sync_api import sync_playwright

    out = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "images"
    out.mkdir(parents=True, exist_ok=True)
    family = RUNS / "nano"
    subprocess.run([sys.executable, "-m", "tinyllama", "reproduce", "nano", "--run", str(family)], check=True)
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = started.new_page(viewport=SIZE, color_scheme="light")
        page.goto((family / "report.html").as_uri())
        page.get_by_role("heading", name="The family", exact=True).evaluate(_TO_TOP)
        page.wait_for_timeout(500)
        page.screenshot(path=out / "report.png")
        with studio(str(RUNS)) as (address, _):
            take_all(page, f"{address}#", "nano", out, step=90)
        started.close()


def take_all(page: Page, address: str, family: str, out: Path, step: int) -> None:
    """A picture of each part.

    Args:
        page: of a browser.
        address: of the studio, up to the name of a part.
        family: its id; base and `math_code` are trained.
        out: folder.
        step: whose rows are shown, of `math_code`.
    """
    take_runs(page, f"{address}runs/{family}", out / "studio-runs.png")
    take_scores(page, f"{address}scores/{family}", out / "studio-scores.png")
    take_data(page, f"{address}data/{family}", out / "studio-data.png", step)
    take_playground(page, f"{address}playground/{family}", out / "studio-playground.png")
    take_recipe(page, f"{address}recipe/{family}", out / "studio-recipe.png")


def take_runs(page: Page, address: str, out: Path) -> None:
    """The curves."""
    page.goto(address)
    page.wait_for_selector("figure path.line")
    page.locator("table.models").evaluate(_TO_TOP)
    page.screenshot(path=out)


def take_scores(page: Page, address: str, out: Path) -> None:
    """Bits per byte."""
    page.goto(address)
    page.locator("section:has(table.heat) h2").first.evaluate(_TO_TOP)
    page.wait_for_timeout(500)
    page.screenshot(path=out, clip={"x": 0, "y": 0, **SIZE, "height": 660})


def take_data(page: Page, address: str, out: Path, step: int) -> None:
    """The rows of a step."""
    page.goto(address)
    page.get_by_label("model").select_option("math_code")
    page.get_by_label("step", exact=True).fill(str(step))
    page.get_by_role("button", name="Show", exact=True).click()
    page.wait_for_selector(".piece pre")
    page.get_by_role("heading", name="What a step saw").evaluate(_TO_TOP)
    page.screenshot(path=out)


def take_playground(page: Page, address: str, out: Path) -> None:
    """Answers of all models."""
    page.goto(address)
    page.get_by_label("Text to continue").fill(PROMPT)
    page.get_by_role("button", name="Continue the text").click()
    page.locator(".answer .token").nth(40).wait_for(timeout=120_000)
    page.locator(".answer .token").nth(3).hover()
    page.wait_for_timeout(500)
    page.get_by_role("heading", name="Playground").evaluate(_TO_TOP)
    page.screenshot(path=out)


def take_recipe(page: Page, address: str, out: Path) -> None:
    """A recipe with a change, its difference from the running one, and its cost."""
    page.goto(address)
    text = page.get_by_label("Text of the recipe")
    page.get_by_text("The recipe is valid.").wait_for(timeout=120_000)
    text.fill(text.input_value().replace("peak: 0.004", "peak: 0.003"))
    page.get_by_role("combobox", name="GPU", exact=True).select_option("h100-80g")
    page.get_by_role("region", name="Cost").wait_for(timeout=120_000)
    page.get_by_role("heading", name="Difference from").evaluate(_TO_TOP)
    page.screenshot(path=out)


if __name__ == "__main__":
    main()
