"""What the studio computes in processes of their own: plans, the rows of steps, and searches through corpora.

Each function sends its results, one message or several, with its first argument.
"""

from __future__ import annotations

import re
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, Field

from tinyllama.corpus.documents import DocumentIndex
from tinyllama.corpus.manifest import SPLITS
from tinyllama.corpus.reading import Decoder
from tinyllama.errors import RecipeError, UserError
from tinyllama.family.progress import at_intervals
from tinyllama.fidelity import find_document, find_texts, open_runs, rows_of_steps
from tinyllama.plan import compile_plan, summarize
from tinyllama.plan.hardware import predict
from tinyllama.plan.tables import CORPUS_HEADER, STAGE_HEADER, corpus_rows, stage_rows
from tinyllama.recipe import dump_recipe, load_recipe, parse_recipe
from tinyllama.recipe.editing import differences
from tinyllama.report.plan_plot import plan_plot

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic import JsonValue

    from tinyllama.files import Json

    Send = Callable[[Json], None]

TEXT = Path("recipe.yaml")
"""What messages call the recipe that is being written; what it extends is found from the current folder."""
_PLACE = re.compile(rf"(?:{re.escape(str(TEXT))}:(\d+): )?(.*)", re.DOTALL)
_DOCUMENT_TOKENS = 50_000
"""Of a document that is shown as a whole."""
_FOUND = 50
"""Places of a text that a search shows."""
_PAUSE = 0.3
"""Seconds between two reports of a search."""
_QUESTIONS = 1000
"""Questions of a task that a comparison shows; `tinyllama compare --out` writes all."""


class RecipeQuestion(BaseModel):
    """A recipe that is being written, and what is asked about it."""

    text: str
    family: str = ""
    """The family whose recipe it is compared with; empty for none."""
    gpu: str = ""
    """What its cost is predicted on; empty for no prediction."""
    gpus: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    price: Annotated[float, Field(ge=0)] | None = None
    """Of an hour of one."""


def check_recipe(send: Send, asked: RecipeQuestion, running: str | None) -> None:
    """What is wrong with a recipe, or its plan.

    Args:
        send: receives the result.
        asked: the recipe.
        running: path of the recipe that it is compared with.
    """
    try:
        recipe = parse_recipe(asked.text, TEXT)
        plans = [compile_plan(recipe, name) for name in recipe.planned]
    except UserError as error:
        lines = str(error).split("\n") if isinstance(error, RecipeError) else [str(error)]
        send({"faults": [_fault(line) for line in lines]})
        return
    summaries = [summarize(plan, recipe) for plan in plans]
    models = [
        {"model": summary.variant or "base", "stages": stage_rows(summary), "corpora": corpus_rows(summary)}
        for summary in summaries
    ]
    prediction = predict(recipe, plans, asked.gpu, asked.gpus, price=asked.price).as_dict() if asked.gpu else None
    result: Json = {
        "faults": [],
        "stage_header": STAGE_HEADER,
        "corpus_header": CORPUS_HEADER,
        "plans": models,
        "plot": plan_plot(recipe),
        "changes": [] if running is None else [asdict(change) for change in differences(load_recipe(running), recipe)],
        "prediction": prediction,
    }
    send(result)


def recipe_to_start(send: Send, text: str) -> None:
    """The name of a recipe, and its text with everything that it extends.

    Raises:
        RecipeError: it is not valid.
    """
    recipe = parse_recipe(text, TEXT)
    send({"name": recipe.name, "text": dump_recipe(recipe)})


def read_rows(send: Send, family: str, model: str, step: int, positions: range) -> None:
    """Rows of a step as text, those at some positions in its batch; and the number of rows in the batch.

    Raises:
        UserError: the plan has no such step.
        CorpusError: a corpus is not here or damaged.
    """
    (run,) = open_runs(Path(family) / model)
    batch = int(run.plan.batch[min(step, run.plan.steps) - 1])
    rows = [row for at in positions if at < batch for row in rows_of_steps(run, step, step, position=at)]
    send({"batch": batch, "steps": run.plan.steps, "rows": [asdict(row) for row in rows]})


def read_document(send: Send, family: str, name: str, origin: str) -> None:
    """The parts of a document, each with its text: of both splits, since a long document may be in both.

    Args:
        send: receives the result.
        family: folder.
        name: of the corpus, as rows call it: `name@context` where the context is not the model's own.
        origin: the whole origin of the document.

    Raises:
        UserError: there is no such corpus, or no such document.
        CorpusError: the corpus is not here or damaged.
    """
    runs = open_runs(Path(family))
    name = name.partition("@")[0]
    corpus = next((corpora[name] for corpora in (run.corpora for run in runs) if name in corpora), None)
    if corpus is None:
        raise UserError(f"no model of this family reads a corpus {name}")
    parts: list[Json] = []
    room, is_cut = _DOCUMENT_TOKENS, False
    for split in SPLITS:
        decoder = Decoder(corpus, runs[0].tokenizer, split)
        for document in DocumentIndex(corpus, split).of_origin(origin):
            shown = min(document.tokens, room)
            room, is_cut = room - shown, is_cut or shown < document.tokens
            text = decoder.text(document.start, shown, origin) if shown else ""
            parts.append({"split": split, "part": document.part, "tokens": document.tokens, "text": text})
    if not parts:
        raise UserError(f"{name}: no document has the origin {origin}")
    send({"parts": parts, "cut": is_cut})


def search(send: Send, family: str, text: str, origin: str) -> None:
    """Where a text is in the corpora and at which steps models see it: progress and places, then an end.

    Args:
        send: receives the messages.
        family: folder.
        text: what to look for, if there is no origin.
        origin: the whole origin of the documents to look for; empty for a text.
    """
    runs = open_runs(Path(family))
    if origin:
        found = iter(find_document(runs, origin))
    else:
        found = find_texts(runs, [text], SPLITS, at_intervals(lambda line: send({"progress": line}), _PAUSE))
    for occurrence in islice(found, _FOUND):
        send({"found": asdict(occurrence)})
    send({"complete": next(found, None) is None})


def compare_models(send: Send, first: str, second: str) -> None:
    """How two models differ on what both answered, as `tinyllama compare` says it, and on which questions.

    Args:
        send: receives the result.
        first: folder of one model's evaluation record.
        second: of the other's.

    Raises:
        EvaluationError: a record cannot be read.
    """
    from tinyllama.comparison.compare import compare  # imports torch
    from tinyllama.comparison.documents import HEADER, METHOD, cells, changed_summary

    found = compare([first, second])
    tasks: list[Json] = [
        {
            "task": item.subject,
            "summary": changed_summary(item),
            "lower_is_better": item.lower_is_better,
            "changes": [change._asdict() for change in item.changes[:_QUESTIONS]],
            "more": max(0, len(item.changes) - _QUESTIONS),
        }
        for item in found.differences
        if item.changes
    ]
    send(
        {
            "header": HEADER,
            "rows": [cells(item) for item in found.differences],
            "gaps": [f"{gap.subject}: {gap.reason}" for gap in found.gaps],
            "method": METHOD,
            "tasks": tasks,
        }
    )


def _fault(line: str) -> dict[str, JsonValue]:
    match = _PLACE.fullmatch(line)
    number, text = match.groups() if match else (None, line)
    return {"line": None if number is None else int(number), "text": text}
