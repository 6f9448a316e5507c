"""The hint that installs an extra fits how this copy was installed, and never names a package of PyPI."""

import json
from pathlib import Path

import pytest

from tinyllama import installation
from tinyllama.installation import install_hint

REQUIRES = [
    "numpy>=2",
    'plotly<8,>=6; extra == "report"',
    'pytest>=8; extra == "test"',
    'tinyllama[report]; extra == "test"',
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
        ({"url": "file:///src/copy", "dir_info": {}}, "pip install 'tinyllama[test] @ file:///src/copy'"),
        (
            {"url": "https://host/x.git", "vcs_info": {"vcs": "git", "commit_id": "abc"}},
            "pip install 'tinyllama[test] @ git+https://host/x.git@abc'",
        ),
        ({"url": "file:///t.whl", "archive_info": {}}, "pip install 'tinyllama[test] @ file:///t.whl'"),
        (None, "pip install 'pytest>=8' 'plotly<8,>=6'"),
    ],
)
def test_the_hint_fits_how_this_copy_was_installed(
    monkeypatch: pytest.MonkeyPatch, origin: dict[str, object] | None, hint: str
) -> None:
    monkeypatch.setattr(installation, "distribution", lambda _name: Installed(origin))
    assert install_hint("test") == hint


def test_in_the_checkout_itself_the_path_is_a_dot(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    origin = {"url": tmp_path.as_uri(), "dir_info": {"editable": True}}
    monkeypatch.setattr(installation, "distribution", lambda _name: Installed(origin))
    monkeypatch.chdir(tmp_path)
    assert install_hint("report") == "pip install -e '.[report]'"


def test_no_message_spells_a_hint_of_its_own() -> None:
    package = Path(installation.__file__).parent
    spelled = [path.name for path in package.rglob("*.py") if "pip install" in path.read_text(encoding="utf-8")]
    assert spelled == ["installation.py"]
