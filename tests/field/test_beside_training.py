"""Commands that read a family work while it trains, and two processes may write in one family."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.field.commands import Commands, Outcome
from tests.field.conftest import Run

pytestmark = pytest.mark.field


@pytest.fixture
def training(field: Path) -> Path:
    """The family, with a checkpoint after every step that deletes the one before."""
    text = (field / "field.yaml").read_text()
    for old, new in (
        ("until: 512", "until: 10240"),
        ("until: 256", "until: 5120"),
        ("horizon: 512", "horizon: 10240"),
        ("checkpoints: {every: 512}", "checkpoints: {every: 128, keep: 1}"),
        ("evaluation: {every: 512, rows: 1}", "evaluation: {every: 10240, rows: 1, tasks: []}"),
    ):
        assert old in text
        text = text.replace(old, new)
    (field / "field.yaml").write_text(text)
    return field


def _beside(field: Path, command: Callable[[], Outcome]) -> tuple[Outcome, list[Outcome]]:
    """How the training ended, and the commands that ran until then."""
    ended: list[Outcome] = []
    with Commands() as other:
        thread = threading.Thread(target=lambda: ended.append(other.run("train", "field.yaml", cwd=field)))
        thread.start()
        while thread.is_alive() and not list(field.glob("runs/field/base/checkpoints/step-*/manifest.json")):
            thread.join(0.05)
        found = []
        while thread.is_alive():
            found.append(command())
        thread.join()
    return ended[0], found


@pytest.mark.parametrize(
    "arguments",
    [
        ("generate", "runs/field/base", "The river", "--max-new-tokens", "2"),
        ("export", "runs/field/base", "--format", "gguf"),
    ],
)
def test_reading_commands_work_while_the_trainer_deletes_checkpoints(
    training: Path, tinyllama: Run, arguments: tuple[str, ...]
) -> None:
    trained, read = _beside(training, lambda: tinyllama(*arguments))
    trained.succeeded()
    assert read
    for done in read:
        done.succeeded()
    assert len(list(training.glob("runs/field/base/checkpoints/step-*"))) <= 3


def test_two_preparations_of_one_family_both_succeed(field: Path) -> None:
    line = "".join(f"The river number {number} runs to the sea of {number % 7}.\n" for number in range(20000))
    (field / "text/long.txt").write_text(line)
    ended: list[Outcome] = []

    def prepare(folder: Path) -> None:
        with Commands() as server:
            ended.append(server.run("prepare", "field.yaml", "--json", cwd=folder))

    threads = [threading.Thread(target=prepare, args=(field,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({done.succeeded() for done in ended}) == 1
    assert not list((field / "runs/field/corpora").glob(".*.work"))
