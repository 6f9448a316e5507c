"""Modules import only what stands before them, nothing imports in a circle, and no folder is crowded."""

import ast
import importlib
import subprocess
import sys
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import tinyllama

PACKAGE = Path(tinyllama.__file__).parent
ORDER = (
    ("errors", "locks", "text"),
    ("files", "installation", "layout", "paths", "processors", "system_memory"),
    ("folders", "record_files"),
    ("hub", "packages"),
    ("recipe",),
    ("plan",),
    ("tokenizer",),
    ("sources",),
    ("quality",),
    ("corpus",),
    ("prepare",),
    ("sampler",),
    ("model",),
    ("checkpoint",),
    ("formats",),
    ("train", "inference"),
    ("evaluation", "export"),
    ("report",),
    ("comparison", "design"),
    ("family",),
    ("serve", "launch", "fidelity", "doctor", "monitor", "ladder"),
    ("studio",),
    ("cli",),
)
"""The packages and single modules in the order of imports; those of one line do not import each other."""
LEVEL = {name: level for level, names in enumerate(ORDER) for name in names}
TORCH_FREE = ("recipe", "plan", "tokenizer", "sources", "quality", "corpus", "prepare", "sampler", "design")
CROWDED = {"tokenizer", "evaluation", "train"}
"""Packages that may hold more than `MOST` files at one level."""
MOST = 16


def _module(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {_module(path): path for path in sorted(PACKAGE.rglob("*.py"))}


@cache
def _imports(module: str) -> frozenset[str]:
    """Modules of ours that a module names in its imports, those for type checking and in functions included."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            named = {alias: f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else node.module for name in named.values()}
    return frozenset(found & MODULES.keys())


def _part(module: str) -> str:
    """The package or single module that a module belongs to; "" for the root."""
    return module.split(".")[1] if "." in module else ""


@pytest.mark.parametrize("module", [module for module in MODULES if _part(module) not in {"", "__main__"}])
def test_a_module_imports_only_its_own_package_or_what_stands_before_it(module: str) -> None:
    own = _part(module)
    for name in _imports(module):
        if name != "tinyllama":
            assert _part(name) == own or LEVEL[_part(name)] < LEVEL[own], f"{module} imports {name}"


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {module: _imports(module) - {module} for module in MODULES if module != "tinyllama"}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" → ".join(reversed(error.args[1])))


def test_no_folder_is_crowded() -> None:
    for folder in {path.parent for path in MODULES.values()}:
        files = sorted(path.name for path in folder.glob("*.py"))
        assert folder.name in CROWDED or len(files) <= MOST, f"{folder.name}: {len(files)} files"


COMMANDS = "import sys\nfrom typer.testing import CliRunner\nfrom tinyllama.cli.commands import app\n"


def succeeds(code: str) -> bool:
    """Whether a program ends well in a process of its own, which has imported nothing."""
    return subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("part", TORCH_FREE)
def test_everything_before_the_model_is_free_of_torch(part: str) -> None:
    modules = [name for name in MODULES if _part(name) == part and "cluster.on_" not in name and ".steps" not in name]
    code = "; ".join([*(f"import {module}" for module in modules), "import sys; sys.exit('torch' in sys.modules)"])
    assert succeeds(code)


def test_help_imports_nothing_heavy() -> None:
    code = COMMANDS + (
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0\n"
        "heavy = {'torch', 'numpy', 'pyarrow', 'pydantic', 'transformers', 'sentencepiece'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    assert succeeds(code)


def test_plans_and_differences_of_recipes_are_printed_without_torch() -> None:
    code = COMMANDS + (
        "for words in (['plan', 'nano'], ['recipe', 'diff', 'nano', 'mini']):\n"
        "    assert CliRunner().invoke(app, words).exit_code == 0, words\n"
        "assert 'torch' not in sys.modules\n"
    )
    assert succeeds(code)


def test_an_evaluation_of_no_task_does_not_import_lm_eval() -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom tinyllama.evaluation.tasks import evaluate_tasks\n"
        "assert not evaluate_tasks(None, None, [], Path('none')).tasks\n"
        "assert 'lm_eval' not in sys.modules\n"
    )
    assert succeeds(code)


def test_packages_name_their_public_things_and_all_of_them_exist() -> None:
    for path in sorted(PACKAGE.glob("*/__init__.py")):
        module = importlib.import_module(f"tinyllama.{path.parent.name}")
        for name in getattr(module, "__all__", ()):
            assert hasattr(module, name), f"{module.__name__}.{name}"
