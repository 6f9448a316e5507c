"""The hint that installs an extra fits how this copy was installed; our distribution has one name everywhere."""

import json
import re
import tomllib
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from tinyllama import __version__, installation
from tinyllama.installation import DISTRIBUTION, install_hint, installed_versions

ROOT = Path(__file__).parent.parent
PAGES = (
    *("pyproject.toml", "Makefile", "Dockerfile", "mkdocs.yml", "CITATION.cff", ".pre-commit-config.yaml"),
    *(".ci", ".github", "src", "docs", "benchmarks", "experiments", "deploy", "notebooks"),
    *(path.name for path in ROOT.glob("*.md")),
)
"""Where people find commands; those that are there."""
NO_TEXT = {".pyc", ".png", ".parquet", ".gz"}
"""Suffixes of files that nobody reads as text."""
OTHER_NAME = re.compile(
    r"\btinyllama\[|\b(?:(?:pip3?|pipx|conda|uv tool) install|(?:uv|poetry) add)[^\n`;&|]*?"
    r"(?<![\w./-])tinyllama(?![\w./-])"
    r"|\b(?:uvx|pipx run|uv tool run) tinyllama(?![\w./-])",
    re.IGNORECASE,
)
"""The distribution under another name: with extras, or in a command of an installer."""

REQUIRES = [
    "numpy>=2",
    'plotly<8,>=6; extra == "report"',
    'pytest>=8; extra == "test"',
    'tinyllama-family[report]; extra == "test"',
    'tinyllama_family[fast]; extra == "test"',
    'fastokens>=0.3; extra == "fast"',
]


class Installed:
    """A distribution with this recorded origin."""

    requires = REQUIRES

    def __init__(self, origin: dict[str, object] | None) -> None:
        self.origin = origin

    def read_text(self, name: str) -> str | None:
        assert name == "direct_url.json"
        return None if self.origin is None else json.dumps(self.origin)


@pytest.mark.parametrize(
    ("origin", "hint"),
    [
        ({"url": "file:///src/my%20copy", "dir_info": {"editable": True}}, "pip install -e '/src/my copy[test]'"),
        ({"url": "file:///src/copy", "dir_info": {}}, "pip install 'tinyllama-family[test] @ file:///src/copy'"),
        (
            {"url": "https://host/x.git", "vcs_info": {"vcs": "git", "commit_id": "abc"}},
            "pip install 'tinyllama-family[test] @ git+https://host/x.git@abc'",
        ),
        ({"url": "file:///t.whl", "archive_info": {}}, "pip install 'tinyllama-family[test] @ file:///t.whl'"),
        (None, "pip install 'pytest>=8' 'plotly<8,>=6' 'fastokens>=0.3'"),
    ],
)
def test_the_hint_fits_how_this_copy_was_installed(
    monkeypatch: pytest.MonkeyPatch, origin: dict[str, object] | None, hint: str
) -> None:
    monkeypatch.setattr(installation, "distribution", lambda _name: Installed(origin))
    monkeypatch.setattr(installation, "_is_gone", lambda _url: False)
    assert install_hint("test") == hint


def test_an_origin_that_is_gone_is_not_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    wheel = tmp_path / "t.whl"
    wheel.touch()
    origin = {"url": wheel.as_uri(), "archive_info": {}}
    monkeypatch.setattr(installation, "distribution", lambda _name: Installed(origin))
    assert install_hint("report") == f"pip install 'tinyllama-family[report] @ {wheel.as_uri()}'"
    wheel.unlink()
    assert install_hint("report") == "pip install 'plotly<8,>=6'"


def _missing(name: str) -> str:
    raise PackageNotFoundError(name)


def test_in_the_checkout_itself_the_path_is_a_dot(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    origin = {"url": tmp_path.as_uri(), "dir_info": {"editable": True}}
    monkeypatch.setattr(installation, "distribution", lambda _name: Installed(origin))
    monkeypatch.chdir(tmp_path)
    assert install_hint("report") == "pip install -e '.[report]'"
    (tmp_path / "constraints.txt").write_text("torch==1.0\n", encoding="utf-8")
    assert install_hint("report") == "pip install -e '.[report]'"  # the PyTorch that is there stays
    with monkeypatch.context() as without:
        without.setattr(installation, "version", _missing)
        assert install_hint("report") == "pip install -c constraints.txt -e '.[report]'"
    pins = f"numpy==1.0\ntorch=={installation.version('torch').partition('+')[0]}\n"
    (tmp_path / "constraints.txt").write_text(pins, encoding="utf-8")
    assert install_hint("report") == "pip install -c constraints.txt -e '.[report]'"
    monkeypatch.chdir("/")
    assert install_hint("report") == f"pip install -c {tmp_path}/constraints.txt -e '{tmp_path}[report]'"


def test_no_message_spells_a_hint_of_its_own() -> None:
    package = Path(installation.__file__).parent
    spelled = [path.name for path in package.rglob("*.py") if "pip install" in path.read_text(encoding="utf-8")]
    assert spelled == ["installation.py"]


def test_versions_are_known_by_import_names() -> None:
    assert installed_versions(("tinyllama", "no-such-package")) == {
        "tinyllama": __version__, "no-such-package": "not installed",
    }  # fmt: skip


def test_the_distribution_and_its_extras_have_our_name() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    assert project["name"] == DISTRIBUTION
    assert project["scripts"] == {"tinyllama": "tinyllama.cli:main"}
    for requirement in (text for found in extras.values() for text in found if text.startswith("tinyllama")):
        name, _, inner = requirement.partition("[")
        assert name == DISTRIBUTION
        assert set(inner.rstrip("]").split(",")) <= set(extras)


@pytest.mark.parametrize("place", [place for place in PAGES if (ROOT / place).exists()])
def test_nobody_is_told_to_install_the_package_of_somebody_else(place: str) -> None:
    files = [path for path in (ROOT / place).rglob("*") if path.is_file()] or [ROOT / place]
    for path in files:
        if path.suffix not in NO_TEXT:
            found = OTHER_NAME.search(path.read_text(encoding="utf-8"))
            assert found is None, f"{path}: {found}"


@pytest.mark.parametrize(
    ("text", "is_other"),
    [
        ("pip install 'tinyllama[report]'", True),
        ("pip install tinyllama", True),
        ("pip install --upgrade TinyLlama", True),
        ("pipx install tinyllama", True),
        ("uv tool install tinyllama", True),
        ("uv add tinyllama", True),
        ("uvx tinyllama plan nano", True),
        ("conda install tinyllama", True),
        ("poetry add tinyllama", True),
        ("pipx run tinyllama", True),
        ("poetry run tinyllama plan nano", False),
        ("uv tool run --from tinyllama-family tinyllama", False),
        ("uv add tinyllama-family", False),
        ("pip install 'tinyllama-family[report]'", False),
        ("pip install dist/tinyllama_family-0.1.0-py3-none-any.whl", False),
        ("pip install -e .; tinyllama reproduce nano", False),
        ("pip install -e . && tinyllama reproduce nano", False),
    ],
)
def test_other_names_are_recognized(text: str, *, is_other: bool) -> None:
    assert bool(OTHER_NAME.search(text)) == is_other
