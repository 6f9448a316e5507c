"""One tiny family that was trained once, and copies of it."""

import shutil
from pathlib import Path

import pytest

from tests.conftest import SMALL
from tinyllama.family import Family
from tinyllama.recipe import load_recipe

MODEL = "math_code"


@pytest.fixture(scope="session")
def trained(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A family whose base (steps 1 to 6) and one variant (7 to 14) are trained."""
    folder = tmp_path_factory.mktemp("trained") / "family"
    shutil.copytree(prepared, folder)
    Family(load_recipe("nano", SMALL), folder).train("base", MODEL)
    return folder


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of the trained family, to change."""
    return Path(shutil.copytree(trained, tmp_path / "run"))
