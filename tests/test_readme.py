"""Every command of the README and the site's first page runs as it stands there; what takes long is planned."""

import re
import shlex
from pathlib import Path

import pytest

from tests.command import run
from tests.pages import PAGES, page_name
from tinyllama.recipe import load_recipe

ROOT = Path(__file__).parent.parent
README, START = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/index.md"))
COMMANDS = [
    line.strip()
    for block in re.findall(r"```sh\n(.*?)```", README + START, re.DOTALL)
    for line in block.splitlines()
    if line.strip() and not line.startswith("#")
]
OURS = list(dict.fromkeys(command for command in COMMANDS if command.startswith("tinyllama ")))


def _is_slow(words: list[str]) -> bool:
    return "mini" in words or "tinyllama-v1.1" in words


def test_the_readme_shows_commands() -> None:
    assert len(OURS) >= 6
    assert {"make demo", "make test"} <= set(COMMANDS)


def test_every_make_target_in_the_readme_is_in_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for command in COMMANDS:
        if command.startswith("make "):
            assert re.search(rf"^{command.split()[1]}:", makefile, re.MULTILINE), command


def test_every_other_command_in_the_readme_is_an_ordinary_client() -> None:
    others = [command for command in COMMANDS if not command.startswith(("tinyllama ", "make "))]
    ordinary = ("git clone ", "cd ", "pip install ", "python -m ", "python3 -m ", ". ")
    assert all(command.startswith(ordinary) for command in others), others


def test_every_command_of_the_readme_runs(tmp_path: Path) -> None:
    for command in OURS:
        words = shlex.split(command)
        if _is_slow(words) and words[1] != "plan":
            # Minutes to hours: `make demo` runs the first of them, a plan proves the others' recipe.
            assert load_recipe(next(word for word in words if word in {"mini", "tinyllama-v1.1"}))
            continue
        done = run(*words[1:], cwd=tmp_path)
        assert done.returncode == 0, f"{command}\n{done.stderr}"


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub and the site give to the headings of a page."""
    text = re.sub(r"^ *```.*?^ *```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            name, _, anchor = target.partition("#")
            path = page.parent / name if name else page
            assert path.exists(), f"{page.name}: {target}"
            assert not anchor or anchor in anchors(path), f"{page.name}: {target}"
