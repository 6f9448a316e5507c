"""Sampling settings that arithmetic cannot hold."""

from pathlib import Path

import pytest

from tests.field.conftest import Run

pytestmark = pytest.mark.field

GENERATE = ("generate", "runs/field/base", "The river", "--max-new-tokens", "4")


def test_extreme_settings_are_refused_or_work(field: Path, tinyllama: Run) -> None:
    tinyllama("train", "field.yaml").succeeded()
    assert (field / "runs/field/base").is_dir()
    greedy = tinyllama(*GENERATE, "--temperature", "0").succeeded()
    assert tinyllama(*GENERATE, "--temperature", "1e-30").succeeded() == greedy
    assert "temperature" in tinyllama(*GENERATE, "--temperature", "1e-300").refused()
    for penalty in ("1e-300", "1e300", "nan", "0"):
        assert "penalty" in tinyllama(*GENERATE, "--repetition-penalty", penalty).refused()
    assert "temperature" in tinyllama(*GENERATE, "--temperature", "nan").refused()
    assert "top" in tinyllama(*GENERATE, "--top-p", "nan").refused()
