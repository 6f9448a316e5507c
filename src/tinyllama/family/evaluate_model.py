"""One model of any origin, evaluated into a folder of its own."""

from __future__ import annotations

import re
import time
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from tinyllama.corpus.manifest import HELD_OUT, MANIFEST, open_corpus
from tinyllama.corpus.reading import read_texts
from tinyllama.errors import EvaluationError
from tinyllama.evaluation.agreement import against_record
from tinyllama.evaluation.bits import bits_per_byte_of_texts
from tinyllama.evaluation.catalogue import expand_tasks
from tinyllama.evaluation.journal import Journal
from tinyllama.evaluation.record import JOURNAL, build_record, write_record
from tinyllama.evaluation.scores import Options
from tinyllama.evaluation.tasks import evaluate_tasks
from tinyllama.evaluation.vocabulary import refuse_other_vocabulary
from tinyllama.family.progress import SILENT
from tinyllama.formats.open import open_model
from tinyllama.tokenizer.opening import open_tokenizer
from tinyllama.train.machine import cores, describe_machine
from tinyllama.train.precision import DTYPES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tinyllama.family.progress import Progress
    from tinyllama.model import Llama
    from tinyllama.tokenizer.base import Tokenizer

WINDOW = 2048
"""Tokens seen at once for bits per byte, where the model's context is not shorter."""
_SECONDS_BETWEEN_LINES = 15.0
_EXACT = "fp32"
"""The precision that others are compared with."""


@dataclass(frozen=True)
class EvaluateRequest:
    """What a person wants to know of a model."""

    tasks: list[str]
    data: Path
    limit: int | None = None
    rows: int | None = None
    """Of a forward pass; None takes as many as suit the device."""
    dtype: str = _EXACT
    texts: list[Path] = field(default_factory=list)
    """Prepared corpora and text files, for bits per byte."""
    run_code: bool = False
    samples: int = 1
    out: Path = Path("evaluations")


def evaluate_model(
    name: str, request: EvaluateRequest, folder: Path | None = None, progress: Progress = SILENT
) -> dict[str, Any]:
    """Score one model, and write its record to `folder` (default: below `request.out`, by its name).

    Returns:
        The record, and `folder`.

    Raises:
        UserError: an unknown task, no such model, a tokenizer that is not the model's, a damaged data file.
    """
    began = time.monotonic()
    expand_tasks(request.tasks)  # a misspelled task is said before anything is loaded
    source = open_model(name)
    torch.set_num_threads(cores())
    device = "cuda" if torch.cuda.is_available() else "cpu"
    progress.say(f"{name}: loading")
    identity, tokenizer = source.identity(), source.tokenizer()
    facts = {
        "bos" if key == "adds_bos" else "run" if key == "model" else key: value
        for key, value in asdict(identity).items()
        if value is not None or key == "stored_dtype"
    }
    model = source.load(DTYPES[request.dtype]).to(device)
    refuse_other_vocabulary(tokenizer, model)
    exact = request.out / re.sub(r"[^\w.-]+", "_", source.name).strip("._")
    rounded = request.dtype != _EXACT
    folder = folder or (exact.with_name(f"{exact.name}-{request.dtype}") if rounded else exact)
    inputs = {
        "source": facts,
        "tokenizer_sha256": tokenizer.sha256,
        "bos": facts["bos"],
        "dtype": request.dtype,
        "device": device,
    }
    with Journal(folder / JOURNAL, inputs | {"torch": torch.__version__}) as journal:
        if len(journal):
            progress.say(f"{name}: {len(journal)} answers are there already")
        options = Options(
            limit=request.limit,
            bos=source.adds_bos,
            rows=request.rows,
            run_code=request.run_code,
            samples=request.samples,
            journal=journal,
            progress=_told_now_and_then(progress, name),
        )
        scores = evaluate_tasks(model, tokenizer, request.tasks, request.data, options)
    bits = _bits(model, tokenizer, request, bos=source.adds_bos)
    settings = {
        "limit": request.limit,
        "rows": request.rows or "auto",
        "threads": cores(),
        "machine": describe_machine(),
    }
    inputs |= settings | {"seconds": round(time.monotonic() - began, 1)}
    answers = chain.from_iterable(scores.answers.values())
    record = build_record(name, inputs, scores, bits, against_record(exact, inputs, answers) if rounded else None)
    write_record(folder, record, scores)
    return record | {"folder": str(folder)}


def _bits(model: Llama, tokenizer: Tokenizer, request: EvaluateRequest, *, bos: bool) -> dict[str, Any]:
    if not request.texts:
        return {}
    window = min(WINDOW, model.shape.context)
    values = {
        str(path): bits_per_byte_of_texts(model, tokenizer, _texts(path), bos=bos, window=window)
        for path in request.texts
    }
    return {"values": values, "window": window, "stride": window}


def _texts(path: Path) -> Iterator[str]:
    """The held-out documents of a prepared corpus, or a file as one document."""
    if (path / MANIFEST).is_file():
        corpus = open_corpus(path)
        tokenizer = open_tokenizer(path.parent.parent / "tokenizer")
        for document in read_texts(corpus, tokenizer, HELD_OUT):
            yield document.text
        return
    try:
        yield path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise EvaluationError(
            f"--text {path}: {error}; give a text file in UTF-8 or the folder of a prepared corpus"
        ) from error


def _told_now_and_then(progress: Progress, name: str) -> Callable[[str, int, int], None]:
    """Says every few seconds how far a task is."""
    last = time.monotonic()

    def tell(task: str, done: int, of: int) -> None:
        nonlocal last
        if time.monotonic() - last > _SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            progress.say(f"{name}: {task}: {done} of {of}")

    return tell
