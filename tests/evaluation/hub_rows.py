"""The seven tasks' rows in the layout of the Hugging Face hub's repositories, for the stand-in hub."""

from __future__ import annotations

import json
from io import BytesIO
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from tests.export.hub_stand_in import CONVERTED

if TYPE_CHECKING:
    from pathlib import Path

Repositories = dict[str, dict[str, bytes]]
SPLITS = {
    "arc_challenge_test": ("allenai/ai2_arc", "ARC-Challenge", "test"),
    "arc_easy_test": ("allenai/ai2_arc", "ARC-Easy", "test"),
    "boolq_validation": ("aps/super_glue", "boolq", "validation"),
    "openbookqa_test": ("allenai/openbookqa", "main", "test"),
    "winogrande_xl_validation": ("allenai/winogrande", "winogrande_xl", "validation"),
}
"""File → repository, configuration and split, of the sets whose README.md describes their files."""


def parquet(rows: list[dict[str, object]]) -> bytes:
    out = BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), out)
    return out.getvalue()


def seven_sets(folder: Path) -> Repositories:
    """The rows of `write_rows` as the hub would hold them.

    Five are described by their README.md, one of them in two files; HellaSwag and PIQA are only on the branch that
    the hub converts, as are sets that consist of a program.
    """

    def rows(name: str) -> list[dict[str, object]]:
        return [json.loads(line) for line in (folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]

    found: Repositories = {}
    for name, (repository, config, split) in SPLITS.items():
        files = found.setdefault(f"datasets/{repository}", {"README.md": b"---\nconfigs:\n"})
        head = f"- config_name: {config}\n  data_files:\n  - {{split: {split}, path: {config}/{split}-*}}\n"
        files["README.md"] += head.encode()
        parts = [rows(name)[:1], rows(name)[1:]] if name == "boolq_validation" else [rows(name)]
        for index, part in enumerate(parts):
            files[f"{config}/{split}-{index:05}-of-{len(parts):05}.parquet"] = parquet(part)
    for files in found.values():
        files["README.md"] += b"---\n# A data set\n"
    for name, repository in (("hellaswag_validation", "Rowan/hellaswag"), ("piqa_validation", "baber/piqa")):
        found[f"datasets/{repository}"] = {"README.md": b"# A program\n", "program.py": b"code"}
        found[f"datasets/{repository}@{CONVERTED}"] = {"default/validation/0000.parquet": parquet(rows(name))}
    return found
