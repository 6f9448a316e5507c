"""The doctor finds what works and what does not; each thing that does not work has a remedy."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest
from typer.testing import CliRunner

from tinyllama import installation
from tinyllama.cli.commands import app
from tinyllama.doctor import machine
from tinyllama.doctor.software import EXTRAS, examine_extras, examine_hub, examine_installation
from tinyllama.installation import install_hint, unmet_requirements

ROOT = Path(__file__).parents[2]
FOR_US = {"bench", "coverage", "dev", "docs", "test"}
"""Extras of people who change the code, beside those of single tests."""


class Usage(NamedTuple):
    free: float


def test_the_command_examines_everything_and_exits_with_0_where_training_works(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tinyllama", "doctor", "--json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    found = {item["name"]: item for item in json.loads(done.stdout)}
    assert done.returncode == 0, found
    assert {"installation", "device", "bf16", "compile", "disk", "cache", "pip", "npm", "sandbox", "hub"} <= set(found)
    assert {f"extra {extra}" for extra in EXTRAS} <= set(found)
    assert found["compile"]["state"] == "ok"
    assert all(bool(item["remedy"]) == (item["state"] != "ok") for item in found.values())


def test_a_full_disk_is_broken_and_the_exit_code_is_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _folder: Usage(1e8))
    monkeypatch.setattr("tinyllama.doctor.CHECKS", (machine.examine_disks,))
    done = CliRunner().invoke(app, ["doctor"])
    assert done.exit_code == 1
    assert "0.1 GB are free" in done.stdout
    assert "→ make room, or work in another folder" in done.stdout
    assert done.stdout.endswith("this machine cannot train before what is broken is mended\n")


def test_a_cache_that_is_no_folder_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINYLLAMA_CACHE", "/dev/null/x")
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _folder: Usage(1e12))
    assert {item.name: item.state for item in machine.examine_disks()} == {"disk": "ok", "cache": "broken"}


def test_a_nearly_full_disk_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _folder: Usage(5e9))
    assert {item.state for item in machine.examine_disks()} == {"limited"}


def test_without_a_compiler_compilation_is_limited(tmp_path: Path) -> None:
    code = (
        "from tinyllama.doctor.machine import examine_compiler\n"
        "print([(item.state, item.result) for item in examine_compiler()])"
    )
    empty = {"CXX": str(tmp_path / "no-compiler"), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | empty, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("[('limited', ")
    assert "C++ compiler" in done.stdout


def test_a_hub_that_is_not_asked_is_limited_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (found,) = examine_hub()
    assert found.state == "limited"
    assert "HF_HUB_OFFLINE is set" in found.result


def test_extras_are_those_of_the_package_and_have_the_right_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(EXTRAS) == {
        extra for extra in project["optional-dependencies"] if extra not in FOR_US and not extra.startswith("test-")
    }
    monkeypatch.setattr("tinyllama.doctor.software.find_spec", lambda _module: None)
    assert {item.name: item.remedy for item in examine_extras()} == {
        f"extra {extra}": install_hint(extra) for extra in EXTRAS
    }


def test_a_package_outside_its_range_is_broken_with_the_command_that_mends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Installed:
        requires = ("numpy<1", "packaging>=24", "no-such-package>=2; python_version>'3'", 'ray<1; extra == "ray"')

    monkeypatch.setattr(installation, "distribution", lambda _name: Installed())
    assert list(unmet_requirements().values()) == ["pip install 'numpy<1'", "pip install 'no-such-package>=2'"]
    found = [item for item in examine_installation() if item.state == "broken"]
    assert found[1].result == "no-such-package is not installed, but must be >=2"


def test_a_package_of_our_import_name_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "version", lambda _name: "0.0.2")
    assert "namesake" in {item.name for item in examine_installation() if item.state == "limited"}
