"""A browser, and a family that is trained."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.conftest import SMALL
from tinyllama.family import Family
from tinyllama.recipe import load_recipe

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Playwright


@pytest.fixture(scope="package")
def playwright() -> Iterator[Playwright]:
    from tests.studio.browser.pages import api

    with api.sync_playwright() as started:
        yield started


@pytest.fixture(scope="package")
def browser(playwright: Playwright) -> Iterator[Browser]:
    from tests.studio.browser.pages import CHROMIUM

    started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
    yield started
    started.close()


@pytest.fixture(scope="package")
def trained(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a family of which base and one variant are trained."""
    folder = tmp_path_factory.mktemp("played") / "small"
    shutil.copytree(prepared, folder)
    recipe = load_recipe("nano", [*SMALL, "checkpoints.every=2K", "checkpoints.permanent=2K"])
    Family(recipe, folder).train("base", "math_code")
    return folder.parent
