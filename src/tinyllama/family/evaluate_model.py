"""Evaluate one model of any origin; write its record to a separate folder."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch

from tinyllama.corpus.manifest import HELD_OUT, is_prepared, open_corpus
from tinyllama.corpus.reading import read_texts
from tinyllama.corpus.source_parts import held_out_parts
from tinyllama.errors import CorpusError, EvaluationError, UserError
from tinyllama.evaluation import legacy
from tinyllama.evaluation.bits import Texts, bits_of_texts
from tinyllama.evaluation.catalogue import expand_tasks
from tinyllama.evaluation.journal import Journal
from tinyllama.evaluation.record import EXACT, PRECISIONS, BitsPerByte, Conditions, EvaluationRecord, library_versions
from tinyllama.evaluation.record_folder import JOURNAL, RECORD_FOLDER, compare_with_record, record_folder, write_record
from tinyllama.evaluation.scores import EvaluationOptions
from tinyllama.evaluation.tasks import evaluate_tasks
from tinyllama.evaluation.vocabulary import refuse_other_vocabulary
from tinyllama.family.progress import SILENT, at_intervals
from tinyllama.folders import claim
from tinyllama.formats.open import open_model
from tinyllama.layout import family_of_corpus
from tinyllama.model.devices import choose_device, describe_device
from tinyllama.paths import printable_path
from tinyllama.processors import available_cores
from tinyllama.recipe import Corpus, HeldOut, Source
from tinyllama.sources.documents import accept_text, read_documents, utf8_bytes
from tinyllama.sources.records import record_suffix
from tinyllama.tokenizer.opening import open_tokenizer
from tinyllama.train.machine import describe_machine
from tinyllama.train.precision import DTYPES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tinyllama.family.progress import Progress
    from tinyllama.model import Llama
    from tinyllama.sources.rejected import Rejected
    from tinyllama.tokenizer.base import Tokenizer

WINDOW = 2048
"""Tokens per window for bits per byte, unless the model's context is shorter."""
_TEXT = "give text in UTF-8, records with a field `text`, a folder of such files, or that of a prepared corpus"


@dataclass(frozen=True)
class EvaluateRequest:
    """What to measure on a model, and how."""

    tasks: list[str]
    data: Path
    limit: int | None = None
    rows: int | None = None
    """Rows per forward pass; None chooses a number that suits the device."""
    dtype: str = EXACT
    device: str = "auto"
    """What computes, see `choose_device`."""
    texts: list[Path] = field(default_factory=list)
    """Prepared corpora, text files, records and folders of them to measure bits per byte on."""
    run_code: bool = False
    samples: int = 1
    shots: int | None = None
    """Examples before each question; None takes as many as a task's definition states."""
    include_path: Path | None = None
    """Folder of definitions of tasks in lm-eval's format."""
    out: Path = Path("evaluations")


class Evaluated(NamedTuple):
    """An evaluation record and the folder that holds it."""

    record: EvaluationRecord
    folder: Path


def evaluate(  # noqa: PLR0913  # a public function; all but the first are keyword options with defaults
    model: str | Path,
    *,
    tasks: str | Sequence[str] = ("commonsense",),
    data: str | Path = "data/eval",
    limit: int | None = None,
    precision: str = EXACT,
    device: str = "auto",
    texts: str | Path | Sequence[str | Path] = (),
    out: str | Path = "evaluations",
    progress: Progress = SILENT,
) -> EvaluationRecord:
    """Score one model of any origin on tasks and text; write the record below `out`.

    Answers saved by an earlier call are reused.

    Args:
        model: see `open_model`.
        tasks: one or more names of tasks and groups.
        data: folder with local copies of the tasks' data; what is not there is fetched from the hub, and a task
            whose data is unavailable gets a reason instead of a score.
        limit: maximum number of questions per task or subject; at least 1.
        precision: fp32 or bf16.
        device: what computes: auto, cpu, cuda, xpu, mps, or one of several, such as cuda:1.
        texts: one or more text files or prepared corpora to measure bits per byte on.
        out: folder of the records.
        progress: receives messages; nothing is shown by default.

    Raises:
        UserError: the precision is not fp32 or bf16, or the limit is below 1.
        ModelError: the model does not exist.
        EvaluationError: a task is unknown, a data file is damaged, or a text cannot be read.
    """
    if precision not in PRECISIONS:
        raise UserError(f"precision is {precision!r}, but must be {' or '.join(PRECISIONS)}")
    if limit is not None and limit < 1:
        raise UserError(f"limit is {limit}, but must be at least 1; leave it out to ask all questions")
    request = EvaluateRequest(
        tasks=[tasks] if isinstance(tasks, str) else list(tasks),
        data=Path(data),
        limit=limit,
        dtype=precision,
        device=device,
        texts=[Path(text) for text in ([texts] if isinstance(texts, str | Path) else texts)],
        out=Path(out),
    )
    return evaluate_model(model, request, progress=progress).record


def evaluate_model(
    name: str | Path, request: EvaluateRequest, folder: Path | None = None, progress: Progress = SILENT
) -> Evaluated:
    """Score one model and write its record to `folder` (default: `request.out`/<model name>).

    Raises:
        UserError: a task or model is unknown, the tokenizer is not the model's, or a data file is damaged.
    """
    began = time.monotonic()
    expand_tasks(request.tasks, request.include_path)  # a misspelled task is reported before anything is loaded
    texts = {printable_path(path): open_text(path) for path in request.texts}  # as is a text that cannot be read
    source = open_model(name)
    torch.set_num_threads(available_cores())
    device = choose_device(request.device)
    progress.say(f"{name}: loading on {describe_device(device)}")
    identity, tokenizer = source.identity(), source.tokenizer()
    model = source.load(DTYPES[request.dtype]).to(device)
    refuse_other_vocabulary(tokenizer, model)
    exact = request.out / re.sub(r"[^\w.-]+", "_", source.name).strip("._")
    rounded = request.dtype != EXACT
    depends_on = legacy.journal_inputs(identity, tokenizer.sha256, request.dtype, device.type, torch.__version__)
    if folder is None:
        named = exact.with_name(f"{exact.name}-{request.dtype}") if rounded else exact
        folder = record_folder(named, str(name), identity, depends_on)
        claim(folder, RECORD_FOLDER, EvaluationError)
    with Journal(folder / JOURNAL, depends_on) as journal:
        if len(journal):
            progress.say(f"{name}: {len(journal)} answers loaded from an earlier run")
        say = at_intervals(progress.say)
        options = EvaluationOptions(
            limit=request.limit,
            bos=source.adds_bos,
            rows=request.rows,
            run_code=request.run_code,
            samples=request.samples,
            shots=request.shots,
            include_path=request.include_path,
            journal=journal,
            progress=lambda task, done, of: say(f"{name}: {task}: {done} of {of}"),
            say=progress.say,
        )
        scores = evaluate_tasks(model, tokenizer, request.tasks, request.data, options)
    bits = _bits_per_byte(model, tokenizer, texts, request.dtype, bos=source.adds_bos)
    answers = chain.from_iterable(scores.answers.values())
    record = EvaluationRecord(
        model=str(name),
        source=identity,
        scores=scores,
        bits_per_byte=bits,
        conditions=Conditions(
            tokenizer_sha256=tokenizer.sha256,
            dtype=request.dtype,
            device=device.type,
            threads=available_cores(),
            machine=describe_machine(),
            versions=library_versions(),
            seconds=round(time.monotonic() - began, 1),
            limit=request.limit,
            rows=request.rows,
        ),
        against_fp32=compare_with_record(
            record_folder(exact, str(name), identity, depends_on), identity, tokenizer.sha256, answers
        )
        if rounded
        else None,
    )
    write_record(folder, record)
    return Evaluated(record, folder)


def _bits_per_byte(
    model: Llama, tokenizer: Tokenizer, texts: Mapping[str, Texts], dtype: str, *, bos: bool
) -> BitsPerByte | None:
    if not texts:
        return None
    window = min(WINDOW, model.shape.context)
    measured = {name: bits_of_texts(model, tokenizer, text, bos=bos, window=window) for name, text in texts.items()}
    return BitsPerByte.of(measured, window, dtype)


def open_text(path: Path) -> Texts:
    """The held-out documents of a prepared corpus, or a file or folder as a corpus has it, each with its bytes."""
    if is_prepared(path):
        corpus = open_corpus(path)
        tokenizer = open_tokenizer(family_of_corpus(path).tokenizer)
        documents = ((document.text, document.bytes) for document in read_texts(corpus, tokenizer, HELD_OUT))
        return Texts(documents, held_out_parts(corpus))
    name, rejected = printable_path(path), list["Rejected"]()
    try:
        if path.is_dir() or record_suffix(path.name):
            text = Corpus(size=1, license="", sources=[Source(files=str(path))], held_out=HeldOut(share=Fraction(1, 2)))
            found = list(read_documents(text, Path(), rejected.append))
        else:
            found = list(accept_text(path.read_bytes(), name, name, rejected.append))
    except OSError as error:
        raise EvaluationError(f"--text {name}: {error.strerror}; {_TEXT}") from error
    except CorpusError as error:
        raise EvaluationError(f"--text {name}: {error}") from error
    if not found:
        raise EvaluationError(f"--text {name}: {rejected[0].reason if rejected else 'is empty'}; {_TEXT}")
    return Texts([(document.text, utf8_bytes(document.text)) for document in found])
