"""datatrove's reader and tokenizer as its examples have them, in batches that fit: python datatrove_text.py JOB."""

from __future__ import annotations

from typing import Any

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.tokens import DocumentTokenizer
from preparation import Job, print_report, timed

END = "</s>"


def main() -> None:
    """One task a worker; documents keep their order, which saves it a second pass over the tokens."""
    job = Job.given()
    out = job.out / "tokens"
    pipeline = [
        JsonlReader(str(job.text), compression="zstd", glob_pattern="*.jsonl.zst"),
        DocumentTokenizer(
            str(out),
            str(job.tokenizer / "tokenizer.json"),
            eos_token=END,
            shuffle_documents=False,
            batch_size=1000,  # of its default, 10,000 documents, the encodings can take 12 GB a process
        ),
    ]
    report: dict[str, Any] = {}
    with timed(report):
        LocalPipelineExecutor(pipeline, tasks=job.workers, workers=job.workers, logging_dir=str(job.out / "logs")).run()
    tokens = sum(path.stat().st_size for path in out.glob("*.ds")) // 2
    documents = sum(path.stat().st_size for path in out.glob("*.index")) // 8
    print_report(report | {"documents": documents, "tokens": tokens})


if __name__ == "__main__":
    main()
