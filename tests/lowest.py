"""The lowest releases that pyproject.toml allows of what users install: `python -m tests.lowest` prints constraints.

They concern the package's own dependencies, and those of the extras that the tests need. The tests' own tools, such as
pytest, have the releases of constraints.txt.
"""

from __future__ import annotations

import sys
import tomllib

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.constraints import ROOT, extras, pins
from tinyllama.installation import DISTRIBUTION

TOOLS = "test"
"""The extra of the tests' tools; it names the other extras that the tests need."""


def needed_extras() -> set[str]:
    """The extras that the tests need, besides their tools."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = map(Requirement, project["optional-dependencies"][TOOLS])
    return {extra for one in needed if canonicalize_name(one.name) == DISTRIBUTION for extra in one.extras}


def lower_bound(needed: Requirement) -> str:
    """The version after `>=`; as constraints.txt spells it, if it is the pinned one."""
    (bound,) = [specifier.version for specifier in needed.specifier if specifier.operator == ">="]
    pinned = pins()[canonicalize_name(needed.name)]
    return pinned if Version(pinned) == Version(bound) else bound


def lowest() -> dict[str, str]:
    """The version of each package, by name."""
    users = [needed for extra in ("", *sorted(needed_extras())) for needed in extras()[extra]]
    tools = {needed.name: pins()[canonicalize_name(needed.name)] for needed in extras()[TOOLS]}
    return tools | {needed.name: lower_bound(needed) for needed in users}


if __name__ == "__main__":
    sys.stdout.writelines(f"{name}=={version}\n" for name, version in lowest().items())
