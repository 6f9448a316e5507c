import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import SMALL

SET = [word for override in (*SMALL, "hardware.compile=true") for word in ("--set", override)]


def test_without_a_compiler_training_continues_in_eager_mode_with_a_warning(prepared: Path, tmp_path: Path) -> None:
    subprocess.run(["cp", "-r", str(prepared), str(tmp_path / "family")], check=True)  # noqa: S607
    done = subprocess.run(
        [sys.executable, "-m", "tinyllama", "train", "nano", "--variant", "base", "--run", "family", *SET],
        cwd=tmp_path,
        env={**os.environ, "CXX": "/nowhere/c++", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = [
        line
        for line in done.stderr.splitlines()
        if "torch.compile does not work here, training continues without it" in line
    ]
    assert 1 <= len(lines) <= 2  # once for the blocks, once for the loss


@pytest.mark.parametrize(("compiler", "expected"), [("true", "1"), ("false", None), ("/nowhere/c++", None)])
def test_only_a_compiler_that_knows_the_latest_instructions_is_spared_trying_them(
    compiler: str, expected: str | None, tmp_path: Path
) -> None:
    program = (
        "import os; from tinyllama.train.compiler import prepare_compiler; prepare_compiler(); "
        "print(os.environ.get('TORCHINDUCTOR_VEC_ISA_OK'))"
    )
    environment = {name: value for name, value in os.environ.items() if name != "TORCHINDUCTOR_VEC_ISA_OK"}
    environment |= {"CXX": compiler, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(expected)


def test_the_header_of_all_kernels_is_begun_before_anything_is_compiled(tmp_path: Path) -> None:
    program = (
        "import threading; from tinyllama.train.compiler import prepare_compiler; prepare_compiler(); "
        "[thread.join() for thread in threading.enumerate() if thread.name == 'header']"
    )
    environment = os.environ | {"TMPDIR": str(tmp_path), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=True)
    assert [path for path in tmp_path.glob("**/precompiled_headers/*") if path.suffix in {".gch", ".pch"}]
