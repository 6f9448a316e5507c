"""`tinyllama evaluate`, `compare` and `contaminated`: score models, compare them, find questions in the corpora."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from tinyllama.cli.app import (
    AsJson,
    Device,
    EvaluationData,
    Overrides,
    Precision,
    RunFolder,
    app,
    given_options,
    is_recipe,
    on_device,
    open_family,
    print_json,
    refuse_options,
    say_next,
    whole,
)
from tinyllama.cli.training import print_scores
from tinyllama.errors import EvaluationError, UserError
from tinyllama.paths import expand_path, printable_path

if TYPE_CHECKING:
    from tinyllama.corpus.manifest import PreparedCorpus
    from tinyllama.family.evaluate_model import Evaluated
    from tinyllama.files import Json
    from tinyllama.quality.overlap import Overlap

_OF_SINGLE_MODELS: Final = {
    "tasks",
    "limit",
    "batch",
    "precision",
    "text",
    "run_code",
    "samples",
    "out",
    "num_fewshot",
    "include_path",
}
_OF_RECIPES: Final = {"overrides", "run"}
IncludePath = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", parser=expand_path, help="Folder of your own tasks, in lm-eval's YAML format."),
]


@app.command(
    short_help="Score models on tasks and text; resumes.",
    epilog="Example: tinyllama evaluate runs/mini/exports/v1.1 --tasks commonsense --data data/eval",
)
def evaluate(
    ctx: typer.Context,
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODEL...",
            help="A recipe (a whole family), a model's folder or checkpoint, a Hugging Face folder or hub id, or GGUF.",
        ),
    ] = None,
    *,
    tasks: Annotated[
        str,
        typer.Option(
            metavar="NAMES",
            help="Tasks and groups (commonsense, code, math, arithmetic, chinese, all, any of lm-eval's), separated by "
            "commas.",
        ),
    ] = "commonsense",
    data: EvaluationData = None,
    num_fewshot: Annotated[
        int | None, whole("Examples before each question, as lm-eval's option (default: as the task states).", least=0)
    ] = None,
    include_path: IncludePath = None,
    limit: Annotated[int | None, whole("Maximum number of questions per task or subject.")] = None,
    batch: Annotated[str, typer.Option(metavar="N|auto", help="Rows per forward pass.")] = "auto",
    precision: Annotated[
        Precision, typer.Option(help="Number format of single models; a bf16 record includes a comparison with fp32.")
    ] = Precision.FP32,
    device: Device = "auto",
    text: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PATH",
            parser=expand_path,
            help="Measure bits per byte of text, JSONL or Parquet, a folder, or a corpus's held-out part.",
        ),
    ] = None,
    fetch: Annotated[
        str | None,
        typer.Option(metavar="NAMES", help="Only fetch the data of these tasks, for a machine without a connection."),
    ] = None,
    run_code: Annotated[
        bool, typer.Option("--run-code", help="Run programs that the model generates, in a sandbox (humaneval).")
    ] = False,
    samples: Annotated[int, whole("Programs per humaneval question; 10 gives pass@10.")] = 1,
    out: Annotated[
        Path, typer.Option(metavar="FOLDER", parser=expand_path, help="Folder for the records of single models.")
    ] = Path("evaluations"),
    overrides: Overrides = None,
    run: RunFolder = None,
    as_json: AsJson = False,
) -> None:
    """Score models on tasks and text. Answers are saved; if interrupted, run the command again to resume.

    Data that is not in --data is fetched from the Hugging Face hub once.

    A recipe states its own tasks, in `evaluation`; only --set, --run, --data, --device and --json apply to
    recipes.
    """
    from tinyllama.cli.progress import TerminalProgress
    from tinyllama.evaluation.record import record_to_json
    from tinyllama.family.evaluate_model import EvaluateRequest, evaluate_model

    if fetch is not None:
        unused = {"models", *_OF_SINGLE_MODELS, *_OF_RECIPES} - {"include_path"}
        refuse_options(ctx, unused, "with --fetch, which measures nothing")
        _fetch(fetch.split(","), data or Path("data/eval"), include_path)
        return
    if not models:
        raise UserError("name a model, e.g. runs/mini/v1.1, or tasks to fetch, e.g. --fetch commonsense")
    families = [name for name in models if is_recipe(name)]
    if not families:
        refuse_options(ctx, _OF_RECIPES, "with single models, only with recipes")
    if len(families) == len(models):
        refuse_options(
            ctx,
            _OF_SINGLE_MODELS,
            "with recipes, only with single models, e.g. runs/nano/base; a recipe's tasks are evaluation.tasks, e.g. "
            "--set evaluation.tasks=[arc_easy]",
        )
    request = EvaluateRequest(
        tasks=tasks.split(","),
        data=data or Path("data/eval"),
        limit=limit,
        rows=_rows(batch),
        dtype=precision.value,
        device=device,
        texts=text or [],
        run_code=run_code,
        samples=samples,
        shots=num_fewshot,
        include_path=include_path,
        out=out,
    )
    found: dict[str, Json] = {
        name: _evaluate_family(name, on_device(overrides, device), run, data, print_it=not as_json) for name in families
    }
    progress = TerminalProgress()
    singles = {name: evaluate_model(name, request, progress=progress) for name in models if name not in families}
    if as_json:
        records = {
            name: record_to_json(evaluated.record) | {"folder": str(evaluated.folder)}
            for name, evaluated in singles.items()
        }
        print_json(found[families[0]] if len(models) == len(families) == 1 else found | records)
    elif singles:
        _print(singles, request.texts)
    _require_figures(singles)
    for name in [] if as_json else families:
        say_next("report", name, *given_options(ctx, "data", "device"), overrides=overrides, run=run)


def _fetch(names: list[str], data: Path, include_path: Path | None) -> None:
    """Fetch the data of some tasks, unless a folder has it, and show where it is."""
    from tinyllama.evaluation.catalogue import CATALOGUE, expand_tasks
    from tinyllama.evaluation.hub_sets import HubSets
    from tinyllama.evaluation.scores import gaps
    from tinyllama.evaluation.task_fetching import provide

    hub, tasks = HubSets(), expand_tasks(names, include_path)
    found = provide(tasks, data, say=typer.echo, hub=hub)
    missing = gaps(found.items())
    if others := [name for name in tasks if name not in CATALOGUE]:
        from tinyllama.evaluation.lm_eval_tasks import load_tasks  # needs lm-eval

        missing += gaps(load_tasks(others, include_path, hub=hub).items())
    for folder in dict.fromkeys(folder for folder in found.values() if isinstance(folder, Path)):
        typer.echo(folder)
    if missing:
        raise EvaluationError(f"the data is not complete: {'; '.join(missing)}")


def _rows(batch: str) -> int | None:
    if batch == "auto":
        return None
    if not batch.isdigit() or int(batch) < 1:
        raise EvaluationError(f"--batch is {batch!r}; give a number of rows or auto")
    return int(batch)


def _evaluate_family(
    name: str, overrides: list[str] | None, run: Path | None, data: Path | None, *, print_it: bool
) -> dict[str, Json]:
    from tinyllama.evaluation.record import bits_by_source

    family = open_family(name, overrides, run)
    records = family.evaluate(data)
    bits = {model: record.bits_by_text for model, record in records.items()}
    by_source = bits_by_source(records)
    if print_it:
        print_scores(family, bits, by_source, {model: record.scores for model, record in records.items()})
    return {
        "bits_per_byte": bits,
        "bits_per_byte_by_source": by_source,
        "tasks": {model: record.scores.to_json() for model, record in records.items()},
    }


def _require_figures(found: dict[str, Evaluated]) -> None:
    """Check that something was measured.

    Raises:
        EvaluationError: no model has a score or bits per byte.
    """
    records = [evaluated.record for evaluated in found.values()]
    if records and not any(record.scores.measured or record.bits_per_byte for record in records):
        gaps = dict.fromkeys(gap for record in records for gap in record.scores.gaps)
        raise EvaluationError(f"nothing was measured: {'; '.join(gaps)}")


def _print(found: dict[str, Evaluated], texts: list[Path]) -> None:
    from tinyllama.cli.tables import output, print_matrix, print_sources, print_tasks
    from tinyllama.evaluation.published import PARAMETERS
    from tinyllama.evaluation.record import EXACT, bits_by_source
    from tinyllama.evaluation.record_tables import agreement_with_fp32

    console, records = output(), {name: evaluated.record for name, evaluated in found.items()}
    bits = {name: record.bits_per_byte.values for name, record in records.items() if record.bits_per_byte}
    if bits:
        print_matrix(console, "bits per byte", bits, [printable_path(path) for path in texts])
    print_sources(console, bits_by_source(records))
    flagship = any(record.source.parameters == PARAMETERS for record in records.values())
    print_tasks(console, {name: record.scores for name, record in records.items()}, published=flagship)
    for name, record in records.items():
        if record.conditions and record.conditions.dtype != EXACT:
            console.print(f"{name}: {agreement_with_fp32(record)}", markup=False, soft_wrap=True)
    for evaluated in found.values():
        typer.echo(evaluated.folder)


@app.command(
    short_help="Compare models on the questions that all of them answered.",
    epilog="Example: tinyllama compare runs/mini/v1.1 runs/mini/math_code",
)
def compare(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help="What evaluate takes, or its records; a family stands for all its models.",
        ),
    ],
    *,
    records: Annotated[
        Path, typer.Option(metavar="FOLDER", parser=expand_path, help="Records of single models, made by evaluate.")
    ] = Path("evaluations"),
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", parser=expand_path, help="Write the comparison there as Markdown, JSON and an HTML page."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare the first model with each other one on what evaluate recorded: paired bootstrap, Holm's correction."""
    from tinyllama.cli.tables import output, print_comparison
    from tinyllama.comparison.compare import compare as compare_models
    from tinyllama.comparison.documents import FILES, write_comparison

    comparison = compare_models(models, out=records)
    if out is not None:
        write_comparison(out, comparison)
    if as_json:
        print_json(comparison.to_json())
        return
    print_comparison(output(), comparison)
    if out is not None:
        for name in FILES:
            typer.echo(out / name)


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
    include_path: IncludePath = None,
    run: RunFolder = None,
    as_json: AsJson = False,
) -> None:
    """Report evaluation questions that share 13 words in a row with a document of the prepared corpora."""
    from tinyllama.cli.progress import TerminalProgress
    from tinyllama.corpus.manifest import HELD_OUT, TRAIN
    from tinyllama.corpus.reading import read_texts
    from tinyllama.evaluation.catalogue import expand_tasks
    from tinyllama.evaluation.contamination import read_questions
    from tinyllama.evaluation.scores import gaps
    from tinyllama.layout import family_of_corpus
    from tinyllama.quality.overlap import METHOD, QuestionIndex
    from tinyllama.tokenizer.opening import open_tokenizer

    if expand_path(where).is_dir():
        refuse_options(ctx, {"run"}, "with a corpus's folder, only with a recipe")
    corpora, progress = _corpora(where, run), TerminalProgress()
    questions, missing = read_questions(expand_tasks(tasks.split(","), include_path), data, include_path)
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
    for gap in gaps(missing.items()):
        typer.echo(gap)


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
