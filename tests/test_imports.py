"""Modules import only to their left."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import tinyllama

PACKAGE = Path(tinyllama.__file__).parent
LEVEL = {
    "errors": 0,
    "files": 0,
    "gguf_file": 1,
    "slurm": 1,
    "recipe": 1,
    "plan": 2,
    "corpus": 3,
    "sampler": 4,
    "model": 5,
    "engine": 6,
    "evaluate": 7,
    "export": 7,
    "generate": 7,
    "report": 8,
    "cli": 9,
}
TORCH_FREE = ("recipe", "plan", "corpus", "sampler")


def _part(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def _imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


FILES = [path for path in sorted(PACKAGE.rglob("*.py")) if path.parent != PACKAGE or path.stem in LEVEL]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_itself_or_what_is_left_of_it(path: Path) -> None:
    relative = path.relative_to(PACKAGE)
    own = relative.parts[0].removesuffix(".py")
    for name in _imports(path):
        if name.startswith("tinyllama.") and (part := _part(name)) in LEVEL:
            assert part == own or LEVEL[part] < LEVEL[own], f"{relative} imports {name}"


@pytest.mark.parametrize("part", TORCH_FREE)
def test_everything_before_the_model_is_free_of_torch(part: str) -> None:
    modules = [
        ".".join(["tinyllama", *path.relative_to(PACKAGE).with_suffix("").parts])
        for path in sorted((PACKAGE / part).glob("*.py"))
        if path.stem != "__init__"
    ]
    code = "; ".join([*(f"import {module}" for module in modules), "import sys; sys.exit('torch' in sys.modules)"])
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom tinyllama.cli.app import app\n"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0\n"
        "heavy = {'torch', 'numpy', 'pyarrow', 'pydantic', 'transformers', 'sentencepiece'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_packages_name_their_public_things_and_all_of_them_exist() -> None:
    import importlib

    for path in sorted(PACKAGE.glob("*/__init__.py")):
        module = importlib.import_module(f"tinyllama.{path.parent.name}")
        for name in getattr(module, "__all__", ()):
            assert hasattr(module, name), f"{module.__name__}.{name}"
