"""What other environments do with an exported folder; run there, so nothing of ours is imported.

python workers.py WORK FOLDER TEXT... prints one JSON object.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

NEW = 24
"""Tokens of a greedy continuation."""


def transformers_logits(folder: str, texts: Sequence[str]) -> dict[str, Any]:
    """Ids of the texts, and transformers' logits after each of them."""
    from transformers import AutoModelForCausalLM

    return _logits(AutoModelForCausalLM.from_pretrained(folder).eval(), _ids(folder, texts))


def onnx_logits(folder: str, texts: Sequence[str]) -> dict[str, Any]:
    """Ids of the texts, and ONNX Runtime's logits after each of them; optimum converts the folder."""
    from optimum.onnxruntime import ORTModelForCausalLM

    return _logits(ORTModelForCausalLM.from_pretrained(folder, export=True), _ids(folder, texts))


def ctranslate2_greedy(folder: str, texts: Sequence[str]) -> dict[str, Any]:
    """Ids of the texts, and CTranslate2's greedy continuations; its own converter reads the folder."""
    import ctranslate2
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = _ids(folder, texts)
    with TemporaryDirectory() as converted:
        ctranslate2.converters.TransformersConverter(folder).convert(str(Path(converted) / "model"))
        generator = ctranslate2.Generator(str(Path(converted) / "model"), compute_type="float32")
        prompts = [tokenizer.convert_ids_to_tokens(row) for row in ids]
        results = generator.generate_batch(prompts, max_length=NEW, include_prompt_in_result=False, end_token=[])
    return {"ids": ids, "continuations": [result.sequences_ids[0] for result in results]}


def _logits(model: Callable[..., Any], ids: list[list[int]]) -> dict[str, Any]:
    import torch

    rows = [torch.tensor([row]) for row in ids]
    with torch.no_grad():
        logits = [model(input_ids=row, attention_mask=torch.ones_like(row)).logits[0].tolist() for row in rows]
    return {"ids": ids, "logits": logits}


def _ids(folder: str, texts: Sequence[str]) -> list[list[int]]:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    return [tokenizer(text)["input_ids"] for text in texts]


if __name__ == "__main__":
    works = {work.__name__: work for work in (transformers_logits, onnx_logits, ctranslate2_greedy)}
    sys.stdout.write(json.dumps(works[sys.argv[1]](sys.argv[2], sys.argv[3:])))
