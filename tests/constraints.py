"""constraints.txt, the releases that CI tests: `python -m tests.constraints` renews it by asking pip."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tinyllama.installation import DISTRIBUTION

ROOT = Path(__file__).parent.parent
FILE = ROOT / "constraints.txt"
HEAD = """# What CI tests, for all extras at once, with Python 3.11 on Linux: `make constraints` renews this file.
# Every installation of ours has `--constraint constraints.txt`; the ranges in pyproject.toml are wider.
"""


@cache
def extras() -> dict[str, list[Requirement]]:
    """The requirements of each extra without those on extras of ours; the package's own are under ""."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    stated = {"": project["dependencies"], **project["optional-dependencies"]}
    return {
        extra: [needed for needed in map(Requirement, texts) if canonicalize_name(needed.name) != DISTRIBUTION]
        for extra, texts in stated.items()
    }


@cache
def pins() -> dict[str, str]:
    """The version of each package that the file pins, by canonical name."""
    lines = [line for line in FILE.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    return {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines)}


def resolve() -> dict[str, str]:
    """The version of each package that pip would install for all extras at once, by name."""
    everything = f"{ROOT}[{','.join(filter(None, extras()))}]"
    with TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"]
        subprocess.run([*command, "--report", str(report), everything], check=True)
        found = json.loads(report.read_text(encoding="utf-8"))["install"]
    versions = {str(item["metadata"]["name"]): str(item["metadata"]["version"]) for item in found}
    # A local version such as 2.13.0+cpu names a build, and an index has the others.
    return {name: version.partition("+")[0] for name, version in versions.items() if name != DISTRIBUTION}


def text(versions: dict[str, str]) -> str:
    """The file that pins these versions."""
    return HEAD + "".join(f"{name}=={versions[name]}\n" for name in sorted(versions, key=canonicalize_name))


if __name__ == "__main__":
    FILE.write_text(text(resolve()), encoding="utf-8")
