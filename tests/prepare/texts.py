"""Texts to prepare."""

import json
import random
from pathlib import Path


def write_damaged_texts(root: Path, sources: int) -> None:
    """Write `texts/<n>.jsonl`, one for each source, each damaged in one line."""
    (root / "texts").mkdir()
    dice = random.Random(1)  # noqa: S311  # a test's variety
    words = ["alpha", "beta", "gamma", " ", "\n", "中", "</s>", "12"]
    for source in range(sources):
        lines = [json.dumps({"text": " ".join(dice.choices(words, k=400)) + f" {source} {n}"}) for n in range(150)]
        lines.insert(40, "{broken")
        (root / f"texts/{source}.jsonl").write_text("\n".join(lines))
