"""A family whose corpora one process prepared, to compare those of clusters with."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import tinyllama
from tests.prepare.texts import write_damaged_texts

SOURCES = 9


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with texts of nine sources, each damaged in one line, and `one`: what one process makes of them."""
    root = tmp_path_factory.mktemp("root")
    write_damaged_texts(root, SOURCES)
    (root / "recipe.yaml").write_text(yaml.safe_dump(recipe()))
    succeed(start(root, dict(os.environ), "one", "--workers", "1"))
    return root


def recipe() -> dict[str, Any]:
    """Nano with one corpus of many files."""
    content: dict[str, Any] = yaml.safe_load((Path(tinyllama.__file__).parent / "recipes/nano.yaml").read_text())
    sources = [{"files": f"texts/{source}.jsonl"} for source in range(SOURCES)]
    content["corpora"] = {"prose": content["corpora"]["prose"] | {"sources": sources}}
    content["model"]["vocab_size"] = content["tokenizer"]["train"]["vocab_size"] = 300  # it is not much of a text
    content["variants"] = {"v1.1": content["base"]}
    return content


def start(root: Path, environment: dict[str, str], run: str, *options: str) -> subprocess.Popen[str]:
    """Start `tinyllama prepare` in the folder, for a family of its own."""
    command = [sys.executable, "-m", "tinyllama", "prepare", "recipe.yaml", "--run", run, *options]
    return subprocess.Popen(
        command, cwd=root, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def succeed(process: subprocess.Popen[str]) -> None:
    """Wait for a command that must end well."""
    output, messages = process.communicate()
    assert process.returncode == 0, (output, messages)


def fail(process: subprocess.Popen[str], code: int) -> str:
    """Wait for a command that must end with this exit code; what it says then."""
    output, messages = process.communicate()
    assert process.returncode == code, (output, messages)
    return messages


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a family's corpora."""
    corpora = folder / "corpora"
    return {str(path.relative_to(corpora)): path.read_bytes() for path in corpora.rglob("*") if path.is_file()}
