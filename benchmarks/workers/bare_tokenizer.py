"""Our engine alone, on text that is in memory already: python bare_tokenizer.py JOB."""

from __future__ import annotations

import io
import json
import os
import time
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

import zstandard
from preparation import Job, print_report

from tinyllama.tokenizer.bulk import open_engine
from tinyllama.tokenizer.opening import open_tokenizer

if TYPE_CHECKING:
    from multiprocessing.queues import Queue
    from multiprocessing.synchronize import Barrier
    from pathlib import Path

_BATCH_CHARACTERS = 1_000_000


def main() -> None:
    """Encode in several processes that begin together; the time is from there to the end of the last."""
    job = Job.given()
    context = get_context("spawn")
    barrier, results = context.Barrier(job.workers), context.Queue()
    workers = [
        context.Process(target=_encode, args=(job, job.files[part :: job.workers], barrier, results))
        for part in range(job.workers)
    ]
    for worker in workers:
        worker.start()
    parts = [results.get(timeout=600) for _ in workers]
    for worker in workers:
        worker.join()
    report = {key: sum(part[key] for part in parts) for key in ("documents", "tokens", "bytes")}
    seconds = max(part["end"] for part in parts) - min(part["begin"] for part in parts)
    print_report(report | {"seconds": seconds})


def _encode(job: Job, files: list[Path], barrier: Barrier, results: Queue[dict[str, Any]]) -> None:
    os.environ["RAYON_NUM_THREADS"] = os.environ["FASTOKENS_BPE_THREADS"] = "1"
    engine = open_engine(open_tokenizer(job.tokenizer))
    batches = list(_batches([text for file in files for text in _texts(file)]))
    barrier.wait()
    begin = time.monotonic()
    tokens = sum(len(engine.encode(batch).ids) for batch in batches)
    end = time.monotonic()
    size = sum(len(text.encode()) for batch in batches for text in batch)
    documents = sum(map(len, batches))
    results.put({"documents": documents, "tokens": tokens, "bytes": size, "begin": begin, "end": end})


def _texts(file: Path) -> list[str]:
    with zstandard.open(file, "rb") as opened:
        return [json.loads(line)["text"] for line in io.BufferedReader(opened)]


def _batches(texts: list[str]) -> list[list[str]]:
    batches: list[list[str]] = [[]]
    size = 0
    for text in texts:
        if size >= _BATCH_CHARACTERS:
            batches.append([])
            size = 0
        batches[-1].append(text)
        size += len(text)
    return batches


if __name__ == "__main__":
    main()
