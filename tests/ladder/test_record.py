import json
from pathlib import Path

import pytest

from tests.ladder.library import LAW, made_up
from tinyllama.errors import ModelError, NewerFormatError, PlanError
from tinyllama.ladder import read_ladder
from tinyllama.ladder.record import fitted
from tinyllama.record_files import write_record


def test_points_on_a_law_predict_by_it() -> None:
    record = made_up()
    assert record.prediction is not None
    assert record.law is not None
    assert record.prediction.loss == pytest.approx(LAW.loss(record.goal.parameters, record.goal.tokens), rel=1e-6)
    assert record.law.law("found").beta == pytest.approx(LAW.beta, rel=1e-4)
    assert record.prediction.miss is None
    assert record.largest_rung is not None
    assert record.largest_rung.miss == pytest.approx(0, abs=1e-6)


def test_the_miss_is_that_of_the_measured_loss() -> None:
    found = made_up(measured=4.0).prediction
    assert found is not None
    assert found.miss == pytest.approx(found.loss / 4.0 - 1)
    assert found.is_inside is False


def test_three_rungs_have_no_smaller_ones_that_suffice() -> None:
    assert made_up(rungs=3).largest_rung is None


def test_a_branch_that_diverged_is_refused_by_name() -> None:
    record = made_up()
    diverged = record.points[6].model_copy(update={"loss": float("nan")})
    with pytest.raises(PlanError, match="rung-2, length-3: its held-out loss is nan"):
        fitted(record, [*record.points[:6], diverged, *record.points[7:]], None)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    record = made_up(measured=4.0)
    write_record(tmp_path / "ladder.json", record)
    assert read_ladder(tmp_path / "ladder.json") == record


def test_a_file_that_is_no_ladder_is_refused_by_name_and_key(tmp_path: Path) -> None:
    path = tmp_path / "ladder.json"
    with pytest.raises(FileNotFoundError):
        read_ladder(path)
    content = json.loads(made_up().model_dump_json())
    path.write_text(json.dumps(content | {"rungs": "four"}))
    with pytest.raises(ModelError, match=r"ladder\.json: rungs: .*move the file away"):
        read_ladder(path)
    path.write_text(json.dumps(content | {"format": 2}))
    with pytest.raises(NewerFormatError):
        read_ladder(path)
