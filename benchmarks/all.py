"""Run the benchmarks and write docs/benchmarks.md from their results: python benchmarks/all.py [NAME ...].

Without names, every benchmark runs that can do so unattended. The page holds the last result of each. A benchmark
whose requirements are not met (no GPU, no data) prints a message and writes no result.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner import standard_arguments

from tinyllama.files import write_atomic

if TYPE_CHECKING:
    from collections.abc import Sequence

HERE = Path(__file__).parent
ORDER = (
    "train",
    "step",
    "quality",
    "startup",
    "feed",
    "checkpoint",
    "corpus",
    "copies",
    "generate",
    "evaluate",
    "lookup",
    "studio",
    "steady",
    "gpu",
)
"""Order of the page. A benchmark that is not listed needs too much of the machine to run by default."""

_HEAD = """# Benchmarks

`make bench` (`python benchmarks/all.py`) writes this page; each section names its machine and versions. Speeds are
medians of runs in turns. To run one benchmark: `python benchmarks/train.py`.
"""
_NO_GPU = """No figure is of a GPU yet. On a machine with one, `python benchmarks/all.py gpu` adds the section.
"""


def main() -> None:
    """Run, assemble, and end with 1 if a benchmark failed."""
    parser = standard_arguments(__doc__ or "")
    parser.add_argument("names", nargs="*", metavar="NAME", help="of a benchmark (default: all)")
    parser.add_argument("--page", type=Path, default=HERE.parent / "docs" / "benchmarks.md")
    asked = parser.parse_args()
    known = [name for name in ORDER if (HERE / f"{name}.py").is_file()]
    if unknown := set(asked.names) - set(known):
        parser.error(f"no benchmark is named {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    failed = [name for name in asked.names or known if not _run(name, asked.out, quick=asked.quick)]
    _write_page(known, asked.out, asked.page)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def _run(name: str, out: Path, *, quick: bool) -> bool:
    sys.stderr.write(f"== {name}\n")
    command = [sys.executable, str(HERE / f"{name}.py"), "--out", str(out), *(["--quick"] if quick else [])]
    return subprocess.run(command, check=False).returncode == 0  # our own script


def _write_page(names: Sequence[str], out: Path, page: Path) -> None:
    """One section per result; charts go to a folder beside the page."""
    found = [name for name in names if (out / f"{name}.md").is_file()]
    documents = {name: json.loads((out / f"{name}.json").read_text(encoding="utf-8")) for name in found}
    sections = [
        f"{(out / f'{name}.md').read_text(encoding='utf-8')}\n{_origin(name, documents[name])}\n" for name in found
    ]
    write_atomic(page, "\n".join([_HEAD, *([] if "gpu" in found else [_NO_GPU]), *sections]))
    for name in found:
        if (out / f"{name}.svg").is_file():
            write_atomic(page.parent / page.stem / f"{name}.svg", (out / f"{name}.svg").read_bytes())


def _origin(name: str, document: dict[str, Any]) -> str:
    """Time, machine and versions of a result."""
    machine = document["machine"]
    libraries = ", ".join(f"{library} {release}" for library, release in document["libraries"].items())
    return (
        f"`python benchmarks/{name}.py`, {document['date']}, {machine['cores']} cores of {machine['cpu']}, "
        f"{machine['memory_gib']} GiB; {libraries}."
    )


if __name__ == "__main__":
    main()
