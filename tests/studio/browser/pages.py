"""Pages of the studio in a real browser."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

api = pytest.importorskip("playwright.sync_api", reason="`make test-browser` installs Playwright")

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

CHROMIUM = shutil.which("chromium") or "chromium"
ATTACK = "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>"
api.expect.set_options(timeout=30_000)
"""Milliseconds: other work may share the machine."""


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
