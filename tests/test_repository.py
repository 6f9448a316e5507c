"""What stands around the code agrees with it: versions, the gate, hooks, and the list of make's targets."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tinyllama import __version__

ROOT = Path(__file__).parent.parent
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = set(" ".join(re.findall(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)).split())
MAKE = re.compile(r"\bmake ([a-z][a-z-]*)")
CODE = re.compile(r"```sh\n(.*?)```|`([^`\n]+)`", re.DOTALL)
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / ".github").rglob("*.md"))]


def _read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def test_every_page_has_the_version_of_the_package() -> None:
    assert yaml.safe_load(_read("CITATION.cff"))["version"] == __version__
    newest = re.findall(r"^## (\S+)", _read("CHANGELOG.md"), re.MULTILINE)[0]
    assert newest == __version__


def test_make_help_lists_every_target() -> None:
    make = shutil.which("make") or pytest.skip("needs make")
    done = subprocess.run([make, "--no-print-directory", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    listed = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert set(listed) == TARGETS
    assert all(text.endswith(".") for text in listed.values())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_targets_that_pages_name_exist(page: Path) -> None:
    code = CODE.findall(page.read_text(encoding="utf-8"))
    assert set(MAKE.findall("\n".join(map("".join, code)))) <= TARGETS


def test_the_workflow_runs_the_gate() -> None:
    workflow = yaml.safe_load(_read(".github/workflows/ci.yml"))
    (job,) = workflow["jobs"].values()
    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]
    assert (ROOT / ".ci/run").stat().st_mode & 0o111


def test_hooks_run_what_make_check_runs() -> None:
    (repository,) = yaml.safe_load(_read(".pre-commit-config.yaml"))["repos"]
    check = re.search(r"^check: \$.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    assert check is not None
    for hook in repository["hooks"]:
        command = hook["entry"].removeprefix(".venv/bin/").removesuffix(" --force-exclude")
        assert f"$(BIN)/{command}\n" in check[1], command


@pytest.mark.parametrize("form", sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml")), ids=lambda path: path.stem)
def test_issue_forms_are_complete(form: Path) -> None:
    content = yaml.safe_load(form.read_text(encoding="utf-8"))
    if form.stem != "config":
        assert {"name", "description", "body"} <= set(content)
        questions = [part for part in content["body"] if part["type"] != "markdown"]
        assert len({question["id"] for question in questions}) == len(questions)
        assert all(question["attributes"]["label"] for question in questions)
