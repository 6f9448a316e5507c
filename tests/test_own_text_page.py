"""Every command of docs/own-text.md runs, in order, as it stands there, on a small text."""

import json
import re
import shlex
from pathlib import Path

import pytest

from tests.command import run
from tests.design.library import copy_library

PAGE = (Path(__file__).parent.parent / "docs/own-text.md").read_text(encoding="utf-8")
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    copy_library(folder)
    return folder


@pytest.mark.slow
def test_the_commands_run_and_end_with_a_report_and_models(folder: Path) -> None:
    assert len(COMMANDS) == 12
    for command in COMMANDS:
        words = shlex.split(command)
        done = run(*words[1:], cwd=folder)
        assert done.returncode == 0, f"{command}\n{done.stderr}"
    assert (folder / "runs/try/report.html").is_file()
    ladder = json.loads((folder / "runs/try-ladder/ladder.json").read_text())
    assert len(ladder["points"]) == 12
    assert ladder["prediction"]["measured"] > 0  # reproduce has trained the recipe
    tuned = json.loads((folder / "runs/try-tune/tune.json").read_text())
    assert tuned["best"]["keys"]["optimizer.learning_rate.peak"] == tuned["best"]["peak"]
    summary = json.loads((folder / "runs/try/summary.json").read_text())
    assert set(summary["bits_per_byte"]) == {"base", "general", "code"}
    assert all(0 < value < 8 for row in summary["bits_per_byte"].values() for value in row.values())
