"""A folder of families as training leaves them, and a browser's requests to a studio over it."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest
from starlette.testclient import TestClient

from tests.conftest import SMALL
from tests.report.conftest import BITS, metrics, write, write_family
from tests.train import processes
from tinyllama.layout import FamilyLayout
from tinyllama.recipe import Recipe, dump_recipe, load_recipe
from tinyllama.studio import jobs
from tinyllama.studio.app import Studio
from tinyllama.studio.families import StudioFamilies
from tinyllama.studio.guard import StudioGuard, access_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OWN = "http://localhost:8321"


@pytest.fixture(autouse=True)
def jobs_fork_from_the_process_that_all_tests_fork_from(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test process has one; started with the studio's imports alone, it would make each rank import torch."""
    monkeypatch.setattr(jobs, "warm_up", processes.warm_up)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A folder with one trained family, `nano`."""
    folder, recipe = tmp_path / "runs", load_recipe("nano")
    write_family(folder / "nano", recipe, BITS)
    write(FamilyLayout(folder / "nano").recipe, dump_recipe(recipe))
    return folder


@pytest.fixture
def client(runs: Path) -> Iterator[TestClient]:
    """Requests of the studio's own page."""
    app = StudioGuard(Studio(StudioFamilies([runs])).app(), access_of("127.0.0.1", "unused"))
    with TestClient(app, base_url=OWN) as asking:
        yield asking


@pytest.fixture
def small(prepared: Path, tmp_path: Path) -> Path:
    """A folder with a family whose corpora are prepared, and whose base has recorded its steps."""
    folder, recipe = tmp_path / "runs" / "small", load_recipe("nano", SMALL)
    shutil.copytree(prepared, folder)
    write(FamilyLayout(folder).recipe, dump_recipe(recipe))
    write_metrics(folder, recipe)
    return folder.parent


def write_metrics(folder: Path, recipe: Recipe) -> None:
    lines = [json.dumps(record) for record in metrics(recipe, "base")]
    write(FamilyLayout(folder).metrics("base"), "\n".join(lines) + "\n")
