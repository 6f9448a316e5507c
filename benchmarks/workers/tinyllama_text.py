"""`tinyllama prepare` of one corpus: python tinyllama_text.py JOB."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from preparation import Job, print_report, timed

from tinyllama.prepare.prepare import PrepareOptions, prepare_corpus
from tinyllama.recipe import load_recipe
from tinyllama.tokenizer.opening import open_tokenizer

RECIPE = Path(__file__).parent.parent / "speed.yaml"


def main() -> None:
    """Prepare, and report what came out."""
    job = Job.given()
    recipe = load_recipe(
        str(RECIPE),
        [
            f"tokenizer={json.dumps({'file': str(job.tokenizer / 'tokenizer.model')})}",
            f"corpora.python.sources={json.dumps([{'files': str(file)} for file in job.files])}",
            "corpora.python.cut=null",
            f"corpora.python.deduplicate={'null' if job.copies else 'minhash'}",
        ],
    )
    tokenizer = open_tokenizer(job.tokenizer)
    report: dict[str, Any] = {}
    with timed(report):
        corpus = prepare_corpus(
            recipe, "python", tokenizer, job.out / "corpus", Path(), options=PrepareOptions(job.workers, job.exact)
        )
    splits = corpus.manifest.splits.values()
    report |= {key: sum(getattr(split, key) for split in splits) for key in ("documents", "tokens", "bytes")}
    print_report(report | corpus.manifest.model_dump(include={"engine", "rejected"}))


if __name__ == "__main__":
    main()
