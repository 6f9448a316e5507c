from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from tinyllama.train.signals import StopRequest

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As in the foreground; a job in the background inherits that SIGINT is ignored."""
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_the_first_signal_is_remembered_and_the_second_is_not_held_back() -> None:
    with StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.signal_number == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_under_torchrun_which_repeats_a_clusters_signal_a_rank_still_saves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "12345-0")
    before = signal.getsignal(signal.SIGTERM)
    with StopRequest() as stop:
        for number in (signal.SIGUSR1, signal.SIGUSR1, signal.SIGTERM):
            os.kill(os.getpid(), number)
        assert stop.signal_number == signal.SIGUSR1
    assert signal.getsignal(signal.SIGTERM) == before
