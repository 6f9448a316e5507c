"""datatrove's four steps for near-copies, as its example has them: python datatrove_copies.py JOB."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.dedup import (
    MinhashConfig,
    MinhashDedupBuckets,
    MinhashDedupCluster,
    MinhashDedupFilter,
    MinhashDedupSignature,
)
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter
from datatrove.utils.hashing import HashConfig
from preparation import Job, print_report, timed

if TYPE_CHECKING:
    from datatrove.pipeline.base import PipelineStep


def main() -> None:
    """From text to text without copies; datatrove asks for a multiple of 14 tasks, its buckets, in the second step."""
    job = Job.given()
    config = MinhashConfig(
        n_grams=5, num_buckets=14, hashes_per_bucket=8, hash_config=HashConfig(precision=64, hash_fc="sha1")
    )
    signatures, buckets, removed = (str(job.out / name) for name in ("signatures", "buckets", "removed"))
    reader = JsonlReader(str(job.text), compression="zstd", glob_pattern="*.jsonl.zst")
    steps: list[tuple[list[PipelineStep], int]] = [
        ([reader, MinhashDedupSignature(signatures, config)], job.workers),
        ([MinhashDedupBuckets(signatures, buckets, config=config)], config.num_buckets),
        ([MinhashDedupCluster(buckets, removed, config=config)], 1),
        ([reader, MinhashDedupFilter(removed), JsonlWriter(str(job.out / "kept"), compression="zstd")], job.workers),
    ]
    report: dict[str, Any] = {}
    with timed(report):
        for number, (pipeline, tasks) in enumerate(steps):
            LocalPipelineExecutor(
                pipeline, tasks=tasks, workers=min(tasks, job.workers), logging_dir=str(job.out / f"logs-{number}")
            ).run()
    print_report(report | {"documents": _documents(job)})


def _documents(job: Job) -> int:
    """How many are kept."""
    import zstandard

    return sum(
        sum(1 for _ in zstandard.open(path, "rt", encoding="utf-8")) for path in (job.out / "kept").glob("*.jsonl.zst")
    )


if __name__ == "__main__":
    main()
