"""The line that shows how a training gets on."""

from types import SimpleNamespace

import pytest

from tinyllama.cli import progress as module
from tinyllama.cli.progress import TrainingLine
from tinyllama.train.metrics import StepRecord

STEP = 1024
CLOCK = SimpleNamespace(now=0.0, monotonic=lambda: CLOCK.now)


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    CLOCK.now = 100.0
    monkeypatch.setattr(module, "time", CLOCK)


def record(tokens: int, seconds: float = 1.0) -> StepRecord:
    return StepRecord(
        step=tokens // STEP,
        stage="main",
        tokens=tokens,
        loss=3.2145,
        lr=1.234e-3,
        grad_norm=1.0,
        batch=16,
        counts={},
        seconds=seconds,
        checkpoint_seconds=0.0,
        tokens_per_second=STEP / seconds,
        mfu=0.42,
    )


def after(line: TrainingLine, tokens: int, seconds: float = 1.0, width: int | None = None) -> str:
    """The line after a step that took so long."""
    CLOCK.now += seconds
    return line.text(record(tokens, seconds), width)


def test_80_columns_hold_place_percent_loss_speed_and_time_left() -> None:
    line = TrainingLine("math_code", "2 of 4", 0, 100 * STEP)
    for step in range(1, 51):
        text = after(line, step * STEP, width=80)
    assert text == "math_code (2 of 4) · 50% · loss 3.215 · 1.02K tokens/s · 0:00:50 left"


def test_a_wide_terminal_shows_everything_and_a_narrow_one_the_most_needed() -> None:
    wide = after(TrainingLine("base", "1 of 1", 0, 100 * STEP), STEP)
    assert wide == (
        "base (1 of 1) · main · 1% · 1.024K/102.4K tokens · loss 3.215 · lr 1.23e-03 · batch 16 · 1.02K tokens/s · "
        "MFU 42% · 0:01:39 left"
    )
    assert after(TrainingLine("base", "1 of 1", 0, 100 * STEP), STEP, width=20) == "base (1 of 1) · 1%"
    assert after(TrainingLine("base", "1 of 1", 0, 100 * STEP), STEP, width=5) == "base (1 of 1)"


def test_the_speed_is_a_mean_over_seconds_that_one_step_does_not_move() -> None:
    line = TrainingLine("base", "1 of 1", 0, 100 * STEP)
    texts = [after(line, (step + 1) * STEP, seconds=5.0 if step == 50 else 1.0) for step in range(60)]
    assert "1.02K tokens/s" in texts[0]
    assert "1.02K tokens/s" in texts[49]
    assert "819 tokens/s" in texts[50]  # 20 steps in 25 seconds


def test_after_a_rollback_the_speed_begins_again() -> None:
    line = TrainingLine("base", "1 of 1", 0, 100 * STEP)
    for tokens in (STEP, 2 * STEP, STEP):
        text = after(line, tokens)
    assert "1.02K tokens/s" in text


def test_a_model_counts_its_own_tokens_from_its_fork_or_start() -> None:
    text = after(TrainingLine("more", "2 of 2", 2 * 10**12, 2 * 10**12 + 10 * STEP), 2 * 10**12 + STEP)
    assert "10% · 1.024K/10.24K tokens" in text
