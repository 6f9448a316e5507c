import json
import subprocess
import sys
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.conftest import SMALL
from tests.fidelity.conftest import MODEL
from tests.train.test_contexts import LONG
from tests.train.test_contexts import MODELS as LONG_MODELS
from tinyllama.cli.commands import app
from tinyllama.corpus.documents import DocumentIndex
from tinyllama.corpus.manifest import HELD_OUT, TRAIN
from tinyllama.corpus.reading import read_texts
from tinyllama.errors import CorpusError
from tinyllama.family import progress
from tinyllama.fidelity import Occurrence, OpenRun, find_document, find_texts, open_runs, rows_of_steps
from tinyllama.layout import FamilyLayout
from tinyllama.recipe import load_recipe

SENTENCES = 200
Steps = dict[tuple[str, int], list[int]]


def walked(run: OpenRun) -> Steps:
    """(partition, row) → the steps of a model that read it, by its sampler."""
    steps = defaultdict(list)
    for step in range(run.plan.steps):
        partitions = run.plan.partitions_of(step)
        for corpus, row in zip(*run.sampler.step(step), strict=True):
            steps[partitions[corpus], int(row)].append(step + 1)
    return steps


def quiet(_text: str) -> None:
    pass


@pytest.fixture(scope="module")
def runs(trained: Path) -> list[OpenRun]:
    """The base and the variant."""
    return [run for run in open_runs(trained) if run.model in {"base", MODEL}]


def sentences(run: OpenRun, split: str, count: int) -> dict[str, tuple[str, int]]:
    """Random runs of 12 tokens as text → (corpus, first token)."""
    dice, chosen = np.random.default_rng(5), dict[str, tuple[str, int]]()
    corpora = list(run.corpora.values())
    while len(chosen) < count:
        corpus = corpora[dice.integers(len(corpora))]
        stream, special = corpus.stream(split), {corpus.manifest.bos_id, corpus.manifest.eos_id}
        start = int(dice.integers(1, stream.tokens - 12))
        ids = stream.read(start, 12).tolist()
        text = run.tokenizer.decode(ids)
        if special.isdisjoint(ids) and "\ufffd" not in text:
            chosen[text] = corpus.name, start
    return chosen


@pytest.fixture(scope="module")
def walks(runs: list[OpenRun]) -> dict[str, Steps]:
    return {run.model: walked(run) for run in runs}


def assert_as_walked(found: list[Occurrence], walks: dict[str, Steps]) -> None:
    """Each row is visited at the steps of a walk of the plan."""
    for one in found:
        assert one.row is not None
        assert one.steps == {model: walk.get((one.corpus, one.row), []) for model, walk in walks.items()}


def test_a_sentence_is_seen_exactly_at_the_steps_at_which_the_sampler_serves_its_rows(
    runs: list[OpenRun], walks: dict[str, Steps]
) -> None:
    context, last = runs[0].plan.context, runs[-1]
    chosen = sentences(last, TRAIN, SENTENCES)
    found = list(find_texts(runs, list(chosen), (TRAIN,), quiet))
    assert_as_walked(found, walks)
    rows = defaultdict(set)
    for one in found:
        assert one.row is not None
        stream = last.rows[one.corpus].stream
        first = max(0, (one.row - 1) * context)
        around = stream.read(first, min(3 * context + 1, stream.tokens - first)).tolist()
        assert one.text in last.tokenizer.decode(around)
        rows[one.text].add((one.corpus, one.row))
    for text, (corpus, start) in chosen.items():
        assert rows[text] >= {(corpus, (token - 1) // context) for token in range(start + 1, start + 11)}


def test_held_out_text_is_never_seen(runs: list[OpenRun], walks: dict[str, Steps]) -> None:
    chosen = sentences(runs[-1], HELD_OUT, 20)
    found = list(find_texts(runs, list(chosen), say=quiet))
    held_out = [one for one in found if one.split == HELD_OUT]
    assert {one.text for one in held_out} == set(chosen)
    assert all(one.row is None and not one.steps for one in held_out)
    assert_as_walked([one for one in found if one.split == TRAIN], walks)  # the same text by chance
    document = DocumentIndex(runs[0].corpora["prose"], HELD_OUT).overlapping(0, 1)[0]
    assert [(one.split, one.row) for one in find_document(runs, document.origin) if one.split == HELD_OUT]


def test_the_rows_of_a_long_stage_are_found_as_well(prepared: Path) -> None:
    recipe = load_recipe("nano", [*SMALL, *LONG])
    runs = [OpenRun(recipe, FamilyLayout(prepared), model) for model in LONG_MODELS]
    walks = {run.model: walked(run) for run in runs}
    for model, context in ((MODEL, 256), ("far", 128)):
        partition, row = next(served for served in walks[model] if served[0].endswith(f"@{context}"))
        run = next(run for run in runs if run.model == model)
        corpus, span = run.plan.partitions[partition][0], run.rows[partition].span(row)
        for document in DocumentIndex(run.corpora[corpus], TRAIN).overlapping(span.start + 1, span.stop):
            found = find_document(runs, document.origin)
            assert_as_walked(found, walks)
            assert (partition, row) in {(one.corpus, one.row) for one in found if one.document == document.number}


def test_a_document_is_in_the_rows_that_predict_its_tokens(runs: list[OpenRun]) -> None:
    corpus, context = runs[0].corpora["prose"], runs[0].plan.context
    index = DocumentIndex(corpus, TRAIN)
    texts = {(text.origin, text.start): text for text in read_texts(corpus, runs[0].tokenizer, TRAIN)}
    document = index.overlapping(20_000, 20_001)[0]
    assert (document.origin, document.start) in texts
    found = find_document(runs, document.origin)
    covered = range(document.start + 1, document.start + document.tokens)
    assert {one.row for one in found if one.document == document.number} >= {(t - 1) // context for t in covered}


def test_looking_a_document_up_loads_nothing_that_takes_longer_than_that(trained: Path) -> None:
    code = """
import sys
from pathlib import Path
from tinyllama.fidelity import find_document, open_runs
find_document(open_runs(Path(sys.argv[1])), sys.argv[2])
print(sorted({"pandas", "tinyllama.family", "torch"} & set(sys.modules)))
"""
    origin = next(rows_of_steps(open_runs(trained)[0], 1, 1)).pieces[0].origin
    done = subprocess.run([sys.executable, "-c", code, trained, origin], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_rows_of_a_step_are_decoded_with_their_documents(runs: list[OpenRun]) -> None:
    run = runs[-1]
    for step in (1, 9):
        chosen = run.sampler.step(step - 1)
        seen = list(rows_of_steps(run, step, step))
        assert [row.row for row in seen] == chosen.row.tolist()
        for row in seen:
            inputs, targets = run.rows[row.corpus].row(row.row)
            assert sum(piece.tokens for piece in row.pieces) == len(inputs) + 1
            special = {run.corpora[row.corpus].manifest.bos_id, run.corpora[row.corpus].manifest.eos_id}
            ids = [token for token in [*inputs.tolist(), int(targets[-1])] if token not in special]
            assert "".join("".join(piece.text for piece in row.pieces).split()) == "".join(
                run.tokenizer.decode(ids).split()
            )
    (only,) = rows_of_steps(run, 9, 9, rank=0, position=3)
    assert only == seen[3]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--step", "99"), "the base has 6 steps"),
        (("--step", "2..x"), "is neither a step nor a range"),
        (("--step", "2", "--row", "99"), "step 2 has the rows 0 to"),
        (("--step", "2", "--rank", "1"), "was trained by 1 ranks"),
        (("--find", "x", "--rank", "1"), "cannot use --rank without --step"),
        (("--step", "2", "--held-out"), "no step sees held-out text"),
        ((), "give one of"),
    ],
)
def test_a_wrong_request_is_refused(trained: Path, arguments: tuple[str, ...], message: str) -> None:
    done = CliRunner().invoke(app, ["inspect", str(trained), *arguments])
    assert message in str(done.exception)


def test_the_command_prints_text_json_and_parquet(trained: Path, tmp_path: Path) -> None:
    from pyarrow import parquet

    table = tmp_path / "rows.parquet"
    rows = CliRunner().invoke(app, ["inspect", str(trained), "--step", "2..3", "--row", "0", "--json"])
    origin = json.loads(rows.stdout)[0]["pieces"][0]["origin"]
    shown = CliRunner().invoke(app, ["inspect", str(trained), "--document", origin])
    assert f"{origin}, prose row" in shown.stdout
    assert "base saw it at 2" in shown.stdout
    assert CliRunner().invoke(app, ["inspect", str(trained), "--step", "2", "--parquet", str(table)]).exit_code == 0
    (run, *_) = open_runs(trained)
    assert parquet.read_table(table).to_pylist() == list(map(asdict, rows_of_steps(run, 2, 2)))
    nothing = CliRunner().invoke(app, ["inspect", str(trained), "--document", "no such"])
    assert nothing.exit_code == 0
    assert "nothing was found" in nothing.stderr


def test_a_table_has_the_same_columns_whatever_was_found(trained: Path, runs: list[OpenRun], tmp_path: Path) -> None:
    from pyarrow import parquet

    table, text = tmp_path / "found.parquet", next(iter(sentences(runs[0], TRAIN, 1)))
    schemas = []
    for arguments in (["--document", "no such"], ["--find", text], ["--document", "no such"]):
        done = CliRunner().invoke(app, ["inspect", str(trained), *arguments, "--parquet", str(table)])
        assert done.exit_code == 0, done.output  # it replaces the one before, an empty one, too
        schemas.append(parquet.read_schema(table))
        if arguments[0] == "--find":
            steps = [dict(row["steps"]) for row in parquet.read_table(table).to_pylist()]
            assert steps == [one.steps for one in find_texts(open_runs(trained), [text], say=quiet)] != []
    assert schemas[0] == schemas[1] == schemas[2]
    assert [path.name for path in tmp_path.iterdir()] == [table.name]


def test_the_command_finds_texts_and_shows_progress(
    trained: Path, runs: list[OpenRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "at_intervals", lambda say: say)
    seen, held_out = next(iter(sentences(runs[0], TRAIN, 1))), next(iter(sentences(runs[0], HELD_OUT, 1)))
    arguments = ["inspect", str(trained), "--find", seen, "--find", held_out]
    shown = CliRunner().invoke(app, [*arguments, "--json"])
    places = json.loads(shown.stdout)
    assert places == list(map(asdict, find_texts(open_runs(trained), [seen, held_out], say=quiet)))
    assert "corpus prose, train: 0% of " in shown.stderr
    assert "corpus chinese, held_out: 9" in shown.stderr
    lines = CliRunner().invoke(app, arguments).stdout.splitlines()
    assert len(lines) == len(places)
    assert [line.endswith(": held out, never seen") for line in lines] == [place["row"] is None for place in places]
    only = CliRunner().invoke(app, [*arguments, "--held-out"]).stdout.splitlines()
    assert only == [line for line in lines if line.endswith(": held out, never seen")] != []


def test_what_is_found_is_printed_while_the_search_goes_on(run: Path) -> None:
    index = run / "corpora/chinese/train.documents.parquet"
    index.write_bytes(bytes(index.stat().st_size))  # the last corpus
    text = next(iter(sentences(open_runs(run)[0], TRAIN, 1)))
    done = CliRunner().invoke(app, ["inspect", str(run), "--find", text])
    assert isinstance(done.exception, CorpusError)
    assert "prose row" in done.stdout


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["audit", str(tmp_path)])
    assert "is neither the folder of a family that was trained" in str(done.exception)
