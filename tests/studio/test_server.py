"""The command: its address, its process without torch, its end, and its refusals."""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2
import pytest

from tests.studio.long_run import HIGH, write_long_run
from tests.studio.process import studio
from tinyllama.errors import UserError
from tinyllama.studio.server import run_studio

if TYPE_CHECKING:
    import subprocess


def test_the_studio_runs_without_torch_and_ends_with_a_signal(runs: Path) -> None:
    with studio(str(runs)) as (address, process):
        assert address.startswith("http://127.0.0.1:")
        assert "<title>TinyLlama studio</title>" in httpx2.get(address, timeout=60).text
        assert httpx2.get(f"{address}api/families", timeout=60).json()["families"][0]["id"] == "nano"
        assert httpx2.get(f"{address}api/families/nano/scores", timeout=60).json()["html"]
        maps = Path(f"/proc/{process.pid}/maps")
        if maps.exists():
            assert "torch" not in maps.read_text()
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(20) == 130


def test_a_studio_that_ends_lets_an_open_page_go_without_a_word(runs: Path) -> None:
    with studio(str(runs)) as (address, process), httpx2.stream("GET", f"{address}api/events", timeout=60) as events:
        parts = events.iter_text()
        assert "ready" in next(parts)
        os.kill(process.pid, signal.SIGINT)
        lines = [line.partition(": ") for line in "".join(parts).splitlines() if line]
        assert {field for field, *_ in lines} <= {"event", "data"}
        assert {name for field, _, name in lines if field == "event"} <= {"change", "alive"}
        assert process.wait(20) == 130
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()


def test_an_address_for_other_machines_has_a_token(runs: Path) -> None:
    with studio(str(runs), "--host", "::") as (address, _):
        port, token = re.findall(r":(\d+)/([^/]+)/$", address)[0]
        assert len(token) > 20
        assert httpx2.get(f"http://[::1]:{port}/{token}/", timeout=60).status_code == 200
        assert httpx2.get(f"http://[::1]:{port}/", timeout=60).status_code == 403


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no folder; name the folder of a family"):
        run_studio([tmp_path / "runs"], print)


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(UserError, match=r"the studio needs an extra: pip install .*studio"):
        run_studio([], print)


def _seconds(process: subprocess.Popen[str]) -> float:
    """Processor time that a process used."""
    user, system = Path(f"/proc/{process.pid}/stat").read_text().rpartition(") ")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_million_steps_open_within_two_seconds_and_little_memory(tmp_path: Path) -> None:
    write_long_run(tmp_path / "long", 1_000_000)
    for first in (True, False):
        with studio(str(tmp_path)) as (address, process), httpx2.Client(base_url=address, timeout=60) as client:
            began = _seconds(process)
            client.get("/api/families")
            client.get("/api/families/long/curves")
            assert _seconds(process) - began < 2  # of a run that was not read yet: as far as it is read
            while first and client.get("/api/families").json()["families"][0]["models"][0]["behind"]:
                pass
            curves = client.get("/api/families/long/curves").json()["base"]
            assert (curves["steps"][-1], max(curves["high"])) == (1_000_000, HIGH)
            (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
            assert int(peak) < 300_000
            os.kill(process.pid, signal.SIGINT)
            process.wait(20)
