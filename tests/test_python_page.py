"""docs/python.md, as it stands there: its blocks run in order, and use every public name."""

import re
import shutil
from pathlib import Path

import pytest

import tinyllama

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/python.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
DATA = ROOT / "tests/legacy/family-4bd9be0/data/eval"


def test_the_page_shows_every_public_name() -> None:
    shown = set(re.findall(r"\w+", " ".join(re.findall(r"from tinyllama import (.*)", "".join(BLOCKS)))))
    assert shown == set(tinyllama.__all__) - {"__version__"}


def test_the_page_runs(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(DATA, tmp_path / "data/eval")
    shutil.copytree(prepared, tmp_path / "runs/nano")  # the page prepares the same corpora; it finds them
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in BLOCKS:
        exec(compile(block, "docs/python.md", "exec"), names)  # noqa: S102  # our own page

    printed = capsys.readouterr().out
    assert "no model 'v1.2'" in printed
    assert isinstance(names["text"], str)
    assert (tmp_path / "runs/nano/report.html").is_file()
    assert {path.name for path in (tmp_path / "runs/nano/exports").iterdir() if path.is_dir()} == {
        "base", "v1.1", "math_code", "chinese",
    }  # fmt: skip
