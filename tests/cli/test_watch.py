"""`tinyllama watch`: a snapshot without a terminal, a live view on one, and how it ends."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.command import run
from tests.monitor.test_status import RECIPE, log, step
from tests.train.test_metrics import HELD_OUT
from tinyllama.cli.commands import app
from tinyllama.cli.following.watch_view import duration
from tinyllama.layout import FamilyLayout
from tinyllama.recipe import dump_recipe
from tinyllama.train.process import this_process, write_process


@pytest.fixture
def layout(tmp_path: Path) -> FamilyLayout:
    """A family whose base this process trains."""
    layout = FamilyLayout(tmp_path / "family")
    layout.root.mkdir()
    layout.recipe.write_text(dump_recipe(RECIPE))
    write_process(layout.process("base"), this_process().model_copy(update={"began": time.time() - 60}))
    log(layout.metrics("base"), step(1), HELD_OUT, step(3, memory=2**30))
    return layout


def test_without_a_terminal_one_snapshot_is_printed(layout: FamilyLayout) -> None:
    done = CliRunner().invoke(app, ["watch", str(layout.root)])
    assert done.exit_code == 0
    assert done.stdout.splitlines()[0].endswith("0 of 4 models done · 45 s left")
    for text in (
        "├── v1.1       ━━━━━━━━━━━━━━━━━━━━  waiting  14.34K tokens",
        "training 50%  3.072K/6.144K tokens",
        "base · stage base · step 3 of 6 · 3.072K of 6.144K tokens · 3 s left",
        "loss 2.000 · lr 1.00e-03 · gradient norm 0.5 · batch 2",
        "1,024 tokens/s · MFU 40% · memory 1.0 GiB",
        "held-out loss at 10: prose 3.500",
    ):
        assert text in done.stdout


def test_json_has_every_model(layout: FamilyLayout) -> None:
    done = CliRunner().invoke(app, ["watch", str(layout.root), "--json"])
    models = json.loads(done.stdout)["models"]
    assert [model["model"] for model in models] == RECIPE.models
    assert (models[0]["state"], models[0]["last"]["loss"]) == ("training", 2.0)


def test_how_training_ended_is_said(layout: FamilyLayout) -> None:
    write_process(layout.process("base"), this_process().after("failed", "step 3: the [disk] is full"))
    done = CliRunner().invoke(app, ["watch", str(layout.root)])
    assert "failed: step 3: the [disk] is full; the last record is" in done.stdout
    write_process(layout.process("base"), this_process().model_copy(update={"born": "1"}))
    done = CliRunner().invoke(app, ["watch", str(layout.root)])
    assert "killed: its process is gone without a word" in done.stdout
    assert "nothing trains here now; `tinyllama train` with the same recipe begins or resumes" in done.stdout


def test_a_run_that_is_not_there_is_a_users_mistake(tmp_path: Path) -> None:
    done = run("watch", tmp_path / "none")
    assert done.returncode == 2
    assert done.stderr.startswith(f"Error: {tmp_path / 'none'}: no training has begun here")


def test_the_live_view_follows_the_files_and_ctrl_c_ends_it_silently(layout: FamilyLayout) -> None:
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "tinyllama", "watch", str(layout.root)]
    with subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave) as process:
        os.close(slave)
        shown = _until(master, "step 3 of 6")
        log(layout.metrics("base"), step(4), at=3)
        shown += _until(master, "step 4 of 6")
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
        shown += _rest(master)
    os.close(master)
    assert "Traceback" not in shown
    assert "interrupted" not in shown


def test_the_live_view_ends_with_training(layout: FamilyLayout) -> None:
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "tinyllama", "watch", str(layout.root)]
    with subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave) as process:
        os.close(slave)
        _until(master, "step 3 of 6")
        write_process(layout.process("base"), this_process().model_copy(update={"born": "1"}))
        assert "killed" in _until(master, "nothing trains here now")
        assert process.wait(60) == 0
    os.close(master)


def _until(terminal: int, text: str) -> str:
    """What the terminal shows, up to a text."""
    shown, deadline = "", time.monotonic() + 120
    while text not in shown:
        assert time.monotonic() < deadline, shown
        if select.select([terminal], [], [], 1)[0]:
            shown += os.read(terminal, 65536).decode(errors="replace")
    return shown


def _rest(terminal: int) -> str:
    shown = ""
    while select.select([terminal], [], [], 0)[0]:
        try:
            shown += os.read(terminal, 65536).decode(errors="replace")
        except OSError:  # the other side is closed
            break
    return shown


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (99, "99 s"), (100, "2 min"), (5940, "99 min"), (6000, "1:40:00"), (200_000, "2 days, 7:33:00")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
