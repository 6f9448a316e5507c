"""`import tinyllama` gives few names, lazily, whatever else has been imported before."""

import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

import tinyllama

if TYPE_CHECKING:
    from tinyllama.evaluation.record import EvaluationRecord

HEAVY = {"torch", "numpy", "pydantic", "pyarrow", "transformers"}
OPTIONAL = (
    "prepare.cluster.on_ray",
    "prepare.cluster.on_slurm",
    "prepare.cluster.steps",
    "evaluation.jail",
    "__main__",
)
"""Modules that need an extra, or that are programs."""


def test_the_public_names_are_these_and_all_are_documented() -> None:
    assert set(tinyllama.__all__) == {
        "Family", "__version__", "compile_plan", "evaluate", "generate", "load_recipe", "open_model",
    }  # fmt: skip
    assert set(tinyllama.__all__) <= set(dir(tinyllama))
    for name in set(tinyllama.__all__) - {"__version__"}:
        assert getattr(tinyllama, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'fit'"):
        tinyllama.fit  # noqa: B018  # the access is what is tested


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = f"import tinyllama, sys; sys.exit(str({HEAVY!r} & set(sys.modules)) if {HEAVY!r} & set(sys.modules) else 0)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_public_names_stay_callable_once_every_module_is_imported(tmp_path: Path) -> None:
    for module in pkgutil.walk_packages(tinyllama.__path__, "tinyllama."):
        if not module.name.removeprefix("tinyllama.").startswith(OPTIONAL):
            importlib.import_module(module.name)
    recipe = tinyllama.load_recipe("nano")
    assert tinyllama.compile_plan(recipe, "v1.1").steps > 0
    assert tinyllama.Family(recipe, tmp_path).models[0] == "base"
    from tinyllama.errors import ModelError

    for call in (
        lambda: tinyllama.open_model("/nowhere"),
        lambda: tinyllama.generate("/nowhere", "x"),
        lambda: tinyllama.evaluate("/nowhere", out=tmp_path),
    ):
        with pytest.raises(ModelError, match="/nowhere"):
            call()


def test_a_single_task_or_text_is_not_split_into_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    from tinyllama.family import evaluate_model as module

    asked = []

    def keep(_model: str, request: module.EvaluateRequest, **_: object) -> module.Evaluated:
        asked.append((request.tasks, request.texts))
        return module.Evaluated(cast("EvaluationRecord", None), Path())

    monkeypatch.setattr(module, "evaluate_model", keep)
    for text in ("a.txt", Path("a.txt"), ["a.txt"]):
        tinyllama.evaluate("model", tasks="arc_easy", texts=text)
    assert asked == [(["arc_easy"], [Path("a.txt")])] * 3


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_one_question_is_refused(limit: int) -> None:
    from tinyllama.errors import UserError

    with pytest.raises(UserError, match=f"limit is {limit}, but must be at least 1"):
        tinyllama.evaluate("/nowhere", limit=limit)
