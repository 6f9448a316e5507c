"""Prompts that do not fit the context are counted where the score is shown."""

import json
import shutil
from pathlib import Path

import pytest

from tests.field.commands import Commands
from tests.field.conftest import RECIPE, Run

pytestmark = pytest.mark.field

GSM8K = [{"question": f"Ann has {n} pears and buys {n}.", "answer": f"{n} + {n}.\n#### {2 * n}"} for n in range(2, 9)]
PASSAGE = "The river runs to the sea. " * 40


@pytest.fixture(scope="module")
def trained(commands: Commands, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with a context of 32, and data of three tasks."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "text").mkdir()
    (folder / "data").mkdir()
    for number in range(24):
        (folder / f"text/{number}.txt").write_text(f"The river {number} runs to the sea.\n" * 60, encoding="utf-8")
    recipe = RECIPE.replace("evaluation: {", "evaluation: {tasks: [], ")
    (folder / "field.yaml").write_text(recipe, encoding="utf-8")
    rows = {
        "gsm8k_train": GSM8K,
        "gsm8k_test": GSM8K[:2],
        "boolq_validation": [
            {"passage": PASSAGE, "question": "is there a sea", "label": 1},
            {"passage": "", "question": "", "label": 0},
        ],
        "arithmetic_2da_validation": [{"context": "2+2=", "completion": "4"}],
    }
    for name, lines in rows.items():
        text = "".join(f"{json.dumps(line)}\n" for line in lines)
        (folder / f"data/{name}.jsonl").write_text(text, encoding="utf-8")
    commands.run("train", "field.yaml", "--variant", "base", cwd=folder).succeeded()
    return folder


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    """A copy of that model's folder."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    return tmp_path


def _record(folder: Path) -> dict[str, dict[str, object]]:
    (path,) = (folder / "evaluations").glob("*/record.json")
    tasks: dict[str, dict[str, object]] = json.loads(path.read_text(encoding="utf-8"))["tasks"]
    return tasks


def test_generated_answers_to_cut_prompts_are_counted(folder: Path, tinyllama: Run) -> None:
    out = tinyllama("evaluate", "runs/field/base", "--tasks", "gsm8k", "--data", "data").succeeded()
    assert _record(folder)["gsm8k"]["cut"] == 2
    assert "which can lower the scores: gsm8k 2 of 2 questions" in out
    again = tinyllama("evaluate", "runs/field/base", "--tasks", "gsm8k", "--data", "data").succeeded()
    assert "2 of 2 questions" in again  # with the answers of the journal


def test_scored_options_of_cut_prompts_are_counted(folder: Path, tinyllama: Run) -> None:
    out = tinyllama("evaluate", "runs/field/base", "--tasks", "boolq,arithmetic_2da", "--data", "data").succeeded()
    tasks = _record(folder)
    assert (tasks["boolq"]["cut"], tasks["arithmetic_2da"]["cut"]) == (1, 0)
    note = out.partition("lost their beginning")[2]
    assert "boolq 1 of 2 questions" in note
    assert "arithmetic_2da" not in note
