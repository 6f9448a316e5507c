import os
import subprocess
import sys
from pathlib import Path


def test_a_model_is_planned_prepared_and_trained_with_what_macos_and_windows_have(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.other_system", str(tmp_path)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | {"TMPDIR": str(tmp_path)}
    )
    assert done.returncode == 0, done.stderr
    for system in ("darwin", "win32"):
        assert list((tmp_path / system / "run").glob("*/checkpoints/step-4"))
