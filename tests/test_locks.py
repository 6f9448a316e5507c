import subprocess
import sys
from pathlib import Path

import pytest

from tinyllama.files import explain
from tinyllama.locks import locked_file

HOLD = """
import sys
from pathlib import Path
from tinyllama.locks import locked_file
with locked_file(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_the_lock_of_a_file_excludes_others_and_ends_with_a_process_that_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "folder/.lock"
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(BlockingIOError), locked_file(path, wait=False):
            pass
        process.kill()
    with locked_file(path, wait=False), pytest.raises(BlockingIOError), locked_file(path, wait=False):
        pass


def test_a_lock_that_cannot_be_written_is_explained_in_one_line(tmp_path: Path) -> None:
    (tmp_path / ".lock").mkdir()
    with pytest.raises(OSError, match="lock") as raised, locked_file(tmp_path / ".lock", wait=False):
        pass
    assert str(explain(raised.value)).startswith(f"{tmp_path / '.lock'}: ")
