"""How this copy was installed: its version and those of its libraries, and the command that installs an extra."""

from __future__ import annotations

import json
import shlex
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tinyllama import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable
    from importlib.metadata import Distribution

DISTRIBUTION = "tinyllama-family"
"""Name of our distribution; PyPI's package `tinyllama` is somebody else's, with the same import name."""

_PINS = "constraints.txt"
"""The releases that CI tests, in a checkout; without them, pip may fetch gigabytes of another PyTorch."""
ABSENT = "not installed"
"""The version of a package that is not there."""


def install_hint(extra: str) -> str:
    """The command that installs an extra: `pip install -c constraints.txt -e '.[report]'` for a checkout, and so on.

    The hint never asks an index for us by name. A copy without a recorded origin, or whose origin is gone, gets the
    extra's own requirements.

    Args:
        extra: one of the package's extras.
    """
    try:
        installed = distribution(DISTRIBUTION)
    except PackageNotFoundError:  # imported from a source tree that was never installed
        return _from_checkout(str(Path(__file__).parents[2]), extra)
    origin = json.loads(installed.read_text("direct_url.json") or "{}")
    url = origin.get("url", "")
    if origin.get("dir_info", {}).get("editable"):
        return _from_checkout(unquote(urlsplit(url).path), extra)
    if "vcs_info" in origin:
        source = origin["vcs_info"]
        url = f"{source['vcs']}+{url}@{source['commit_id']}"
    if url and not _is_gone(url):
        return f"pip install {shlex.quote(f'{DISTRIBUTION}[{extra}] @ {url}')}"
    return " ".join(["pip install", *map(shlex.quote, _requirements(installed, extra))])


def installed_versions(names: Iterable[str]) -> dict[str, str]:
    """Versions of libraries as they are installed, by import name; `tinyllama` is this copy.

    Args:
        names: `tinyllama`, and names of distributions.
    """
    return {name: __version__ if name == "tinyllama" else _version(name) for name in names}


def unmet_requirements() -> dict[str, str]:
    """Packages that are missing or outside the range that we need: what is wrong → the command that mends it."""
    try:
        texts = distribution(DISTRIBUTION).requires or ()
    except PackageNotFoundError:
        return {}
    unmet = {}
    for needed in map(Requirement, texts):
        if needed.marker is None or needed.marker.evaluate({"extra": ""}):
            there = _version(needed.name)
            if there == ABSENT or not needed.specifier.contains(there, prereleases=True):
                needed.marker = None
                command = f"pip install {shlex.quote(str(needed))}"
                unmet[f"{needed.name} is {there}, but must be {needed.specifier}"] = command
    return unmet


def has_namesake() -> bool:
    """Whether PyPI's package of our import name, or a copy of ours from before it was renamed, is installed too."""
    return _version("tinyllama") != ABSENT


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ABSENT


def _is_gone(url: str) -> bool:
    """Whether an origin was a file or folder of this machine that is not there any more."""
    parts = urlsplit(url)
    return parts.scheme == "file" and not Path(unquote(parts.path)).exists()


def _requirements(installed: Distribution, extra: str) -> list[str]:
    """What an extra asks for beyond the package itself, extras of ours resolved."""
    found: list[str] = []
    for text in installed.requires or ():
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or marker.evaluate({"extra": ""}) or not marker.evaluate({"extra": extra}):
            continue
        if canonicalize_name(requirement.name) == DISTRIBUTION:
            found += [own for inner in sorted(requirement.extras) for own in _requirements(installed, inner)]
        else:
            requirement.marker = None
            found.append(str(requirement))
    return list(dict.fromkeys(found))


def _from_checkout(folder: str, extra: str) -> str:
    """The command for a checkout; with the releases that it pins, unless the PyTorch that is there is another one."""
    pins = Path(folder) / _PINS
    here = Path(folder) == Path.cwd()
    torch = _version("torch").partition("+")[0]
    is_pinned = pins.is_file() and (
        torch == ABSENT or f"torch=={torch}" in pins.read_text(encoding="utf-8").splitlines()
    )
    constraint = f"-c {shlex.quote(_PINS if here else str(pins))} " if is_pinned else ""
    place = "." if here else folder
    return f"pip install {constraint}-e {shlex.quote(f'{place}[{extra}]')}"
