"""Environments that `make test-compat` builds, and exports for them."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.export.conftest import model, recipe, tokenizer_model
from tests.export.test_folder import exported
from tests.tokenizer.test_json_file import trained, write
from tinyllama.model import Llama
from tinyllama.recipe import load_recipe

if TYPE_CHECKING:
    from tinyllama.recipe import Recipe

__all__ = ["model", "recipe", "tokenizer_model"]

ENVIRONMENTS = Path(__file__).parents[2] / "build" / "compat"
TEXTS = ("the cat sat on", " the  cat", "don't CAN'T 1234567", "人工智能是 🦙", "x\n\ty")


def python_of(environment: str) -> Path:
    """The Python of an environment; the test is skipped where it was not built."""
    python = ENVIRONMENTS / environment / "bin" / "python"
    if not python.exists():
        pytest.skip("make test-compat builds its environment")
    return python


def run_in(environment: str, *arguments: str, folder: Path) -> str:
    """What a Python program prints that an environment's Python runs in a folder."""
    variables = {**os.environ, "PYTHONPATH": "", "HF_HUB_OFFLINE": "1"}
    ended = subprocess.run(
        [str(python_of(environment)), *arguments],
        cwd=folder, env=variables, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def work_in(environment: str, work: str, folder: Path) -> dict[str, Any]:
    """The result of one of `workers.py` for an exported folder and the texts."""
    worker = Path(__file__).with_name("workers.py")
    return dict(json.loads(run_in(environment, str(worker), work, str(folder), *TEXTS, folder=folder)))


@pytest.fixture(params=["SentencePiece", "byte-level, tied"])
def export(request: pytest.FixtureRequest, tmp_path: Path, model: Llama, recipe: Recipe, tokenizer_model: Path) -> Path:
    """A Hugging Face folder where the quick start of its card looks for it."""
    if request.param != "SentencePiece":
        pieces = trained("gpt-2")
        tokenizer_model = write(tmp_path / "tokenizer", pieces) / "tokenizer.json"
        sizes = [f"{key}.vocab_size={len(pieces.tokens)}" for key in ("model", "tokenizer.train")]
        recipe = load_recipe("nano", [*sizes, "model.tied_embeddings=true"])
        model = Llama(recipe.model)
        model.initialize(0)
    folder = tmp_path / "path" / "to" / "nano-math_code"
    folder.parent.mkdir(parents=True)
    exported(model, folder, recipe, tokenizer_model)
    return folder
