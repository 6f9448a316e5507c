"""`tinyllama contaminated`: find evaluation questions in the prepared corpora."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tinyllama.cli.app import AsJson, RunFolder, app, print_json, refuse_options
from tinyllama.paths import expand_path
from tinyllama.text import MISSING

if TYPE_CHECKING:
    from tinyllama.corpus.manifest import PreparedCorpus
    from tinyllama.evaluation.contamination import Overlap
    from tinyllama.files import Json


@app.command(
    short_help="Find evaluation questions in prepared corpora.",
    epilog="Example: tinyllama contaminated mini --tasks commonsense --data data/eval",
)
def contaminated(
    ctx: typer.Context,
    where: Annotated[
        str, typer.Argument(metavar="RECIPE_OR_CORPUS", help="A recipe, or the folder of a prepared corpus.")
    ],
    *,
    tasks: Annotated[str, typer.Option(metavar="NAMES", help="Tasks and groups, separated by commas.")] = "commonsense",
    data: Annotated[
        Path, typer.Option(metavar="FOLDER", parser=expand_path, help="Local copies of the tasks' data.")
    ] = Path("data/eval"),
    run: RunFolder = None,
    as_json: AsJson = False,
) -> None:
    """Report evaluation questions that share 13 words in a row with a document of the prepared corpora."""
    from tinyllama.cli.progress import TerminalProgress
    from tinyllama.corpus.manifest import HELD_OUT, TRAIN
    from tinyllama.corpus.reading import read_texts
    from tinyllama.evaluation.catalogue import expand_tasks
    from tinyllama.evaluation.contamination import METHOD, QuestionIndex, read_questions
    from tinyllama.layout import family_of_corpus
    from tinyllama.tokenizer.opening import open_tokenizer

    if expand_path(where).is_dir():
        refuse_options(ctx, {"run"}, "with a corpus's folder, only with a recipe")
    corpora, progress = _corpora(where, run), TerminalProgress()
    questions, missing = read_questions(expand_tasks(tasks.split(",")), data)
    index = QuestionIndex(questions)
    for corpus in corpora:
        progress.say(f"corpus {corpus.name}: {corpus.tokens(TRAIN):,} tokens")
        tokenizer = open_tokenizer(family_of_corpus(corpus.folder).tokenizer)
        for split in (TRAIN, HELD_OUT):
            index.check(corpus.name, read_texts(corpus, tokenizer, split))
    if as_json:
        found = {task: _json(overlap) for task, overlap in index.overlaps.items()}
        found |= {task: {"reason": result.reason} for task, result in missing.items()}
        print_json({"method": METHOD, "corpora": [corpus.name for corpus in corpora], "tasks": found})
        return
    typer.echo(METHOD)
    for task, overlap in index.overlaps.items():
        typer.echo(f"{task}: {_line(overlap)}")
        for question, places in sorted(overlap.found.items()):
            listed = "; ".join(f"{corpus}: {', '.join(names)}" for corpus, names in places.items())
            typer.echo(f"  question {question}: {listed}")
    for task, result in missing.items():
        typer.echo(f"{task}: {MISSING} {result.reason}")


def _corpora(where: str, run: Path | None) -> list[PreparedCorpus]:
    """The prepared corpora in a folder or of a recipe's family."""
    from tinyllama.corpus.manifest import open_corpus, prepared_versions
    from tinyllama.errors import CorpusError
    from tinyllama.layout import FamilyLayout
    from tinyllama.recipe import load_recipe

    if expand_path(where).is_dir():
        return [open_corpus(expand_path(where))]
    recipe = load_recipe(where)
    layout = FamilyLayout(run or Path("runs") / recipe.name)
    prepared = [path for name in recipe.corpora for path in prepared_versions(layout, name)[-1:]]
    if not prepared:
        raise CorpusError(f"{layout.corpora}: no corpus is prepared; run `tinyllama prepare {where}`")
    return [open_corpus(path) for path in prepared]


def _json(overlap: Overlap) -> dict[str, Json]:
    return {
        "questions": overlap.questions,
        "too_short": overlap.too_short,
        "contaminated": overlap.contaminated,
        "share": overlap.share,
        "documents": {str(question): places for question, places in sorted(overlap.found.items())},
    }


def _line(overlap: Overlap) -> str:
    share = "" if overlap.share is None else f" ({overlap.share:.1%} of those that are long enough)"
    return f"{overlap.contaminated} of {overlap.questions} questions{share}, {overlap.too_short} too short"
