from types import SimpleNamespace

import pytest
from rich.console import Console

from tinyllama.cli import progress as module
from tinyllama.cli.progress import TerminalProgress
from tinyllama.prepare.task import Counts


@pytest.fixture
def screen() -> TerminalProgress:
    screen = TerminalProgress()
    screen.console = Console(record=True, force_terminal=False, width=200, stderr=True)
    return screen


def test_speed_and_time_left_are_of_what_this_command_does(
    screen: TerminalProgress, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(now=0.0, monotonic=lambda: clock.now)
    monkeypatch.setattr(module, "time", clock)
    with screen.counting("corpus prose") as show:
        show(Counts(documents=10, bytes=5_000_000, tokens=1_000_000, read=2_000_000, unread=8_000_000))
        clock.now = 100.0
        show(Counts(documents=20, bytes=9_000_000, tokens=2_000_000, read=4_000_000, unread=6_000_000))
        clock.now = 110.0
        show(Counts(documents=40, bytes=29_000_000, tokens=6_000_000, read=10_000_000))
    assert screen.console.export_text().splitlines() == [
        "corpus prose: 20 documents, 9.0 MB, 0.0 MB/s, 10K tokens/s, 0:05:00 left",
        "corpus prose: 40 documents, 29.0 MB, 0.2 MB/s, 45.5K tokens/s in 110.0 s",
    ]


def test_a_corpus_that_is_there_already_says_nothing(screen: TerminalProgress) -> None:
    with screen.counting("corpus prose"):
        pass
    assert screen.console.export_text() == ""
