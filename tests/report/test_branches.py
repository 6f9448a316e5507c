"""A report of branches: each begins where it forks from its parent."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING
from xml.parsers import expat

import pytest
from typer.testing import CliRunner

from tests.report.conftest import BITS, write_family
from tests.report.test_page import Page
from tinyllama.cli.commands import app
from tinyllama.errors import PlanError
from tinyllama.plan import compile_plan
from tinyllama.recipe import Recipe, load_recipe
from tinyllama.report import write_report
from tinyllama.report.plan_plot import plan_plot, write_plan_plot

if TYPE_CHECKING:
    from pathlib import Path

BRANCHES = {
    "early": {
        "from": "base@30K",
        "shares": {"prose": "1/3", "code": "2/3"},
        "decay": {"shape": "linear", "minimum": "1e-5"},
        "stages": [{"name": "decay", "until": "50K", "batch": "16 sequences"}],
    },
    "late": {"from": "early@40K", "stages": [{"name": "more", "until": "150K", "batch": "32 sequences"}]},
}


@pytest.fixture
def tree() -> Recipe:
    rate = "optimizer.learning_rate={schedule: constant, peak: 4e-3, warmup: 4K}"
    late = BRANCHES["late"] | {"from": "math_code@100K"}
    return load_recipe("nano", [rate, f"branches={json.dumps(BRANCHES | {'late': late})}"])


def test_a_report_draws_branches_from_where_they_fork(tmp_path: Path, tree: Recipe) -> None:
    page = Page(write_report(write_family(tmp_path / "run", tree, BITS), tree))
    traces = {trace["name"]: trace for trace in page.figures["training"]["data"]}
    for name, parent in (("early", "base"), ("late", "math_code")):
        x, y = traces[name]["x"], traces[name]["y"]
        fork = compile_plan(tree, name).tokens_after(compile_plan(tree, name).fork_step)
        assert x == sorted(x)
        assert x[0] == fork
        assert y[0] == traces[parent]["y"][traces[parent]["x"].index(fork)]
    assert traces["learning rate of early"]["y"][-1] == 1e-5
    end = compile_plan(tree, "late").tokens_after(compile_plan(tree, "late").steps)
    assert page.figures["training"]["layout"]["xaxis"]["range"] == [0, end]
    lines = re.findall(r'<path d="M([\d.]+) (\d+)(?:C[^"]*? (\d+))?H([\d.]+)" class="branch"', page.html)
    assert len(lines) == 6
    begins = {name: tree.fork_tokens(name) / end * 100 for name in tree.models}
    assert [float(begin) for begin, *_ in lines] == pytest.approx(list(begins.values()), abs=1e-3)
    assert lines[4][1] == lines[0][1], "early leaves the row of base"
    assert lines[5][1] == lines[2][2], "late leaves the row of math_code"
    for row in page.tables["quota"][1:]:
        assert float(row[-1]) < 1


def test_the_picture_of_a_plan_has_every_model_stage_and_corpus(tmp_path: Path, tree: Recipe) -> None:
    write_plan_plot(tree, tmp_path / "plan.svg")
    write_plan_plot(tree, tmp_path / "plan.svg")
    tags, words = list[str](), list[str]()
    parser = expat.ParserCreate()
    parser.StartElementHandler = lambda tag, _: tags.append(tag)
    parser.CharacterDataHandler = words.append
    parser.Parse((tmp_path / "plan.svg").read_bytes())
    stages = {stage.name for name in tree.models for stage in tree.line(name).stages}
    assert {"learning rate", "batch, tokens", "context", *tree.models, *tree.corpora, *stages} <= set(words)
    assert tags.count("polyline") == 3 * len(tree.models)
    (tmp_path / "own.svg").write_text("<svg/>")
    with pytest.raises(PlanError, match="the plan's picture"):
        write_plan_plot(tree, tmp_path / "own.svg")


def test_the_lines_of_a_picture_begin_where_models_fork(tree: Recipe) -> None:
    points = re.findall(r'<polyline points="([\d.]+),([\d.]+) ', plan_plot(tree))
    plans = [compile_plan(tree, name) for name in tree.models]
    last = max(plan.tokens_after(plan.steps) for plan in plans)
    begins = [150 + 1026 * plan.tokens_after(plan.fork_step if plan.variant else 0) / last for plan in plans]
    assert [float(x) for x, _ in points[: len(plans)]] == pytest.approx(begins, abs=0.06)


def test_the_command_draws_and_counts_what_branches_share_once(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["plan", "wsd-trunk", "--run", str(tmp_path), "--plot", str(tmp_path / "plan.svg")])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "plan.svg").is_file()
    assert "early · 625 steps · 1,280,000 tokens · forks from base at 1,024,000, after step 500" in done.output
    assert "all 4 models: 3,328,000 tokens" in done.output
