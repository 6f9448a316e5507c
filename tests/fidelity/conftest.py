"""A tiny family of two models that was trained once, and copies of it."""

import shutil
from pathlib import Path

import pytest

MODEL = "math_code"


@pytest.fixture(scope="session")
def trained(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A family whose base (steps 1 to 6) and one variant (7 to 14) alone are trained."""
    folder = tmp_path_factory.mktemp("two-trained") / "family"
    return Path(shutil.copytree(trained, folder, ignore=shutil.ignore_patterns("v1.1")))


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of the trained family, to change."""
    return Path(shutil.copytree(trained, tmp_path / "run"))
