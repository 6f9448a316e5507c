"""Near-copies of documents by MinHash: what finding them adds to `prepare`, against datatrove's own steps.

    python benchmarks/copies.py [--data FILE ...] [--rounds 3] [--workers 2]

FILEs are those of benchmarks/corpus.py. datatrove comes with `pip install -r benchmarks/corpus.txt`; without it, only
`prepare` is measured.
"""

from __future__ import annotations

import statistics
import sys
from collections import defaultdict
from importlib.util import find_spec
from typing import Any

from runner import Claim, Result, Table, publish
from runner.preparing import preparation_arguments, preparation_job, run_worker

from tinyllama.errors import SourceError

PLAIN, OURS, DATATROVE = "tinyllama prepare", "tinyllama prepare, deduplicate: minhash", "datatrove's MinHash"
_SCRIPTS = {PLAIN: "tinyllama_text", OURS: "tinyllama_text", DATATROVE: "datatrove_copies"}

_TEXT = """{documents:,} documents of text ({megabytes:,.0f} MB), from compressed JSON Lines (Zstandard), with {workers}
processes each, in turns; medians of {rounds} runs, each in a fresh process, timed from the call of the library's
function to its return. Both sides hash runs of five words into 14 bands of 8 rows. `tinyllama prepare` ends with token
ids, verified and flushed to the disk; datatrove's four steps end with compressed text that still has to be tokenized.
datatrove's settings are those of its example, with SHA-1. Its words are spaCy's for English, with all numbers taken for
one, and it keeps one document of each chain of copies; so the numbers of documents differ."""


def main() -> None:
    """Measure all in turns."""
    asked = preparation_arguments("Compare the search for near-copies with datatrove.").parse_args()
    try:
        job = preparation_job(asked, "copies", every=4)  # datatrove takes minutes for 100 MB
    except SourceError as error:
        sys.stderr.write(f"skipped: {error}\n")
        return
    needed = {OURS: ("rensa",), DATATROVE: ("datatrove", "orjson", "spacy")}
    names = [name for name in _SCRIPTS if all(map(find_spec, needed.get(name, ())))]
    reports: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for number in range(asked.rounds):
        for name in names:
            sys.stderr.write(f"round {number + 1} of {asked.rounds}: {name}\n")
            reports[name].append(run_worker(_SCRIPTS[name], job | {"copies": name == PLAIN}))
    text = _TEXT.format(
        documents=reports[PLAIN][0]["documents"],
        megabytes=reports[PLAIN][0]["bytes"] / 1e6,
        workers=asked.workers,
        rounds=asked.rounds,
    )
    publish(_result(reports, text), asked.out)


def _result(reports: dict[str, list[dict[str, Any]]], text: str) -> Result:
    seconds = {name: statistics.median(report["seconds"] for report in found) for name, found in reports.items()}
    rows = [[name, f"{taken:.2f}", f"{reports[name][0]['documents']:,}"] for name, taken in seconds.items()]
    claims = []
    if OURS in seconds and DATATROVE in seconds:
        added = seconds[OURS] - seconds[PLAIN]
        claims = [
            Claim("datatrove's time over that of all of `prepare`", seconds[DATATROVE] / seconds[OURS], 1, unit="x"),
            Claim("datatrove's time over what `deduplicate` adds", seconds[DATATROVE] / added, 1, unit="x"),
        ]
    table = Table(["", "seconds", "documents kept"], rows)
    return Result("copies", "Finding near-copies", text, [table], claims, facts={"reports": reports})


if __name__ == "__main__":
    main()
