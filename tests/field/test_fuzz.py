"""A few cases of the fuzz, which `make fuzz` runs in full."""

from pathlib import Path

import pytest

from tests.field.commands import Commands
from tests.field.fuzz.draw import draw
from tests.field.fuzz.runner import Fuzz, run_all
from tests.field.fuzz.template import Files, Template

pytestmark = pytest.mark.field

KINDS = ("recipe", "source")
"""Those that need no trained model."""
FAST = {"plan", "rehearse", "prepare", "tokenizer", "launch"}
SEED = 1


def test_the_first_fast_cases_end_well(tmp_path: Path, commands: Commands) -> None:
    template = Template(tmp_path / "template")
    files = Files(template, commands)
    cases = {number: draw(SEED, number, files, KINDS)[1] for number in range(1, 60)}
    fast = [number for number, case in cases.items() if case.argv[0] in FAST and case.needs != "exported"][:20]
    done = run_all(Fuzz(SEED, tmp_path, template), fast, [commands], lambda *_: None, KINDS)
    assert [case.number for case in done] == fast
    assert [(str(case.case), case.faults) for case in done if case.faults] == []


def test_a_number_always_draws_the_same_case(tmp_path: Path, commands: Commands) -> None:
    files = Files(Template(tmp_path / "template"), commands)
    for number in range(40):
        assert draw(SEED, number, files, KINDS) == draw(SEED, number, files, KINDS)
