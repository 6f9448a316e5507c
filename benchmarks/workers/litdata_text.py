"""litdata's `optimize` over text, as its documentation has it for pretraining: python litdata_text.py JOB."""

from __future__ import annotations

import io
import json
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import zstandard
from preparation import Job, print_report, timed
from tokenizers import Tokenizer

if TYPE_CHECKING:
    from collections.abc import Iterator


def main() -> None:
    """Chunks of 64 MB, for its loader of tokens."""
    job = Job.given()
    for name in ("DATA_OPTIMIZER_CACHE_FOLDER", "DATA_OPTIMIZER_DATA_CACHE_FOLDER"):  # read when it is imported
        os.environ[name] = str(job.out / name.lower())
    from litdata import TokensLoader, optimize  # see above

    report: dict[str, Any] = {}
    with timed(report):
        optimize(
            fn=partial(_tokenize, tokenizer_file=str(job.tokenizer / "tokenizer.json")),
            inputs=[str(file) for file in job.files],
            output_dir=str(job.out / "chunks"),
            num_workers=job.workers,
            chunk_bytes="64MB",
            item_loader=TokensLoader(),
        )
    index = json.loads((job.out / "chunks" / "index.json").read_text(encoding="utf-8"))
    print_report(report | {"tokens": sum(chunk["dim"] for chunk in index["chunks"])})


def _tokenize(file: str, *, tokenizer_file: str) -> Iterator[torch.Tensor]:
    tokenizer = Tokenizer.from_file(tokenizer_file)
    eos = tokenizer.token_to_id("</s>")
    with zstandard.open(Path(file), "rb") as opened:
        for line in io.BufferedReader(opened):
            ids = tokenizer.encode(json.loads(line)["text"], add_special_tokens=False).ids
            yield torch.tensor([*ids, eos], dtype=torch.uint16)


if __name__ == "__main__":
    main()
