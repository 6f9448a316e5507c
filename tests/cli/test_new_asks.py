"""At a terminal, `new` asks for what is not given."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.design.library import copy_library
from tinyllama.recipe import load_recipe


@pytest.mark.timeout(120)
@pytest.mark.skipif(sys.platform == "win32", reason="terminals are POSIX's")
def test_new_asks_for_text_domains_and_hours_until_a_domain_is_empty(tmp_path: Path) -> None:
    copy_library(tmp_path)
    (tmp_path / "text" / "asyncio-tasks.py").rename(tmp_path / "tasks.py")
    terminal, inside = os.openpty()
    program = subprocess.Popen(
        [sys.executable, "-m", "tinyllama", "new", "mine", "--hardware", "rtx4090", "--tokenizer", "own"],
        cwd=tmp_path, stdin=inside, stdout=inside, stderr=inside, env={**os.environ, "TERM": "dumb"},
    )  # fmt: skip
    os.close(inside)
    os.write(terminal, b"text\ncode=code\ntasks=tasks.py\n\n0.01\n")
    seen = b""
    try:
        while part := os.read(terminal, 4096):
            seen += part
    except OSError:  # the other side is closed
        pass
    finally:
        os.close(terminal)
    assert program.wait() == 0, seen.decode()
    assert seen.count(b"A domain with a variant of its own") == 3
    recipe = load_recipe(str(tmp_path / "mine.yaml"))
    assert list(recipe.variants) == ["general", "code", "tasks"]
    assert "for 0.01 hours" in (tmp_path / "mine.yaml").read_text(encoding="utf-8")
