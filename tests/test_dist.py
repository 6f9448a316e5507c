"""The wheel of dist/ works in an environment of its own, outside the checkout; its hints for extras are right."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.constraints import FILE, ROOT
from tinyllama import __version__

pytestmark = [pytest.mark.dist, pytest.mark.timeout(1800)]
ENVIRONMENT = {
    name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV", "HF_HUB_OFFLINE"}
}
HINT = re.compile(r"pip install .*tinyllama-family\[report\].*$", re.MULTILINE)


class Environment:
    """A virtual environment and an empty folder to work in."""

    def __init__(self, folder: Path) -> None:
        self.programs, self.work = folder / "venv/bin", folder / "work"
        self.work.mkdir()
        subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True, env=ENVIRONMENT)

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run one of its programs."""
        command = [str(self.programs / words[0]), *words[1:]]
        return subprocess.run(command, cwd=self.work, env=ENVIRONMENT, capture_output=True, text=True, check=False)

    def install(self, *what: str) -> None:
        """Install with our constraints."""
        done = self.run("pip", "install", "--quiet", "--constraint", str(FILE), *what)
        assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with the wheel alone."""
    (wheel,) = (ROOT / "dist").glob(f"tinyllama_family-{__version__}-*.whl")
    made = Environment(tmp_path_factory.mktemp("clean"))
    made.install(str(wheel))
    return made


def test_the_wheel_holds_what_commands_need(environment: Environment) -> None:
    assert environment.run("tinyllama", "--version").stdout == f"{__version__}\n"
    assert environment.run("tinyllama", "plan", "tinyllama-v1.1", "--json").returncode == 0
    assert json.loads(environment.run("tinyllama", "recipe", "schema").stdout)["title"] == "Recipe"
    imported = environment.run("python", "-c", "import tinyllama; print(tinyllama.__file__)")
    assert str(environment.programs.parent) in imported.stdout


def test_the_studio_explains_itself_and_names_its_extra(environment: Environment) -> None:
    assert environment.run("tinyllama", "studio", "--help").returncode == 0
    refused = environment.run("tinyllama", "studio", ".")
    assert refused.returncode == 2
    assert re.search(r"pip install .*tinyllama-family\[studio\]", refused.stderr), refused.stderr


def test_the_remedy_of_every_missing_extra_can_be_installed(environment: Environment) -> None:
    checks = json.loads(environment.run("tinyllama", "doctor", "--json").stdout)
    extras = [check for check in checks if check["name"].startswith("extra ")]
    remedies = {check["name"]: shlex.split(check["remedy"]) for check in extras if check["state"] != "ok"}
    assert {f"extra {name}" for name in ("eval", "fast", "gguf", "report", "serve", "studio")} <= set(remedies)
    assert all(words[:2] == ["pip", "install"] for words in remedies.values())
    environment.install("--dry-run", *(word for words in remedies.values() for word in words[2:]))


def test_the_hint_for_an_extra_is_right_and_the_family_trains(environment: Environment) -> None:
    refused = environment.run("tinyllama", "reproduce", "nano")
    assert refused.returncode == 2
    hint = HINT.search(refused.stderr)
    assert hint is not None, refused.stderr
    environment.install(*shlex.split(hint[0])[2:])
    done = environment.run("tinyllama", "reproduce", "nano")
    assert done.returncode == 0, done.stderr
    family = environment.work / "runs/nano"
    assert (family / "report.html").is_file()
    versions = json.loads((family / "summary.json").read_text(encoding="utf-8"))["versions"]
    assert versions["tinyllama"] == __version__
    assert {path.name for path in (family / "exports").iterdir() if path.is_dir()} >= {"base", "v1.1", "chinese"}
