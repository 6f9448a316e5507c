"""`tinyllama contaminated`: which evaluation questions stand in the prepared corpora."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tinyllama.cli.app import AsJson, RunFolder, app, print_json

if TYPE_CHECKING:
    from tinyllama.corpus.manifest import PreparedCorpus


@app.command(
    short_help="Find evaluation questions in prepared corpora.",
    epilog="Example: tinyllama contaminated mini --tasks commonsense --data data/eval",
)
def contaminated(
    where: Annotated[str, typer.Argument(metavar="RECIPE_OR_CORPUS", help="A recipe, or a prepared corpus's folder.")],
    *,
    tasks: Annotated[str, typer.Option(metavar="NAMES", help="Tasks and groups, separated by commas.")] = "commonsense",
    data: Annotated[Path, typer.Option(metavar="FOLDER", help="Local copies of the tasks' data.")] = Path("data/eval"),
    run: RunFolder = None,
    as_json: AsJson = False,
) -> None:
    """Report evaluation questions that share 13 words in a row with a document of the prepared corpora."""
    from tinyllama.cli.progress import TerminalProgress
    from tinyllama.corpus.manifest import HELD_OUT, TRAIN
    from tinyllama.corpus.reading import read_texts
    from tinyllama.evaluation.contamination import METHOD, Index
    from tinyllama.layout import family_of_corpus
    from tinyllama.tokenizer.opening import open_tokenizer

    corpora, progress = _corpora(where, run), TerminalProgress()
    questions, missing = _questions(tasks.split(","), data)
    index = Index(questions)
    for corpus in corpora:
        progress.say(f"corpus {corpus.name}: {corpus.tokens(TRAIN):,} tokens")
        tokenizer = open_tokenizer(family_of_corpus(corpus.folder).tokenizer)
        for split in (TRAIN, HELD_OUT):
            index.check(corpus.name, read_texts(corpus, tokenizer, split))
    found = {task: overlap.to_json() for task, overlap in index.overlaps.items()} | missing
    if as_json:
        print_json({"method": METHOD, "corpora": [corpus.name for corpus in corpora], "tasks": found})
    else:
        typer.echo(METHOD)
        for task, result in found.items():
            typer.echo(f"{task}: {_line(result)}")
            for question, places in result.get("documents", {}).items():
                listed = "; ".join(f"{corpus}: {', '.join(names)}" for corpus, names in places.items())
                typer.echo(f"  question {question}: {listed}")


def _corpora(where: str, run: Path | None) -> list[PreparedCorpus]:
    """The corpora of a folder or of a recipe's family, as far as they are prepared."""
    from tinyllama.corpus.manifest import is_prepared, open_corpus
    from tinyllama.errors import CorpusError
    from tinyllama.layout import FamilyLayout
    from tinyllama.recipe import load_recipe

    if Path(where).is_dir():
        return [open_corpus(Path(where))]
    recipe = load_recipe(where)
    layout = FamilyLayout(run or Path("runs") / recipe.name)
    prepared = [layout.corpus(name) for name in recipe.corpora if is_prepared(layout.corpus(name))]
    if not prepared:
        raise CorpusError(f"{layout.corpora}: no corpus is prepared; run `tinyllama prepare {where}`")
    return [open_corpus(path) for path in prepared]


def _questions(names: list[str], data: Path) -> tuple[dict[str, list[str]], dict[str, Any]]:
    """Texts of the questions by task, and the tasks whose data is not there, with the reason."""
    from tinyllama.evaluation.catalogue import expand_tasks
    from tinyllama.evaluation.task_data import TASK_DATA
    from tinyllama.evaluation.task_files import find_files, read_rows

    questions: dict[str, list[str]] = {}
    missing: dict[str, Any] = {}
    for name in expand_tasks(names):
        task = TASK_DATA[name]
        if files := find_files(name, data):
            questions[name] = [task.question(row) for file in files.values() for row in read_rows(name, file)]
        else:
            missing[name] = {"reason": f"{data / task.file} is not there; {task.remedy}"}
    return questions, missing


def _line(result: dict[str, Any]) -> str:
    if "reason" in result:
        return f"— {result['reason']}"
    share = "" if result["share"] is None else f" ({result['share']:.1%} of those long enough)"
    return f"{result['contaminated']} of {result['questions']} questions{share}, {result['too_short']} too short"
