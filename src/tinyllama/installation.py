"""How to install an extra beside this copy of the package, however the copy was installed."""

from __future__ import annotations

import json
import shlex
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from packaging.requirements import Requirement

if TYPE_CHECKING:
    from importlib.metadata import Distribution

_NAME = "tinyllama"


def install_hint(extra: str) -> str:
    """The command that installs an extra: `pip install -e '.[report]'` for a checkout, and so on.

    A package of the same name on PyPI is somebody else's, so the hint never names it. A copy without a recorded
    origin gets the extra's own requirements.

    Args:
        extra: one of the package's extras.
    """
    try:
        installed = distribution(_NAME)
    except PackageNotFoundError:  # imported from a source tree that was never installed
        return f"pip install -e {shlex.quote(f'{_source_tree()}[{extra}]')}"
    origin = json.loads(installed.read_text("direct_url.json") or "{}")
    url = origin.get("url", "")
    if origin.get("dir_info", {}).get("editable"):
        folder = unquote(urlsplit(url).path)
        return f"pip install -e {shlex.quote(f'{_shortest(folder)}[{extra}]')}"
    if "vcs_info" in origin:
        version = origin["vcs_info"]
        url = f"{version['vcs']}+{url}@{version['commit_id']}"
    if url:
        return f"pip install {shlex.quote(f'{_NAME}[{extra}] @ {url}')}"
    return " ".join(["pip install", *map(shlex.quote, _requirements(installed, extra))])


def _requirements(installed: Distribution, extra: str) -> list[str]:
    """What an extra asks for beyond the package itself, extras of ours resolved."""
    found: list[str] = []
    for text in installed.requires or ():
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or marker.evaluate({"extra": ""}) or not marker.evaluate({"extra": extra}):
            continue
        if requirement.name == _NAME:
            found += [own for inner in sorted(requirement.extras) for own in _requirements(installed, inner)]
        else:
            requirement.marker = None
            found.append(str(requirement))
    return list(dict.fromkeys(found))


def _shortest(folder: str) -> str:
    """`.` for the current folder, else the folder's path."""
    return "." if Path(folder) == Path.cwd() else folder


def _source_tree() -> str:
    return _shortest(str(Path(__file__).parents[2]))
