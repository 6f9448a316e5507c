"""Make the pictures of the documentation: python -m tests.studio.pictures [FOLDER].

Trains `nano` in build/pictures, and takes its report and the parts of the studio in Chromium.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from tests.studio.process import studio

ROOT = Path(__file__).parent.parent.parent
RUNS = ROOT / "build" / "pictures"
SIZE = {"width": 1180, "height": 900}
_TO_TOP = "node => scrollTo(0, node.getBoundingClientRect().top + scrollY - 70)"
PROMPT = "def add("


def main() -> None:
    """Write report.png, and a picture of each part of the studio that has much to show."""
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
            take_runs(page, address, out / "studio-runs.png")
            take_data(page, address, out / "studio-data.png")
            take_playground(page, address, out / "studio-playground.png")
        started.close()


def take_runs(page: Page, address: str, out: Path) -> None:
    """The curves."""
    page.goto(f"{address}#runs/nano")
    page.wait_for_selector("figure path.line")
    page.locator("table.models").evaluate(_TO_TOP)
    page.screenshot(path=out)


def take_data(page: Page, address: str, out: Path) -> None:
    """The rows of a step."""
    page.goto(f"{address}#data/nano")
    page.get_by_label("model").select_option("math_code")
    page.get_by_label("step", exact=True).fill("90")
    page.get_by_role("button", name="Show", exact=True).click()
    page.wait_for_selector(".piece pre")
    page.get_by_role("heading", name="What a step saw").evaluate(_TO_TOP)
    page.screenshot(path=out)


def take_playground(page: Page, address: str, out: Path) -> None:
    """Answers of all models."""
    page.goto(f"{address}#playground/nano")
    page.get_by_label("Text to continue").fill(PROMPT)
    page.get_by_role("button", name="Continue the text").click()
    page.locator(".answer .token").nth(40).wait_for(timeout=120_000)
    page.locator(".answer .token").nth(3).hover()
    page.wait_for_timeout(500)
    page.get_by_role("heading", name="Playground").evaluate(_TO_TOP)
    page.screenshot(path=out)


if __name__ == "__main__":
    main()
