"""The small family of these tests trains."""

from pathlib import Path

from tests.field.conftest import Run


def test_the_small_family_trains_and_generates(field: Path, tinyllama: Run) -> None:
    tinyllama("train", "field.yaml").succeeded()
    assert list((field / "runs/field/plain/checkpoints").glob("step-*/manifest.json"))
    tinyllama("generate", "runs/field/base", "The river", "--max-new-tokens", "4").succeeded()


def test_a_command_that_does_not_exist_is_refused(tinyllama: Run) -> None:
    assert "No such command" in tinyllama("trian", "field.yaml").refused()
