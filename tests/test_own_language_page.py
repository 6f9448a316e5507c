"""Every command of docs/own-language.md runs, in order, as it stands there, over text of Debian's packages.

The last block serves a model: `make test-llamacpp`, which builds llama.cpp.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.constraints import ROOT
from tests.pages import blocks

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

BLOCKS = [block.text for block in blocks(ROOT / "docs/own-language.md") if block.language == "sh"]
TEXT, *TRAINED, SERVED = BLOCKS
PORT = "8011"
"""The port of the page; the test takes a free one."""
PROGRAMS = {"python": "", "tinyllama": "-m tinyllama"}
"""What the virtual environment of a person would have on the PATH."""


def shell(commands: str, folder: Path) -> str:
    """Run a block as one script, with a server that it may leave ended, and return what it prints."""
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    process = subprocess.Popen(
        ["bash", "-ec", commands],  # noqa: S607
        cwd=folder, env=os.environ | {"PATH": path}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        out, err = process.communicate(timeout=1500)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, f"{commands}\n{out[-2000:]}\n{err[-4000:]}"
    return out


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A person's folder after the block that fetches text."""
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        pytest.skip("apt-get and dpkg-deb, which fetch the page's text, are not installed")
    packages = TEXT.splitlines()[0].removeprefix("apt-get download ").split()
    known = subprocess.run(["apt-cache", "show", *packages], capture_output=True, check=False)  # noqa: S607
    if known.returncode != 0:
        pytest.skip("apt's lists do not have the page's packages: apt-get update")
    folder = tmp_path_factory.mktemp("language")
    (folder / "bin").mkdir()
    for name, words in PROGRAMS.items():
        program = folder / "bin" / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {words} "$@"\n', encoding="utf-8")
        program.chmod(0o755)
    shell(TEXT, folder)
    return folder


@pytest.fixture(scope="module")
def printed(folder: Path) -> str:
    """What the commands print that make the family, look at it and export it."""
    return "".join(shell(block, folder) for block in TRAINED)


def test_each_variant_is_best_on_its_own_text(folder: Path, printed: str) -> None:
    assert (folder / "runs/language/report.html").is_file()
    bits = json.loads((folder / "runs/language/summary.json").read_text(encoding="utf-8"))["bits_per_byte"]
    assert set(bits) == {"base", "general", "russian", "code"}
    assert bits["general"]["text"] < min(bits["base"]["text"], bits["code"]["text"])
    for domain in ("russian", "code"):
        others = [bits[model][domain] for model in bits if model != domain]
        assert bits[domain][domain] < 0.9 * min(others)
    assert "软件包" in printed
    assert "fewer bits than runs/language/general on russian" in printed


def test_the_corpora_are_of_the_scripts_that_the_page_names(printed: str) -> None:
    (scripts,) = [line for line in printed.splitlines() if line.startswith("scripts ")]
    assert scripts.split()[1] == "CJK"
    assert re.search(r"[\u0430-\u044f]{5}", printed), "a sample of the Russian text"


@pytest.mark.usefixtures("printed")
def test_the_served_model_answers(folder: Path) -> None:
    pytest.importorskip("llama_cpp", reason="make test-llamacpp builds it")
    if not shutil.which("curl"):
        pytest.skip("curl is not installed")
    assert SERVED.count(PORT) == 2
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    out = shell(SERVED.replace(PORT, port), folder)
    answer = json.loads(out[out.index("{") :])
    assert answer["model"] == "language-general-Q8_0"
    assert answer["choices"][0]["text"]
    assert 0 < answer["usage"]["completion_tokens"] <= 40
