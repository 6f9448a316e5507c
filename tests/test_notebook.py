"""The notebook for a free GPU: its cells run in order on a CPU, and the wider family of GPUs is a valid plan."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.constraints import ROOT

if TYPE_CHECKING:
    from pathlib import Path

PAGE = json.loads((ROOT / "notebooks/first-family.ipynb").read_text(encoding="utf-8"))
CELLS = ["".join(cell["source"]) for cell in PAGE["cells"] if cell["cell_type"] == "code"]
INSTALL, DEVICE, RECIPE, *REST = CELLS


def _run(folder: Path, *cells: str) -> str:
    """What a script of some cells prints."""
    script = folder / "cells.py"
    script.write_text("\n\n".join(cells), encoding="utf-8")
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, str(script)], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_notebook_is_kept_without_results() -> None:
    assert PAGE["nbformat"] == 4
    assert all(not cell.get("outputs") and cell.get("execution_count") is None for cell in PAGE["cells"])
    assert len({cell["id"] for cell in PAGE["cells"]}) == len(PAGE["cells"])


def test_only_the_first_cell_is_for_the_notebook_alone() -> None:
    assert INSTALL.startswith("!pip install --quiet -c constraints.txt ")
    for cell in (DEVICE, RECIPE, *REST):
        compile(cell, "notebook", "exec")


def test_the_wider_family_is_a_plan(tmp_path: Path) -> None:
    printed = _run(tmp_path, "class device:\n    type = 'cuda'", RECIPE)
    assert "chinese" in printed
    parameters = re.findall(r"([\d,]+) parameters", printed)[0]
    assert int(parameters.replace(",", "")) > 9_000_000


@pytest.mark.slow
def test_the_notebook_trains_a_family(tmp_path: Path) -> None:
    printed = _run(tmp_path, DEVICE, RECIPE, *REST)
    assert (tmp_path / "runs/nano/report.html").is_file()
    assert (tmp_path / "models.zip").is_file()
    for model in ("base", "v1.1", "math_code", "chinese"):
        assert re.search(rf"^{re.escape(model)} ['\"]", printed, re.MULTILINE), model
